"""A workflow, tables, and the command as a user starts it, with a stand-in for ComfyUI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STUB = Path(__file__).resolve().with_name("stub")


def text_to_image() -> dict:
    """A workflow in API format."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "kolors.safetensors"}},
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["1", 1], "text": "a cat"},
            "_meta": {"title": "Prompt"},
        },
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurred"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": 1,
                "steps": 25,
                "cfg": 5,
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "kolors"}},
    }


@pytest.fixture
def graph() -> dict:
    return text_to_image()


def heed_interrupts() -> None:
    """For a new process: SIGINT stops it, even where these tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """`python -m kolors_core.render` in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "out"
        self.workflow = folder / "workflow.json"
        self.workflow.write_text(json.dumps(text_to_image()))

    def table(self, rows: list[dict], name: str = "prompts.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def line(self, table: Path, *more: str, out: str = "", options: str = "") -> list[str]:
        command = [sys.executable, "-m", "kolors_core.render", str(self.workflow), str(table)]
        command += ["--out", out or str(self.out), *more]
        return [*command, *([] if "--server" in more else ["--comfyui", str(STUB), f"--options={options}"])]

    def run(self, table: Path, *more: str, **named: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.line(table, *more, **named), cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600
        )

    def start(self, line: list[str]) -> subprocess.Popen:
        """The command, to be stopped or killed; `communicate` gives all that it says."""
        more = {} if os.name == "nt" else {"preexec_fn": heed_interrupts}
        return subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", **more
        )

    def lines(self, out: Path | None = None) -> dict[tuple[int, int], dict]:
        """What the manifest says, each job once."""
        found = {}
        for file in sorted((out or self.out).glob("manifest/*.jsonl")):
            for text in filter(None, file.read_text(encoding="utf-8").split("\n")):
                line = json.loads(text)
                key = line["row"], line["number"]
                assert key not in found, f"{key} twice"
                found[key] = line
        return found

    def hashes(self, out: Path | None = None) -> dict[tuple[int, int], list[str]]:
        return {key: [file["sha256"] for file in line["files"]] for key, line in self.lines(out).items()}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)
