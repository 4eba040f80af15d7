"""The output folder of a worker's own ComfyUI: what nodes saved there, and what other workers made for them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from .comfyui import ComfyUI
from .stages import FOLDER, Cut
from .workflow import Graph

KEPT = 64  # files of other workers that stay for the next jobs
Given = dict[str, bytes]  # outputs of nodes, as `stages` names them, and the files in which another worker saved them
Seconds = dict[str, float]  # by stage


@dataclass(frozen=True)
class Made:
    """Outputs of a job for the worker that goes on with it, and what they took."""

    outputs: Given
    seconds: Seconds


class OutputFolder:
    """The folder of `host`."""

    def __init__(self, host: ComfyUI):
        self.host = host
        self.given: dict[str, None] = {}

    def path(self, file: dict[str, str]) -> Path:
        """Where a file lies that an output node tells of."""
        folder = self.host.folder / "temp" if file.get("type") == "temp" else self.host.output
        return folder / file.get("subfolder", "") / file["filename"]

    def delete(self, files: list[dict[str, str]]) -> None:
        for file in files:
            self.path(file).unlink(missing_ok=True)

    def take(self, outputs: list[dict[str, Any]]) -> list[bytes]:
        """What each of these nodes saved, which is deleted here."""
        contents = []
        for output in outputs:
            files = list_files(output)
            path = self.path(files[0]) if files else Path(output["text"][0])
            contents.append(path.read_bytes())
            path.unlink()
        return contents

    def load(self, cut: Cut, given: Given, graph: Graph) -> Graph:
        """The graph with what is given in the place of what makes it. The same content keeps its file and its name."""
        names = {}
        for output, content in given.items():
            name = f"{FOLDER}/{hashlib.sha256(content).hexdigest()[:32]}{cut.suffix}"
            path = self.host.output / name
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self.given.pop(name, None)
            self.given[name], names[output] = None, name
        while len(self.given) > KEPT:
            old = next(iter(self.given))
            del self.given[old]
            (self.host.output / old).unlink(missing_ok=True)
        return cut.behind(graph, names)


def add_seconds(*parts: Seconds) -> Seconds:
    """Stage by stage."""
    return {stage: round(sum(part.get(stage, 0.0) for part in parts), 4) for stage in dict.fromkeys(chain(*parts))}


def list_files(output: dict[str, Any]) -> list[dict[str, str]]:
    """The files that an output node tells of, of any kind."""
    found = [each for value in output.values() if isinstance(value, list) for each in value]
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("filename"), str)]
