"""The command: files in, files out, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from graph_files import as_canvas, canvas_faults, nodes_of, png
from old_graphs import kijai, text_to_image

ROOT = Path(__file__).resolve().parents[3]


def migrate(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """The command in plain Python: -S leaves out installed packages."""
    command = [sys.executable, "-S", "-m", "kolors_core.migrate", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8", **options}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", env=environment)


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "old 图.json"
    path.write_text(json.dumps(as_canvas(kijai("a (red) apple")), ensure_ascii=False), encoding="utf-8")
    return path


def test_the_command_writes_the_graph_and_says_what_it_did(old_file, tmp_path):
    done = migrate(old_file, tmp_path / "new.json")
    assert done.returncode == 0, done.stderr
    new = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    assert nodes_of(new, "KolorsKSampler") and not canvas_faults(new)
    assert "KolorsSampler -> " in done.stdout and "round brackets" in done.stdout and "VAEDecode" in done.stdout


def test_the_command_reports_on_a_console_without_chinese(old_file, tmp_path):
    assert migrate(old_file, tmp_path / "新.json", PYTHONIOENCODING="ascii").returncode == 0


def test_the_command_reads_the_graph_in_a_png(tmp_path):
    prompt, workflow = text_to_image(), as_canvas(text_to_image())
    (tmp_path / "a.png").write_bytes(png(prompt=json.dumps(prompt), workflow=json.dumps(workflow, ensure_ascii=False)))
    (tmp_path / "b.png").write_bytes(png(prompt=json.dumps(prompt)))
    for name, key in (("a", "nodes"), ("b", "1")):
        assert migrate(tmp_path / f"{name}.png", tmp_path / f"{name}.json").returncode == 0
        new = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
        assert key in json.loads(new) and "一只红苹果" in new


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"GIF89a", "is a GIF"),
        (b"<!doctype html><html>", "is a web page"),
        (b'{"a": [' * 100000, "not JSON"),
        (b"[1]", "not a graph"),
        (png(parameters="x"), "a PNG without a graph"),
        (png(workflow="x")[:20], "a PNG without a graph"),
    ],
)
def test_bad_files_are_named(tmp_path, content, words):
    (tmp_path / "bad.json").write_bytes(content)
    done = migrate(tmp_path / "bad.json", tmp_path / "new.json")
    assert done.returncode != 0 and words in done.stderr and "bad.json" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "new.json").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes(json.dumps(text_to_image(), ensure_ascii=False).encode(encoding))
    done = migrate(tmp_path / "a.json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert "一只红苹果" in (tmp_path / "b.json").read_text(encoding="utf-8")


def test_half_a_character_and_a_number_that_json_has_not_are_written(tmp_path):
    graph = text_to_image()
    graph["4"]["inputs"]["text"] = "a cat \ud83d here"
    graph["1"]["is_changed"] = [float("nan")]
    (tmp_path / "a.json").write_text(json.dumps(graph))
    done = migrate(tmp_path / "a.json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "b.json").read_text(encoding="utf-8")
    assert "\\ud83d here" in text and "NaN" not in text
    assert "a cat \ud83d here" in [node["inputs"].get("text") for node in json.loads(text).values()]


def test_bad_paths_are_named(old_file, tmp_path):
    before = old_file.read_bytes()
    (tmp_path / "there.json").write_text("mine")
    for arguments, words in (
        ((tmp_path / "gone.json", tmp_path / "new.json"), "cannot be read"),
        ((tmp_path, tmp_path / "new.json"), "cannot be read"),
        ((old_file, tmp_path / "no folder" / "new.json"), "cannot be written"),
        ((old_file, tmp_path, "--overwrite"), "cannot be written"),
        ((old_file, old_file), "never overwritten"),
        ((old_file, tmp_path / "." / old_file.name, "--overwrite"), "never overwritten"),
        ((old_file, tmp_path / "there.json"), "exists already"),
        ((old_file,), "required"),
    ):
        done = migrate(*arguments)
        assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr
    assert old_file.read_bytes() == before and (tmp_path / "there.json").read_text() == "mine"
    assert migrate(old_file, tmp_path / "there.json", "--overwrite").returncode == 0
