"""What people see: numbered steps on stderr, each skipped where its stamp says that it is done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import places

HEARTBEAT_SECONDS = 15.0


class SetupError(Exception):
    """An expected failure; its text says what was found, what was expected and what to do."""


class Step:
    """One line of progress on stderr: rewritten in place on a terminal, repeated now and then elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.outcome = ""  # stands in for the elapsed time at the end, e.g. "in place"
        self.started = self.beat = time.monotonic()
        self.tick()

    def tick(self, note: str = "") -> None:
        """Shows that the step goes on; `note` says what it is doing now."""
        now = time.monotonic()
        line = f"{self.label} ... {now - self.started:.0f} s  {note}"
        if sys.stderr.isatty():
            self._show(line, "\r", "")
        elif now - self.beat >= HEARTBEAT_SECONDS:
            self.beat = now
            self._show(line[:120], "", "\n")

    def say(self, text: str) -> None:
        """A line of its own that stays, such as what will be downloaded and how large it is."""
        if sys.stderr.isatty():
            self._show("", "\r", "\r")
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        line = f"{self.label} ... {self.outcome or f'{time.monotonic() - self.started:.0f} s'}"
        self._show(line, "\r" if sys.stderr.isatty() else "", "\n")

    @staticmethod
    def _show(line: str, start: str, end: str) -> None:
        if start:  # on a terminal a line that wraps could not be rewritten
            width = shutil.get_terminal_size((110, 24)).columns - 1
            line = line[:width].ljust(width)
        print(start + (line if start else line.rstrip()), end=end, file=sys.stderr, flush=True)


class Progress:
    """Numbers the steps of a run: [1/7], [2/7], ..."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        self.count += 1
        step = Step(f"[{self.count}/{self.total}] {title}")
        try:
            yield step
        except BaseException:
            step.outcome = "stopped"
            raise
        finally:
            step.close()

    def once(self, title: str, stamp: Path, inputs: str, work: Callable[[Step], object]) -> None:
        """A step that is skipped where its stamp says that it was finished with just these inputs."""
        with self.step(title) as step:
            if is_stamped(stamp, inputs):
                step.outcome = "in place"
                return
            stamp.unlink(missing_ok=True)
            work(step)
            write_stamp(stamp, inputs)


def digest(*inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def read_stamp(stamp: Path) -> str | None:
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else None


def is_stamped(stamp: Path, inputs: str) -> bool:
    return read_stamp(stamp) == inputs


def write_stamp(stamp: Path, inputs: str) -> None:
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(inputs, encoding="utf-8")


@contextmanager
def setup_lock() -> Iterator[None]:
    """Lets one dev.py at a time set things up; the system frees the lock when its holder dies."""
    with (places.DEV / "lock").open("a+") as handle:
        if not try_lock(handle.fileno()):
            print("Another dev.py is setting things up here; waiting for it ...", file=sys.stderr, flush=True)
            while not try_lock(handle.fileno()):
                time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
