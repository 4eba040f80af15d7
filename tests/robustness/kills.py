"""A table of 200 prompts on a cluster of which something is killed twenty times: the same bits as in one quiet process.

    COMFYUI_PATH=... python tests/robustness/kills.py BASE FOLDER [--kills 20] [--rows 200]

BASE is a base directory of ComfyUI with this package in its custom_nodes, as `dev.py` makes it; it draws with the
small trained Kolors in demo/. What is killed, with SIGKILL, is chosen at random: a ComfyUI, an actor, the raylet of the
second node with all on it, or the driver. Whatever ends is started again with the same command. Prints one line per
kill, and what it found; takes about 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from devtools.demo import DEMO_STEPS, build_prompt  # noqa: E402

SUBJECTS = ("红苹果，黄色背景", "a red apple", "绿色的正方形", "a blue circle", "a yellow star on white")
NODE = {"num_cpus": 2, "resources": {"second": 1}}


class Run:
    """The command into one folder."""

    def __init__(self, folder: Path, name: str, base: Path, *options: str):
        self.out = folder / name
        self.log = folder / f"{name}.log"
        self.line = [sys.executable, "-m", "kolors_core.render", folder / "workflow.json", folder / "prompts.jsonl"]
        self.line += ["--out", self.out, "--comfyui", os.environ["COMFYUI_PATH"], *options]
        self.line += [f"--options=--cpu --base-directory {base}"]

    def start(self) -> subprocess.Popen:
        with self.log.open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
            return subprocess.Popen(self.line, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def finish(self) -> float:
        began = time.monotonic()
        if self.start().wait():
            raise SystemExit(f"{self.out.name} failed; see {self.log}")
        return time.monotonic() - began

    def jobs(self) -> dict[int, tuple[str, ...]]:
        """The hashes of each row, which stands in the manifest once, and whose files are there whole."""
        found: dict[int, tuple[str, ...]] = {}
        for file in sorted(self.out.glob("manifest/*.jsonl")):
            for text in filter(None, file.read_text(encoding="utf-8").split("\n")):
                line = json.loads(text)
                assert line["row"] not in found, f"row {line['row']} stands twice"
                assert not line["error"], line["error"]
                assert all((self.out / each["name"]).stat().st_size == each["bytes"] for each in line["files"])
                found[line["row"]] = tuple(each["sha256"] for each in line["files"])
        assert not list(self.out.rglob("*.part")), "something half-written"
        images = len(list(self.out.rglob("*.png")))
        assert images == len(found), f"{images} images for {len(found)} rows"
        return found


def pids(*words: str) -> list[int]:
    """Processes whose command line has all of these words."""
    found = psutil.process_iter(["pid", "cmdline"])
    return [each.info["pid"] for each in found if all(word in " ".join(each.info["cmdline"] or []) for word in words)]


def kill_twenty_times(folder: Path, base: Path, kills: int, chance: random.Random) -> Run:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    options = ("--ray", cluster.address, "--workers", "1-2")
    run, made, driver, starts = Run(folder, "killed", base, *options), 0, None, 0
    try:
        while True:
            if driver is None or driver.poll() is not None:
                if driver is not None and driver.returncode == 0:
                    break
                driver, starts = run.start(), starts + 1
            if made == kills:
                driver.wait()
                continue
            time.sleep(chance.uniform(3, 14))
            what = chance.choice(("ComfyUI", "actor", "raylet", "driver"))
            if what == "raylet":
                cluster.remove_node(second, allow_graceful=False)
                second = cluster.add_node(**NODE)
            elif what == "driver":
                driver.kill()
                driver.wait()
            elif found := pids(*(("main.py", "kolors-render-") if what == "ComfyUI" else ("ray::MapWorker",))):
                os.kill(chance.choice(found), 9)
            else:
                continue
            made += 1
            done = len(list(run.out.glob("images/*/*.png")))
            print(f"kill {made:2}: {what}, {done} images are there", flush=True)
    finally:
        if driver and driver.poll() is None:
            driver.kill()
        cluster.shutdown()
    print(f"{made} kills, the command was started {starts} times")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    base, folder = given.base.resolve(), given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workflow.json").write_text(
        json.dumps(build_prompt("", "一张图", 0, DEMO_STEPS, (128, 128))), encoding="utf-8"
    )
    rows = [{"prompt": SUBJECTS[i % len(SUBJECTS)], "seed": i} for i in range(given.rows)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    one = Run(folder, "one", base)
    print(f"one process: {one.finish():.0f} s", flush=True)
    expected = one.jobs()
    assert sorted(expected) == list(range(1, given.rows + 1)) and len(set(expected.values())) == given.rows
    for name, options in (("two workers", ("--workers", "2")), ("split", ("--split", "--num-cpus-per-worker", "0.5"))):
        run = Run(folder, name.replace(" ", "-"), base, "--ray", *options)
        seconds = run.finish()
        print(f"{name}: {seconds:.0f} s, {'the same bits' if run.jobs() == expected else 'OTHER BITS'}", flush=True)
    killed = kill_twenty_times(folder, base, given.kills, random.Random(given.seed)).jobs()
    print(f"after the kills: {len(killed)} rows, {'the same bits' if killed == expected else 'OTHER BITS'}")
    sys.exit(killed != expected)


if __name__ == "__main__":
    main()
