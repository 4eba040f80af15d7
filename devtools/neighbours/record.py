"""What came of a pack, in a file of its own until the page is written, and all of them in docs/neighbours.json."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..results import as_json
from .trial import GOOD

TOGETHER = "all of them together"


@dataclass(frozen=True)
class Tried:
    """A node, and what came of it."""

    node: str
    outcome: str
    why: str = ""


@dataclass(frozen=True)
class Neighbour:
    """A pack beside this one on a host."""

    pack: str
    version: str
    host: str  # ComfyUI's version
    date: str
    commit: str  # of this package
    fault: str = ""  # why it does not load
    left_out: list[str] = field(default_factory=list)  # its requirements that do not go with ComfyUI's
    same_bits: bool = True  # Kolors and SDXL draw beside it what they draw without it
    tries: list[Tried] = field(default_factory=list)

    @property
    def is_pack(self) -> bool:
        return self.pack != TOGETHER

    @property
    def key(self) -> str:
        return self.pack.lower()

    def count(self, *outcomes: str) -> int:
        return sum(one.outcome in outcomes for one in self.tries)

    def summary(self) -> str:
        if self.fault:
            return f"does not load: {self.fault}"
        bits = "" if self.same_bits else ", OTHER BITS beside it"
        return f"{self.count(*GOOD)} of {len(self.tries)} work{bits}"


def version_of(pack: Path) -> str:
    """A pack's version and commit, as far as it says them."""
    project = pack / "pyproject.toml"
    text = project.read_text(encoding="utf-8", errors="replace") if project.is_file() else ""
    found = re.search(r"^version\s*=\s*[\"']([^\"']+)", text, re.MULTILINE)
    git = subprocess.run(["git", "log", "-1", "--format=%h of %cs"], cwd=pack, capture_output=True, text=True)
    inside = (pack / ".git").exists() and git.returncode == 0
    return ", ".join([*([found[1]] if found else []), *([git.stdout.strip()] if inside else [])]) or "unknown"


def load(file: Path) -> Neighbour | None:
    if not file.is_file():
        return None
    return from_row(json.loads(file.read_text(encoding="utf-8")))


def from_row(row: dict[str, Any]) -> Neighbour:
    """What `asdict` made of it."""
    tries: dict[str, Any] = {"tries": [Tried(**one) for one in row["tries"]]}
    return Neighbour(**row | tries)


def store(file: Path, neighbour: Neighbour) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json(asdict(neighbour)), encoding="utf-8")
