"""What this pack adds to the start of ComfyUI: its own line in the start's log, and the start without it.

    python3 dev.py bench start

Starts a real server process five times with the pack and five times without, in turn, each until it would listen.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = "comfyui-kolors"
ROUNDS = 5
LINE = re.compile(rf"([\d.]+) seconds: .*{PACK}$", re.MULTILINE)


def start(host: Path, base: Path) -> tuple[float, str]:
    """Seconds of one start that ends by itself, and all that it printed."""
    command = [sys.executable, host / "main.py", "--quick-test-for-ci", "--cpu", "--base-directory", base]
    began = time.perf_counter()
    done = subprocess.run([*command, "--database-url", "sqlite:///:memory:"], capture_output=True, text=True, cwd=base)
    if done.returncode:
        raise SystemExit(f"ComfyUI ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout + done.stderr


def main() -> None:
    host = Path(os.environ["COMFYUI_PATH"])
    times: dict[str, list[float]] = {"with": [], "without": []}
    imports = []
    with tempfile.TemporaryDirectory() as folder:
        for name in times:
            (Path(folder) / name / "custom_nodes").mkdir(parents=True)
        (Path(folder) / "with/custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        for round_ in range(ROUNDS + 1):
            for name, values in times.items():
                seconds, log = start(host, Path(folder) / name)
                if round_:  # the first one fills the file cache
                    values.append(seconds)
                    imports += map(float, LINE.findall(log))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"ComfyUI says that the import of {PACK} took {statistics.median(imports)} s (median of {len(imports)} starts)"
    )
    ratio = medians["with"] / medians["without"]
    print(f"a start took {medians['with']:.1f} s with it and {medians['without']:.1f} s without: {ratio:.2f} times")


if __name__ == "__main__":
    main()
