"""Several commands at a time, whose outputs do not mix."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import places
from .process import child, ending_gently, has_ended, tail
from .progress import Step


def run_side_by_side(commands: Mapping[str, Sequence[str | Path]], environment: dict[str, str]) -> int:
    """Runs commands in the repository, by their titles; each one's output appears whole when it has ended.

    The last lines are a summary. Returns 0 if all of them do, and else the worst exit code.
    """
    started, summary, codes = time.monotonic(), [], []
    with ExitStack() as stack:
        step = Step(", ".join(commands))
        stack.callback(step.close)
        logs: dict[str, Path] = {}
        running: dict[str, subprocess.Popen] = {}
        for title, command in commands.items():
            logs[title] = places.LOGS / (re.sub(r"\W+", "-", title) + ".log")
            output = stack.enter_context(logs[title].open("wb"))
            options = {"cwd": places.ROOT, "env": environment, "stdout": output, "stderr": subprocess.STDOUT}
            running[title] = stack.enter_context(child(command, **options))
        stack.enter_context(ending_gently(list(running.values())))
        while running:
            for title, process in list(running.items()):
                step.tick(" | ".join("".join(tail(logs[other], 1)) for other in running))
                if has_ended(process, 0.1):
                    del running[title]
                    codes.append(process.returncode)
                    step.say(f"\n==== {title}")
                    print(logs[title].read_text(encoding="utf-8", errors="replace"), end="", flush=True)
                    outcome = "passed" if process.returncode == 0 else f"FAILED (exit code {process.returncode})"
                    last = "".join(tail(logs[title], 1))
                    summary.append(f"{title}: {outcome} in {time.monotonic() - started:.0f} s   {last}")
    print("\n".join(["", *summary]), flush=True)
    return max((code if code >= 0 else 1) for code in codes)  # below 0: ended by a signal
