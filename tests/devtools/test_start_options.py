"""devtools/start_options.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_kolors.devtools import start_options

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


@pytest.mark.parametrize(
    ("given", "precise"), [([], True), (["--novram"], True), (["--fp16-vae"], False), (["--force-fp16"], False)]
)
def test_float32_is_asked_for_where_no_precision_is_given(given, precise):
    assert bool(start_options.float32(given)) is precise


def test_a_record_names_the_way_that_the_host_was_started(monkeypatch):
    monkeypatch.delenv("KOLORS_DYNAMIC_VRAM", raising=False)
    monkeypatch.setenv("KOLORS_HOST_FLAGS", "--fp32-unet  --output-directory 'a b'")
    assert start_options.described() == "--fp32-unet --output-directory 'a b'"
    monkeypatch.setenv("KOLORS_DYNAMIC_VRAM", "1")
    assert start_options.described() == "KOLORS_DYNAMIC_VRAM=1 --fp32-unet --output-directory 'a b'"
    monkeypatch.delenv("KOLORS_HOST_FLAGS")
    assert start_options.described() == "KOLORS_DYNAMIC_VRAM=1"


@pytest.mark.host
@pytest.mark.parametrize(
    ("flags", "message"), [("--no-such-option", "unrecognized arguments"), ("--cpu --novram", "not allowed with")]
)
def test_the_tests_refuse_options_that_the_host_does_not_know(flags, message):
    command = [PYTHON, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/test_repository.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "KOLORS_HOST_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode and "KOLORS_HOST_FLAGS: error: " in done.stderr and message in done.stderr
