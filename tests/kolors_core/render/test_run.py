"""The whole command on this machine, as a user starts it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import time

import pytest
from comfyui_kolors.kolors_core.migrate.embedded import read_graph

ROWS = [{"prompt": f"prompt {i}", "seed": i} for i in range(8)]


def test_each_row_has_its_files_and_a_line(command):
    done = command.run(command.table([*ROWS, {"prompt": "可图 \u2028", "seeds": "7-9"}]))
    assert (done.returncode, done.stderr.count("failed")) == (0, 0), done.stderr
    lines = command.lines()
    assert sorted(lines) == [*((row, 0) for row in range(1, 9)), (9, 1), (9, 2), (9, 3)]
    for (row, number), line in lines.items():
        (file,) = line["files"]
        content = (command.out / file["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"] and len(content) == file["bytes"]
        graph = json.loads(read_graph(content, ("prompt",)))
        assert graph["2"]["inputs"]["text"] == line["values"]["prompt"]
        assert graph["5"]["inputs"]["seed"] == line["seed"] == (row - 1 if row < 9 else 6 + number)
        assert line["error"] is None and line["versions"]["comfyui"] == "stub" and line["seconds"]["all"] > 0
    assert len({file["sha256"] for line in lines.values() for file in line["files"]}) == 11
    pyarrow = pytest.importorskip("pyarrow.parquet")
    assert pyarrow.read_table(command.out / "manifest.parquet").num_rows == 11


def test_a_rerun_does_only_what_is_missing(command):
    table = command.table([*ROWS, {"prompt": "FAIL"}])
    assert command.run(table).returncode == 1
    before = command.lines()
    assert "it fails, as it was told to" in before[9, 0]["error"] and before[9, 0]["attempts"] == 3
    (command.out / before[3, 0]["files"][0]["name"]).unlink()
    command.table([{**row, "seed": 99} if row["seed"] == 4 else row for row in [*ROWS, {"prompt": "good", "seed": 8}]])
    done = command.run(table)
    assert done.returncode == 0 and "9 jobs, 6 of them done before" in done.stdout
    after = command.lines()
    assert sorted(after) == sorted(before)
    assert {key for key in after if after[key]["ended"] != before[key]["ended"]} == {(3, 0), (5, 0), (9, 0)}
    assert after[3, 0]["files"] == before[3, 0]["files"] and after[5, 0]["seed"] == 99
    done = command.run(table)
    assert done.returncode == 0 and "9 jobs, 9 of them done before" in done.stdout
    assert command.lines() == after


def test_a_comfyui_that_ends_costs_nothing_but_time(command):
    rows = [*ROWS, {"prompt": f"CRASH-ONCE:{command.folder}"}, {"prompt": "CRASH"}, {"prompt": "last"}]
    done = command.run(command.table(rows))
    assert done.returncode == 1
    lines = command.lines()
    failed = {key: line["error"] for key, line in lines.items() if line["error"]}
    assert list(failed) == [(10, 0)] and "ComfyUI ended with exit code 3" in failed[10, 0]
    assert len(lines) == 11


def test_a_comfyui_that_hangs_is_started_again(command):
    done = command.run(command.table([ROWS[0], {"prompt": "HANG"}, ROWS[1]]), "--silence", "2")
    lines = command.lines()
    assert done.returncode == 1 and "has not said anything for 2 s" in lines[2, 0]["error"]
    assert not lines[1, 0]["error"] and not lines[3, 0]["error"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_run_that_was_stopped_goes_on(command, how):
    table = command.table(ROWS)
    process = command.start(command.line(table, options="--seconds 0.3"))
    deadline = time.monotonic() + 120
    while not list(command.out.glob("manifest/row-*3.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    said, _ = process.communicate(timeout=120)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
    assert 3 <= len(command.lines()) < 8
    assert command.run(table).returncode == 0
    assert sorted(command.lines()) == [(row, 0) for row in range(1, 9)]
    assert not list(command.out.rglob("*.part"))


def test_too_many_errors_end_the_run(command):
    done = command.run(command.table([{"prompt": "FAIL", "seed": i} for i in range(6)]), "--max-errors", "1")
    assert done.returncode == 1 and "2 jobs failed, more than --max-errors allows" in done.stderr
    assert len(command.lines()) < 6


def test_images_of_the_table_reach_comfyui(command, graph):
    graph["4"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["8", 0], "vae": ["1", 2]}}
    graph["8"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}, "_meta": {"title": "Start"}}
    command.workflow.write_text(json.dumps(graph))
    (command.folder / "in").mkdir()
    for name in "ab":
        (command.folder / "in" / f"{name}.png").write_bytes(name.encode())
    rows = [{"Start.image": f"in/{name}.png"} for name in "aba"]
    assert command.run(command.table(rows)).returncode == 0
    lines = command.lines()
    images = {key: read_image(command.out / line["files"][0]["name"]) for key, line in lines.items()}
    assert images[1, 0] == images[3, 0] != images[2, 0]
    done = command.run(command.table([*rows, {"Start.image": "in/c.png"}]))
    assert (
        done.returncode == 1
        and "row 4: the image" in done.stderr
        and "in/c.png for 8.image is not there" in done.stderr
    )
    assert command.lines() == lines


def read_image(path):
    return path.read_bytes().partition(b"IDAT")[2]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_place_that_takes_nothing_is_told_before_anything_is_drawn(command):
    command.out.mkdir()
    command.out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    out = str(command.out / "x") if os.geteuid() else "/proc/kolors"
    done = command.run(command.table(ROWS), out=out)
    command.out.chmod(stat.S_IRWXU)
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_ends_the_run_with_a_sentence(command):
    (command.out / "manifest").mkdir(parents=True)
    (command.out / "images").symlink_to("/dev/full")
    done = command.run(command.table(ROWS))
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not command.lines()


def test_a_comfyui_that_does_not_start_is_told_with_its_log(command):
    done = command.run(command.table(ROWS), options="--no-start")
    assert done.returncode == 1 and "does not start" in done.stderr and "this ComfyUI does not start" in done.stderr
    done = command.run(command.table(ROWS), "--server", "http://127.0.0.1:9")
    assert done.returncode == 1 and "does not answer as ComfyUI does" in done.stderr


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "raise ImportError('No module named ray')",
            'not installed here whole (No module named ray). Run: pip install "',
        ),
        ("__version__ = '2.40.0'", "Ray 2.40.0 is too old: expected 2.59 or newer"),
    ],
)
def test_a_ray_that_is_missing_or_old_is_said(command, monkeypatch, module, said):
    (command.folder / "ray").mkdir()
    (command.folder / "ray" / "__init__.py").write_text(module)
    (command.folder / "ray" / "data.py").touch()
    (command.folder / "pyarrow.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(command.folder))
    done = command.run(command.table(ROWS), "--ray")
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split",), "--split need --ray"),
        (("--ray", "--server", "http://x"), "--server is one ComfyUI, and --ray starts many"),
        (("--ray", "--decoders", "1"), "--decoders needs --split"),
        (("--ray", "--workers", "8-2"), "neither a number of workers nor a range"),
    ],
)
def test_options_that_do_not_go_together_are_said(command, options, said):
    done = command.run(command.table(ROWS), *options)
    assert done.returncode == 2 and said in done.stderr


def test_a_dry_run_shows_graphs_and_draws_nothing(command):
    done = command.run(command.table([{"prompt": "a", "seeds": "1-4"}]), "--dry-run")
    assert done.returncode == 0 and "000001-003" in done.stdout and "000001-004" not in done.stdout
    assert "The column 'prompt' sets 2.text." in done.stdout and "4 jobs" in done.stdout
    assert not command.out.exists()
