"""A measurement in a process of its own, of which no other one leaves a trace."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from typing import Any

import torch


def run_alone(script: str, *arguments: object, **environment: str) -> Any:
    """What `script` prints last with these arguments and variables, which is JSON."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def settle() -> None:
    """Leave the start of the process behind: memory that torch takes at its first product, and the imports' garbage.

    A full collection goes through half a million objects of the imported libraries, which takes longer than a load and
    would fall upon either side by chance.
    """
    torch.nn.Linear(8, 8)(torch.ones(1, 8))
    gc.collect()
    gc.freeze()
