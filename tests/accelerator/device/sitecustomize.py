"""With FAKE_DEVICE set and this folder in PYTHONPATH, every Python process has the simulated accelerator."""

import importlib.util
import os
import sys

COMMAND = getattr(sys, "orig_argv", [])
INSTALLERS = {"pip", "venv", "ensurepip"}

if os.environ.get("FAKE_DEVICE") and not INSTALLERS & set(COMMAND) and importlib.util.find_spec("torch"):
    import fake_accelerator

    fake_accelerator.install()
    if any(part.endswith("main.py") for part in COMMAND):
        sys.argv += os.environ.get("FAKE_ARGS", "").split()
