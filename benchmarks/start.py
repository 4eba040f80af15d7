"""What this package adds to the start of ComfyUI, and when a first image is there: `python3 dev.py bench start`.

A real server process five times with the package and five times without, in turn, each until it would listen; ComfyUI's
own line about the package in the log of the start. Then servers that draw one image of 25 steps with the miniature that
the package ships, from the start of the process to the image's arrival. All on the CPU. Writes start.json.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import _sides  # noqa: F401 - makes the package importable
from _report import argument_parser, save, table
from _rows import Row, compared
from comfyui_kolors.devtools.demo import DEMO_PROMPT, DEMO_STEPS, build_prompt
from comfyui_kolors.devtools.server import request
from comfyui_kolors.kolors_core.render.comfyui import ComfyUI
from render import wait_for

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "comfyui-kolors"
ROUNDS = 5
LINE = re.compile(rf"([\d.]+) seconds: .*{PACKAGE}$", re.MULTILINE)
WAIT = 0.05  # seconds between two looks at the server


def start(host: Path, base: Path) -> tuple[float, str]:
    """Seconds of one start that ends by itself, and all that it printed."""
    command = [sys.executable, host / "main.py", "--quick-test-for-ci", "--cpu", "--base-directory", base]
    began = time.perf_counter()
    done = subprocess.run([*command, "--database-url", "sqlite:///:memory:"], capture_output=True, text=True, cwd=base)
    if done.returncode:
        raise SystemExit(f"ComfyUI ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout + done.stderr


def measure_starts(host: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Median seconds of a start with and without, and of the import as ComfyUI says it."""
    times: dict[str, list[float]] = {"with": [], "without": [], "import": []}
    for round_ in range(rounds + 1):
        for name in ("with", "without"):
            seconds, log = start(host, folder / name)
            if round_:  # the first one fills the file cache
                times[name].append(seconds)
                times["import"] += map(float, LINE.findall(log))
    return {name: statistics.median(values) for name, values in times.items()}


def draw_first(host: Path, base: Path, steps: int) -> dict[str, float]:
    """Seconds from the start of a server to its answer, to its first image, and of a second image."""
    comfyui = ComfyUI(host, ("--cpu", "--base-directory", str(base)))
    began = time.perf_counter()
    try:
        comfyui.start()
        wait_for(comfyui, WAIT)
        answers = time.perf_counter() - began
        draw(comfyui, 1, steps)
        first = time.perf_counter() - began
        draw(comfyui, 2, steps)
        return {"answers": answers, "first": first, "second": time.perf_counter() - began - first}
    finally:
        comfyui.close()


def draw(comfyui: ComfyUI, seed: int, steps: int) -> bytes:
    """The PNG of one image, whatever the time."""
    graph = build_prompt(DEMO_PROMPT, "", seed, steps, (128, 128))
    id = json.loads(request(f"{comfyui.url}/prompt", {"prompt": graph}))["prompt_id"]
    while not (history := json.loads(request(f"{comfyui.url}/history/{id}"))):
        if ended := comfyui.ended():
            raise SystemExit(ended)
        time.sleep(WAIT)
    images = history[id]["outputs"].get("save", {}).get("images")
    if not images:
        raise SystemExit(f"ComfyUI drew no image: {json.dumps(history[id]['status'])[:2000]}")
    return request(f"{comfyui.url}/view?{urllib.parse.urlencode(images[0])}")


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    host = Path(os.environ["COMFYUI_PATH"])
    rounds, steps = (1, 1) if args.quick else (ROUNDS, DEMO_STEPS)
    starts, page_rows = None, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for inner in ("with", "without"):
            (folder / inner / "custom_nodes").mkdir(parents=True)
        (folder / "with/custom_nodes" / PACKAGE).symlink_to(ROOT, target_is_directory=True)
        if not args.quick:  # four more starts, which take longer than everything else
            starts = measure_starts(host, folder, rounds)
        drawn = [draw_first(host, folder / "with", steps) for _ in range(rounds)]
    medians = {key: statistics.median(times[key] for times in drawn) for key in drawn[0]}
    if starts:
        print(f"ComfyUI says that the import of {PACKAGE} took {starts['import']} s")
        print(f"a start took {starts['with']:.1f} s with it and {starts['without']:.1f} s without")
        page_rows.append(compared("Start of ComfyUI", starts["with"], starts["without"], beside="without the package"))
        page_rows.append(Row("Import of the package, as ComfyUI says", starts["import"]))
    print(table(("From the start of a server to", "s"), [(key, f"{value:.2f}") for key, value in medians.items()]))
    page_rows += [
        compared(
            "First image after the start of a server", medians["first"], medians["answers"], beside="its first answer"
        ),
        Row("Second image of that server", medians["second"]),
    ]
    save("start", {"starts": starts, "images": medians}, args.results, page_rows)


if __name__ == "__main__":
    main()
