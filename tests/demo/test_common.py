"""The loop of the training scripts, on a model of one number; and that to import a script starts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import common
import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "demo" / "train"


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(common, "WORK", tmp_path)
    return tmp_path


def prepare(minutes: float):
    """Parts of a run that learns the number 3, from its checkpoint where there is one."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    average = common.Average(model)
    checkpoint = common.Checkpoint("number", model=model, average=average, optimiser=optimiser)
    return model, optimiser, average, checkpoint, common.Clock(minutes, checkpoint.load())


def test_a_run_learns_logs_and_goes_on_from_its_checkpoint(work, caplog, monkeypatch):
    monkeypatch.setattr(common.time, "monotonic", iter(range(10_000)).__next__)  # every look at the clock is a second
    caplog.set_level("INFO")
    rates = []

    def run(minutes: float) -> tuple[float, int]:
        model, optimiser, average, checkpoint, clock = prepare(minutes)
        running = common.Running(0.9)

        def step():
            rates.append(optimiser.param_groups[0]["lr"])
            loss = (model(torch.ones(1, 1)) - 3).square().mean()
            running.add(loss.item())
            return loss, f"loss {running:.3f}"

        common.train(step, clock, optimiser, checkpoint, 0.1, warmup=10, average=average, shown=50)
        assert average.count == clock.step  # every step was averaged, those before the checkpoint too
        return model.weight.item(), clock.step

    first, steps = run(minutes=2)
    assert rates[0] == pytest.approx(0.01, rel=0.01) and max(rates) == pytest.approx(0.1, rel=0.1)
    assert (
        f"number step {steps // 50 * 50} " in caplog.text
        and f"number done: {steps} steps, 2.0 min, loss" in caplog.text
    )
    assert (work / "number.pt").is_file()
    assert run(minutes=2) == (first, steps)  # its time is over: nothing is trained
    second, more = run(minutes=10)
    assert more > steps and abs(second - 3) < min(abs(first - 3), 0.01)


def test_a_clock_gives_other_numbers_after_other_steps(work):
    *_, clock = prepare(1)
    draws = []
    for clock.step in (0, 1, 0):
        rng = clock.seed()
        draws.append((rng.random(), torch.rand(1).item()))
    assert draws[0] == draws[2] != draws[1]


def test_a_mean_that_runs_shows_nothing_before_its_first_figure():
    running = common.Running(0.5)
    assert f"{running:.1f}" == "-"
    running.add(1)
    running.add(2)
    assert f"{running:.1f}" == "1.5"


def test_importing_the_scripts_starts_nothing(tmp_path):
    """No folder is made, nothing is logged to a file, and no process waits for another."""
    code = f"""
import logging, sys
made = []
sys.addaudithook(lambda event, args: event == "os.mkdir" and made.append(str(args[0])))
sys.path.append({str(SCRIPTS)!r})
import {", ".join(sorted(path.stem for path in SCRIPTS.glob("*.py")))}
import torch
assert not [folder for folder in made if folder.startswith({str(SCRIPTS.parents[1])!r})], made
assert not logging.getLogger().handlers and not torch.distributed.is_initialized()
"""
    others = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # as torchrun says them
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | others, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
