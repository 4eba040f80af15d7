"""What `python -m kolors_core.render` costs beside the drawing itself.

    python3 dev.py bench render                     one worker against a plain loop over HTTP; writes render.json
    python benchmarks/render.py --scale 1 8 64      images a minute of so many workers on Ray, of what is possible
    python benchmarks/render.py --memory 1000 9000  memory of the process that leads a run of so many rows

The first draws with the small trained Kolors at 25 steps, in one ComfyUI whose prompts come by turns from either side.
The others have the tests' stand-in for ComfyUI, which sleeps as a card works: what is measured is the engine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests/kolors_core/render/stub"
sys.path.insert(0, str(ROOT))

from devtools.demo import DEMO_STEPS, build_prompt  # noqa: E402
from kolors_core.render.comfyui import ComfyUI  # noqa: E402

ROUNDS, ROWS = 4, 16  # of the plain loop and the engine in turn; images of each
SECONDS = 2.0  # of an image, for the stand-in
PER_WORKER = 20  # rows
STUB_GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "kolors.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["2", 0],
            "latent_image": ["3", 0],
            "seed": 0,
        },
    },
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "kolors"}},
}


def request(url: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(message, timeout=300) as answer:
        return answer.read()


def plain_loop(url: str, graph: dict, rows: list[dict], out: Path) -> float:
    """Seconds an image of the shortest script that does it: queue, ask until it is there, fetch, write."""
    out.mkdir(parents=True)
    began = time.perf_counter()
    for index, row in enumerate(rows):
        graph["text"]["inputs"]["text"], graph["sample"]["inputs"]["seed"] = row["prompt"], row["seed"]
        id = json.loads(request(f"{url}/prompt", {"prompt": graph}))["prompt_id"]
        while not (history := json.loads(request(f"{url}/history/{id}"))):
            time.sleep(0.01)
        (file,) = history[id]["outputs"]["save"]["images"]
        query = f"filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}"
        (out / f"{index}.png").write_bytes(request(f"{url}/view?{query}"))
    return (time.perf_counter() - began) / len(rows)


def command(folder: Path, rows: list[dict], graph: dict, out: Path, *options: str) -> list[str]:
    (folder / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    line = [sys.executable, "-m", "kolors_core.render", folder / "workflow.json", folder / "prompts.jsonl"]
    return [*map(str, line), "--out", str(out), *options]


def run(line: list[str]) -> tuple[float, int]:
    """Seconds, and the most bytes in memory, of a command."""
    began = time.perf_counter()
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)}\n{said[-3000:]}")
    return time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def ends(out: Path) -> tuple[float, list[float]]:
    """When the first job began, and when each ended."""
    lines = [json.loads(text) for file in out.glob("manifest/*.jsonl") for text in file.read_text().splitlines()]
    return min(line["began"] for line in lines), sorted(line["ended"] for line in lines)


def overhead() -> None:
    """Seconds an image of the engine by those of a plain loop."""
    graph = build_prompt("", "一张图", 0, DEMO_STEPS, (128, 128))
    with tempfile.TemporaryDirectory() as name:
        folder, seed = Path(name), 0
        options = ("--cpu", "--base-directory", os.environ["KOLORS_BASE"])
        comfyui = ComfyUI(Path(os.environ["COMFYUI_PATH"]), options)
        comfyui.start()
        try:
            wait_for(comfyui)
            found: list[tuple[float, float, float]] = []
            for round_ in range(ROUNDS + 1):
                rows = [{"prompt": f"红苹果 {seed + i}", "seed": seed + i} for i in range(2 * ROWS)]
                seed += 2 * ROWS
                out, plain = folder / f"engine-{round_}", 0.0
                if round_ % 2:
                    plain = plain_loop(comfyui.url, graph, rows[:ROWS], folder / f"plain-{round_}")
                seconds, _ = run(command(folder, rows[ROWS:], graph, out, "--server", comfyui.url))
                if not round_ % 2:
                    plain = plain_loop(comfyui.url, graph, rows[:ROWS], folder / f"plain-{round_}")
                began, ended = ends(out)
                if round_:  # the first one loads the model
                    found.append((plain, (ended[-1] - began) / ROWS, seconds / ROWS))
        finally:
            comfyui.close()
    plain, engine, _ = (statistics.median(values) for values in zip(*found))
    ratios = [one / other for other, one, _ in found]
    print(f"plain loop {plain:.3f} s an image, engine {engine:.3f} s: {statistics.median(ratios):.3f} times")
    print(f"rounds of {ROWS} images: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    start = statistics.median((seconds - each) * ROWS for _, each, seconds in found)
    print(f"start and end of the command: {start:.2f} s")
    keep(plain, engine, statistics.median(ratios))


def keep(plain: float, engine: float, ratio: float) -> None:
    """Write render.json, for the page."""
    from _report import save  # with torch, which nothing else here needs
    from _rows import compared

    row = compared("Image through the engine for many prompts", engine, plain, beside="a plain loop", ratio=ratio)
    save("render", {"plain": plain, "engine": engine}, rows=[row])


def wait_for(comfyui: ComfyUI, pause: float = 0.1) -> None:
    """Until a server answers, asked every `pause` seconds."""
    began = time.monotonic()
    while True:
        try:
            request(f"{comfyui.url}/system_stats")
            return
        except OSError:
            comfyui.check(began)
            time.sleep(pause)


def scale(sizes: list[int], rows: int | None) -> None:
    """Images a minute of so many workers, by what they would make if nothing but the card took time."""
    print("| workers | rows | images/min | of possible | whole run | memory of the driver |\n|---|---|---|---|---|---|")
    for size in sizes:
        count = rows or PER_WORKER * size
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = [{"prompt": f"prompt {i}", "seed": i} for i in range(count)]
            options = ("--ray", "--workers", str(size), "--num-cpus-per-worker", "0.01", "--comfyui", str(STUB))
            options += (f"--options=--seconds {SECONDS}",)
            _, memory = run(command(folder, table, STUB_GRAPH, folder / "out", *options))
            began, ended = ends(folder / "out")
        ideal = size / SECONDS
        # The first round still has workers that start, and in the last one some have nothing left.
        low, high = ended[min(size, count // 4)], ended[-size - 1] if count > 3 * size else ended[-1]
        inner = [each for each in ended if low <= each <= high]
        rate, whole = (len(inner) - 1) / (inner[-1] - inner[0]), count / (ended[-1] - began)
        cells = f"{rate * 60:.0f} | {rate / ideal:.1%} | {whole / ideal:.1%} | {memory / 2**20:.0f} MB"
        print(f"| {size} | {count} | {cells} |", flush=True)


def memory(counts: list[int], ray: bool) -> None:
    """The most memory of the process that leads the run, with a stand-in that takes no time."""
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = [{"prompt": f"a prompt of about the usual length, number {i}", "seed": i} for i in range(count)]
            options = ("--comfyui", str(STUB), *(("--ray", "--workers", "2") if ray else ()))
            seconds, most = run(command(folder, table, STUB_GRAPH, folder / "out", *options))
            print(
                f"{count} rows{' on Ray' if ray else ''}: {most / 2**20:.0f} MB, {count / seconds:.0f} rows/s",
                flush=True,
            )
            _, most = run(command(folder, table, STUB_GRAPH, folder / "out", *options))
            print(f"{count} rows, all of them done before: {most / 2**20:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, nargs="+", metavar="WORKERS")
    parser.add_argument("--rows", type=int, help=f"with --scale; {PER_WORKER} for each worker by default")
    parser.add_argument("--memory", type=int, nargs="+", metavar="ROWS")
    parser.add_argument("--ray", action="store_true", help="with --memory: on Ray")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if given.scale:
        scale(given.scale, given.rows)
    elif given.memory:
        memory(given.memory, given.ray)
    else:
        overhead()


if __name__ == "__main__":
    main()
