"""Child processes, which never outlive their block, and the logs that they write."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .progress import SetupError, Step

LOG_TAIL_LINES = 30
POLL_SECONDS = 0.1


@contextmanager
def child(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen]:
    """Starts a process that never outlives this block: an exception, Ctrl-C or SIGTERM in here ends it."""
    process = subprocess.Popen([str(part) for part in command], **options)
    try:
        yield process
    finally:
        try:
            if process.poll() is None:
                process.terminate()
                has_ended(process, 10)
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()


@contextmanager
def ending_gently(processes: Iterable[subprocess.Popen]) -> Iterator[None]:
    """Where this block is left early, the processes may first clean up in their own way."""
    try:
        yield
    except SystemExit:  # the terminal sends Ctrl-C to the children as well, but nobody sends them a SIGTERM
        for process in processes:
            process.send_signal(signal.SIGINT)
        raise
    finally:
        for process in processes:
            has_ended(process, 15)


def has_ended(process: subprocess.Popen, seconds: float) -> bool:
    """Waits at most `seconds` for a process."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def run_logged(step: Step, command: Sequence[str | Path], log: Path, todo: str) -> None:
    """Runs a command into a log, whose last line is the progress. Raises SetupError with the log's end and `todo`."""
    with log.open("wb") as output, child(command, stdout=output, stderr=subprocess.STDOUT) as process:
        while not has_ended(process, POLL_SECONDS):
            step.tick("".join(tail(log, 1)))
    if process.returncode:
        name = " ".join(map(str, command))
        raise log_error(f"This command ended with exit code {process.returncode}: {name}\n{todo}", log)


def python_says(python: Path, code: str) -> str | None:
    """What a piece of Python prints in another interpreter; None if it fails or the interpreter does not start."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log, without colours; each redrawing of a progress bar counts as a line."""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 32_768))
        text = re.sub(r"\x1b\[[0-9;]*m", "", handle.read().decode("utf-8", errors="replace"))
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()][-lines:]


def log_error(message: str, log: Path) -> SetupError:
    return SetupError("\n".join([message, f"The end of {log}:", *(f"    {line}" for line in tail(log))]))
