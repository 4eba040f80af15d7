"""The simulated device is as strict as it says: each fault here would pass on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import modes
import pytest

#: What a line of Python says on the device, by its beginning.
FAULTS = {
    "torch.ones(2, device=device) + torch.ones(2)": "RuntimeError: Expected all tensors to be on the same device",
    "torch.ones(2)[torch.zeros(1, dtype=torch.long, device=device)]": "RuntimeError: indices should be either on cpu",
    "torch.add(torch.ones(2, device=device), 1, out=torch.ones(2))": "RuntimeError: Expected all tensors to be on the",
    "torch.rand(2, device=device, generator=torch.Generator())": "RuntimeError: Expected a",
    "torch.ones(2, 2, device=device, dtype=torch.int32) @ torch.ones(2, 2, device=device, dtype=torch.int32)": (
        "NotImplementedError: "
    ),
    "torch.empty(2**24, device=device)": "OutOfMemoryError: ",
    "torch.empty(2, device=device).tolist()": "[nan, nan]",
    "(torch.ones(2, device=device) + torch.tensor(1.0)).tolist()": "[2.0, 2.0]",
    "torch.equal(torch.randn(9), torch.randn(9, device=device).cpu())": "False",
}

SCRIPT = """
import sys, torch
device = torch.device(sys.argv[1])
for line in sys.argv[2:]:
    try:
        torch.manual_seed(0)
        print(repr(eval(line)))
    except (RuntimeError, NotImplementedError, TypeError) as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
"""


def say(kind: str, device: str, lines: list[str], **environment: str) -> list[str]:
    given = {"FAKE_DEVICE": kind, "PYTHONPATH": str(modes.DEVICE), "FAKE_VRAM_MB": "32", **environment}
    command = [sys.executable, "-c", SCRIPT, device, *lines]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind, device", [("cuda", "cuda"), ("rocm", "cuda"), ("xpu", "xpu"), ("mps", "mps")])
def test_faults_are_found(build_device, kind, device):
    build_device(kind)
    said = say(kind, device, list(FAULTS))
    wrong = {line: found for (line, expected), found in zip(FAULTS.items(), said) if not found.startswith(expected)}
    assert len(said) == len(FAULTS) and not wrong


def test_mps_has_no_float64(build_device):
    build_device("mps")
    lines = ["torch.ones(2, dtype=torch.float64).to(device)", "torch.ones(2).double().to('cpu').tolist()"]
    refused, plain = say("mps", "mps", lines)
    assert refused.startswith("TypeError: ") and plain == "[1.0, 1.0]"


def test_waits_and_copies_are_traced(build_device, tmp_path):
    build_device("cuda")
    say("cuda", "cuda", ["torch.ones(2).to(device).sum().item()"], FAKE_TRACE=str(tmp_path / "trace"))
    (file,) = tmp_path.glob("trace.*")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [" ".join(line.split()[:5]) for line in sorted(lines)] == [
        "1 0 B wait aten::_local_scalar_dense",
        "1 8 B h2d aten::copy_",
    ]
