"""Counts each wait for the device and each copy from or to it, by the line of Python that caused it."""

from __future__ import annotations

import atexit
import collections
import os
import re
import sys
import time
from pathlib import Path

from .build import ROOT

HERE = str(Path(__file__).parent)
#: Paths of the pack's own files, in the repository and linked into a host's custom_nodes.
OURS = re.compile(os.environ.get("FAKE_PACK") or rf"({re.escape(str(ROOT))}|/comfyui-kolors)/(kolors_core|nodes)/")
WRITE_SECONDS = 2  # a server is ended by a signal, so the file is written now and then

#: (kind, operator, innermost line that is not torch's, innermost line of the pack or "") -> how often, how many bytes
times: collections.Counter = collections.Counter()
sizes: collections.Counter = collections.Counter()
path = Path(f"{os.environ['FAKE_TRACE']}.{os.getpid()}") if os.environ.get("FAKE_TRACE") else None
_written = 0.0


def start(native) -> None:
    """Count from here on; with FAKE_TRACE in a file as well."""
    native.set_hook(note)
    atexit.register(stop, native)


def stop(native) -> None:
    native.set_hook(None)
    if path and times:
        path.write_text(report(), encoding="utf-8")


def note(kind: str, operator: str, size: int) -> None:
    """kind: wait, h2d or d2h (host to device, device to host), these with " async" where nobody waits for the end."""
    global _written
    key = (kind, operator, *find_lines(sys._getframe(1)))
    times[key] += 1
    sizes[key] += size
    if path and time.monotonic() - _written > WRITE_SECONDS:
        _written = time.monotonic()
        path.write_text(report(), encoding="utf-8")


def find_lines(frame) -> tuple[str, str]:
    """The innermost line outside of torch, and the innermost of the pack."""
    first = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and not name.startswith(HERE):
            line = f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
            first = first or line
            if OURS.search(name):
                return first, line
        frame = frame.f_back
    return first, ""


def report() -> str:
    lines = (
        f"{count:7d} {sizes[key]:12d} B  {key[0]:10s} {key[1]:28s} at {key[2]}   <- {key[3]}"
        for key, count in times.most_common()
    )
    return "\n".join(lines) + "\n"


def is_from_a_test(operator: str) -> bool:
    """Whether a mixture of devices is a test's own doing, such as a comparison with what it expects."""
    frame = sys._getframe(1)
    while frame is not None and "/torch/" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and "/tests/" in frame.f_code.co_filename
