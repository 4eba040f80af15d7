"""devtools/testing.py."""

from __future__ import annotations

import json
from pathlib import Path

from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def test_test_runs_pytest_in_the_repository_and_returns_its_code(setup, tmp_path, monkeypatch):
    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args: (setup, Progress(0)))
    report = tmp_path / "report.json"
    test = tmp_path / "test_inner.py"
    test.write_text(
        "import json, os, pathlib\n"
        "def test_inner():\n"
        "    seen = [os.environ['COMFYUI_PATH'], os.environ['KOLORS_BASE'], os.getcwd()]\n"
        f"    pathlib.Path({str(report)!r}).write_text(json.dumps(seen))\n"
        "    assert False\n"
    )
    options = [str(test), "-q", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    assert main(["test", *options]) == 1
    assert json.loads(report.read_text()) == [str(setup.comfyui), str(setup.base), str(ROOT)]
