"""Rules for every file of the repository, and for what of the tests runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from house import ROOT, name_of, tracked_files

PRIVATE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users|tmp/w)(?:/|\b)")
BINARY = {".jpg", ".jpeg", ".png", ".webp", ".safetensors", ".model", ".npz"}


def private_paths(text: str) -> list[str]:
    """Absolute paths of the machine that a file was written on."""
    return [f"line {text[: m.start()].count(chr(10)) + 1}: {m[0]}" for m in PRIVATE_PATH.finditer(text)]


def test_no_file_names_a_path_of_somebodys_machine():
    texts = {p: p.read_text(encoding="utf-8") for p in tracked_files() if p.suffix not in BINARY}
    faults = {name_of(path): private_paths(text) for path, text in texts.items()}
    assert not {name: found for name, found in faults.items() if found}


def test_path_rule_finds_faults():
    for bad in ("work", "root", "home", "Users"):
        assert private_paths(f"see /{bad}/x") and private_paths(f"'/{bad}/x'")
    for start, good in (("https://example.org", "home"), (".", "work"), ("models", "root")):
        assert not private_paths(f"see {start}/{good}/x")


@pytest.mark.parametrize(
    "named, collected",
    [
        ([], ["tests/test_plain.py::test"]),
        (["tests"], ["tests/test_plain.py::test"]),
        (["tests/accelerator"], ["tests/accelerator/test_modes.py::test"]),
        (["tests/accelerator/test_modes.py"], ["tests/accelerator/test_modes.py::test"]),
    ],
)
def test_the_simulated_accelerator_is_tried_only_where_it_is_named(tmp_path, named, collected):
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "tests" / "accelerator").mkdir(parents=True)
    for name in ("test_plain.py", "accelerator/test_modes.py"):
        (tmp_path / "tests" / name).write_text("def test(): pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *named]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if "::" in line] == collected, done.stdout + done.stderr
    assert (ROOT / "tests" / "accelerator" / "test_modes.py").is_file()
