"""The lists of model files in ComfyUI's `/object_info`, with this package and without: `python3 dev.py bench lists`.

Real server processes with small safetensors files in their model folders, in turn with the package and without it. Each
is asked as soon as it listens, which reads the folders for the first time, and then again. Writes lists.json.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from _report import argument_parser, growth, save, table
from _rows import Row, compared

ROOT = Path(__file__).resolve().parent.parent
PACK = "comfyui-kolors"
SIDES = ("with", "without")
NAMES = {"first": "First lists", "later": "Later lists"}
COUNTS = [10, 100, 1000, 10000]
ROUNDS = 3
LATER = 15  # requests after the first one of a server, of which the start still disturbs the first few
PER_FOLDER = 100
#: Percent of the files in each folder of models.
SPREAD = {
    "loras": 50,
    "checkpoints": 20,
    "diffusion_models": 10,
    "text_encoders": 5,
    "controlnet": 5,
    "vae": 5,
    "embeddings": 5,
}
LAYOUTS = {"spread": SPREAD, "checkpoints": {"checkpoints": 100}}
KOLORS = 500  # of so many checkpoints one is Kolors'
SDXL_KEYS = [f"model.diffusion_model.input_blocks.{i}.1.proj_in.weight" for i in range(40)]
KOLORS_SHAPES = {
    "encoder_hid_proj.weight": [2048, 4096],
    "add_embedding.linear_1.weight": [1280, 4096 + 1536],
    "conv_out.weight": [4, 320, 3, 3],
}


def write_models(folder: Path, shares: dict[str, int], count: int) -> None:
    """Files of a few kB without values that matter, in subfolders of at most PER_FOLDER."""
    other, kolors = safetensors({key: [1] for key in SDXL_KEYS}), safetensors(KOLORS_SHAPES)
    for kind, percent in shares.items():
        for number in range(max(1, count * percent // 100)):
            place = folder / kind / f"group {number // PER_FOLDER:03}"
            place.mkdir(parents=True, exist_ok=True)
            ours = kind == "checkpoints" and number % KOLORS == 0
            (place / f"some model's name {number:05}.safetensors").write_bytes(kolors if ours else other)


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A file whose header names tensors, and whose values are left out."""
    entries = {key: {"dtype": "F16", "shape": shape, "data_offsets": [0, 2]} for key, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}} | entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2)


@contextmanager
def serve(host: Path, base: Path, side: str) -> Iterator[int]:
    """A server that listens at the port that is yielded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, host / "main.py", "--cpu", "--base-directory", base, "--port", str(port)]
    command += ["--database-url", "sqlite:///:memory:"]
    command += ["--disable-all-custom-nodes"] if side == "without" else []
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=base) as process:
        try:
            while not is_open(port):
                if process.poll() is not None:
                    log.seek(0)
                    text = log.read().decode(errors="replace")[-2000:]
                    raise SystemExit(f"ComfyUI ended with exit code {process.returncode}:\n{text}")
                time.sleep(0.1)
            yield port
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int) -> tuple[float, dict]:
    """Seconds until the whole answer of `/object_info` is there, and the answer."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    began = time.perf_counter()
    client.request("GET", "/object_info")
    text = client.getresponse().read()
    spent = time.perf_counter() - began
    client.close()
    return spent, json.loads(text)


def check(first: dict, later: list[dict], side: str) -> None:
    """The loader lists what the host's own loader does, again and again, and only with the pack."""
    ours = first.get("KolorsCheckpointLoader")
    if bool(ours) != (side == "with") or any(answer.get("KolorsCheckpointLoader") != ours for answer in later):
        raise SystemExit(f"The answer {side} the pack is not what it should be.")
    names = first["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    if ours and not set(names) <= set(ours["input"]["required"]["ckpt_name"][0]):
        raise SystemExit("The pack's list lacks a name.")


def measure(host: Path, base: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of a server's first request and of those after it, on each side, and the ratios."""
    times: dict[str, dict[str, list[float]]] = {which: {side: [] for side in SIDES} for which in ("first", "later")}
    for _ in range(rounds):
        for side in SIDES:
            with serve(host, base, side) as port:
                (first, answer), *later = [ask(port) for _ in range(1 + LATER)]
            check(answer, [again for _, again in later], side)
            times["first"][side].append(first)
            times["later"][side].append(statistics.median(spent for spent, _ in later))
    return {
        which: {side: statistics.median(values) for side, values in sides.items()}
        | {"ratio": statistics.median(ours / theirs for ours, theirs in zip(*sides.values()))}
        for which, sides in times.items()
    }


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("KOLORS_BENCH_THREADS", "2")))  # as the other benchmarks' reports say
    host = Path(os.environ["COMFYUI_PATH"])
    work = [("spread", count) for count in COUNTS] + [("checkpoints", COUNTS[-1])]
    report: dict[str, dict[str, dict]] = {name: {} for name, _ in work}
    for layout, count in work[:1] if args.quick else work:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            (base / "custom_nodes").mkdir()
            (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
            write_models(base / "models", LAYOUTS[layout], count)
            report[layout][str(count)] = measure(host, base, 1 if args.quick else ROUNDS)
    rows = [
        (layout, count, which, *(f"{1000 * cost[side]:.0f}" for side in SIDES), f"{cost['ratio']:.2f}")
        for layout, counts in report.items()
        for count, requests in counts.items()
        for which, cost in requests.items()
    ]
    print(table(("Layout", "files", "request", "with the package, ms", "without, ms", "ratio"), rows))
    page_rows = []
    for layout, counts in report.items():
        for count, requests in counts.items():
            for which, cost in requests.items():
                name = f"{NAMES[which]} of {int(count):,} files" + (", all in checkpoints" * (layout != "spread"))
                page_rows.append(
                    compared(name, cost["with"], cost["without"], beside="without the package", ratio=cost["ratio"])
                )
    if not args.quick:
        for which, name in NAMES.items():
            costs = {side: [report["spread"][str(count)][which][side] for count in COUNTS] for side in SIDES}
            powers = {side: growth(COUNTS, costs[side]) for side in SIDES}
            print(f"growth of the {which} request at the end, as a power of the files: {powers}")
            page_rows.append(
                Row(f"{name}, over the files", powers["with"], "exponent", "without the package", powers["without"])
            )
    save("lists", report, args.results, page_rows)


if __name__ == "__main__":
    main()
