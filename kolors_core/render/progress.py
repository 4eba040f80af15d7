"""What the terminal shows of a run: how far it is, images a minute, and the time that is left."""

from __future__ import annotations

import sys
import time
from types import TracebackType

FORMAT = "{percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} [{elapsed} < {remaining}{postfix}]"
SECONDS = 10.0  # between two lines where the output is no terminal


class Progress:
    """A bar on stderr; lines where that is no terminal, or where tqdm is not installed."""

    def __init__(self, total: int, done: int):
        """total: jobs in all. done: those of earlier runs."""
        self.total, self.done, self.images, self.failed = total, done, 0, 0
        self.began = self.shown = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, initial=done, bar_format=FORMAT, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.images or self.failed:
            self._line()

    def add(self, images: int, failed: bool) -> None:
        """One job has ended."""
        self.done, self.images, self.failed = self.done + 1, self.images + images, self.failed + failed
        if self.bar is not None:
            self.bar.set_postfix_str(self.rate(), refresh=False)
            self.bar.update()
        elif time.monotonic() - self.shown > SECONDS:
            self._line()

    def rate(self) -> str:
        minutes = (time.monotonic() - self.began) / 60
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.images / minutes:.1f} images/min{failed}"

    def _line(self) -> None:
        self.shown = time.monotonic()
        sys.stderr.write(f"{self.done}/{self.total}, {self.rate()}\n")
        sys.stderr.flush()
