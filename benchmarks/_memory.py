"""Memory of this process, on Linux."""

from __future__ import annotations

import resource
from pathlib import Path


def resident() -> float:
    """MiB in RAM now, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def start() -> float:
    """MiB in RAM now; the peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident()


def peak() -> float:
    """The most MiB in RAM since `start`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
