"""The benchmark of an accelerator: what a stop, a choice of parts and sides that differ leave in its report.

It runs at a tiny size, on whatever device the host takes here.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"


def start(results: Path, *options: str, changes: str = "") -> subprocess.Popen:
    """A run of gpu.py, after lines of Python that change something in it."""
    code = f"import sys, time; sys.path.insert(0, {str(FOLDER)!r})\nimport gpu\n{changes}\ngpu.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--small", "--results", results, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"KOLORS_BENCH_THREADS": "1"},
    )  # fmt: skip


def run(*given, **changes) -> tuple[int, str, str]:
    process = start(*given, **changes)
    output, errors = process.communicate()
    return process.returncode, output, errors


def report(results: Path) -> dict:
    return json.loads((results / "gpu.json").read_text(encoding="utf-8"))


def test_a_stop_keeps_the_parts_before_it_and_the_next_run_adds_to_them(tmp_path):
    options = ("--parts", "rows", "limits")  # in their own order, whatever the one given
    with start(tmp_path, *options, changes="gpu.Bench.measure_rows = lambda self: time.sleep(600)") as process:
        end = time.monotonic() + 120
        while not (tmp_path / "gpu.json").is_file() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        process.kill()
        errors = process.communicate()[1]
    before = report(tmp_path)
    assert set(before["measured"]) == {"limits"} and before["limits"]["bytes"] > 0, errors
    assert run(tmp_path, "--parts", "rows")[0] == 0
    after = report(tmp_path)
    assert set(after["measured"]) == {"limits", "rows"} and after["rows"]["once"] > 0
    assert after["limits"] == before["limits"] and after["floors"]["weights"] > 0
    assert all(after["setup"][key] for key in ("card", "host", "torch", "dtype"))
    assert all(time.strptime(entry["date"], "%Y-%m-%d %H:%M") for entry in after["measured"].values())


def test_figures_of_another_card_do_not_stay_beside_new_ones(tmp_path):
    old = {"setup": {"card": "another"}, "measured": {"vae": {}}, "vae": {"seconds": 1.0, "peak": 1.0}}
    (tmp_path / "gpu.json").write_text(json.dumps(old), encoding="utf-8")
    code, output, errors = run(tmp_path, "--parts", "limits")
    assert code == 0 and "another" in output, errors
    assert set(report(tmp_path)["measured"]) == {"limits"} and "vae" not in report(tmp_path)


def test_no_part_is_begun_beyond_the_time(tmp_path):
    code, output, errors = run(tmp_path, "--seconds", "0", "--parts", "limits", "vae")
    assert code == 0 and "limits: no time left" in output and "vae: no time left" in output, errors
    assert not (tmp_path / "gpu.json").exists()


DIFFERENT = """
import itertools
reference, build, sample, scale = gpu.sample_reference, gpu.Bench.reference_run, gpu.sample, itertools.count(1)
gpu.sample_reference = lambda *given: reference(*given) * 1.3
gpu.Bench.reference_run = lambda *given: lambda run=build(*given): run() * 1.3
gpu.sample = lambda *given: sample(*given) * next(scale)
seconds = gpu.Device.seconds
gpu.Device.seconds = lambda *given: print('timed') or seconds(*given)
"""


def test_sides_that_differ_are_reported_and_not_timed(tmp_path):
    """In each part that compares two sides; all in one run, for a start takes longer than the parts."""
    code, output, errors = run(tmp_path, "--parts", "unet", "encoder", "rows", changes=DIFFERENT)
    assert code == 1 and "timed" not in output
    found = report(tmp_path)
    assert set(errors.rstrip().splitlines()[-1].removeprefix("failed: ").split(", ")) == {"unet", "encoder", "rows"}
    for failed in (found["unet"]["plain, batch 1"], found["encoder"], found["rows"]):
        assert list(failed) == ["failed"] and "do not do the same work" in failed["failed"]
