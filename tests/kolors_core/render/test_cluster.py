"""The command on a Ray cluster: three nodes that differ, on this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.render.cluster import check_resources, chunk_sizes, connect
from comfyui_kolors.kolors_core.render.settings import Ray

pytest.importorskip("ray", reason='Ray is not installed: pip install "ray[data]"')
pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters are for Linux")]

STUB = Path(__file__).resolve().with_name("stub")
ROWS = [{"prompt": f"prompt {i % 5}", "seed": i // 2, "negative": "blurred"} for i in range(20)]
ROWS += [ROWS[0]] * 4  # rows may be equal
NODES = ({"num_cpus": 2}, {"num_cpus": 3, "num_gpus": 1}, {"num_cpus": 1, "resources": {"large": 1}})


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODES[0], "include_dashboard": False})
    nodes = [cluster.add_node(**each) for each in NODES[1:]]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()


@pytest.fixture
def expected(command):
    """What comes out on one machine."""
    table = command.table(ROWS)
    assert command.run(table, out=str(command.folder / "one")).returncode == 0
    return table, command.hashes(command.folder / "one")


def test_workers_on_three_nodes_draw_the_same_bits(command, cluster, expected):
    table, hashes = expected
    done = command.run(table, "--ray", cluster[0].address, "--workers", "1-3", "--num-gpus-per-worker", "0")
    assert done.returncode == 0, done.stderr
    assert command.hashes() == hashes
    assert "24 of 24 jobs are done" in done.stdout


def test_encoders_samplers_and_decoders_share_a_job(command, cluster, expected):
    table, hashes = expected
    journal = command.folder / "journal"
    split = ("--split", "--encoders", "2", "--decoders", "1", "--num-cpus-per-worker", "0.5")
    done = command.run(table, "--ray", cluster[0].address, *split, options=f"--journal {journal}")
    assert done.returncode == 0, done.stderr
    assert command.hashes() == hashes
    runs = journal.read_text().split()
    assert runs.count("KolorsConditioningSave") == 6, "each prompt is encoded once: five, and the negative one"
    assert (runs.count("SaveLatent"), runs.count("SaveImage")) == (24, 24)


def running(name: str) -> list[int]:
    """Processes whose command line has `name` in it."""
    import psutil

    found = psutil.process_iter(["pid", "cmdline"])
    return [each.info["pid"] for each in found if name in " ".join(each.info["cmdline"] or [])]


def wait_for_jobs(command, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(list(command.out.glob("images/*/*.png"))) < count:
        assert time.monotonic() < deadline, f"fewer than {count} jobs in five minutes"
        time.sleep(0.02)


def test_whatever_is_killed_costs_nothing_but_time(command, cluster, expected):
    table, hashes = expected
    cluster, nodes = cluster
    options = f"--seconds 0.3 --journal {command.folder / 'journal'}"  # by which its processes are known
    line = command.line(
        table, "--ray", cluster.address, "--workers", "3", "--num-gpus-per-worker", "0", options=options
    )
    with command.start(line) as driver:
        wait_for_jobs(command, 2)
        os.kill(running("ray::MapWorker")[0], signal.SIGKILL)  # an actor
        wait_for_jobs(command, 6)
        comfyui = [pid for pid in running(f"{STUB / 'main.py'}") if pid in running(f"{command.folder / 'journal'}")]
        os.kill(next(pid for pid in comfyui if pid != driver.pid), signal.SIGKILL)
        wait_for_jobs(command, 10)
        cluster.remove_node(nodes.pop(), allow_graceful=False)  # a raylet, with all on it
        said, _ = driver.communicate(timeout=600)
    assert "24 of 24 jobs are done" in said and driver.returncode == 0, said
    assert command.hashes() == hashes
    nodes.append(cluster.add_node(**NODES[2]))


def test_a_run_whose_driver_was_stopped_or_killed_goes_on(command, cluster, expected):
    table, hashes = expected
    line = command.line(table, "--ray", cluster[0].address, "--workers", "2", options="--seconds 0.3")
    with command.start(line) as driver:
        wait_for_jobs(command, 3)
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 130 and "the same command goes on" in said and "Traceback" not in said, said
    with command.start(line) as driver:
        wait_for_jobs(command, 9)
        driver.kill()
        driver.communicate(timeout=600)
    done = command.run(table, "--ray", cluster[0].address, "--workers", "2")
    assert done.returncode == 0 and " 0 of them done before" not in done.stdout, done.stderr
    assert command.hashes() == hashes


def test_what_ray_refuses_is_said_in_a_sentence(monkeypatch):
    import ray

    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.18")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(
        KolorsError, match=r"Ray at 1.2.3.4:6379 cannot be used: Version mismatch.*Ray: 2.9.0.*the same"
    ):
        connect("1.2.3.4:6379")


def test_more_workers_than_a_machine_has_are_refused(capsys):
    few = {"CPU": 2.0}
    check_resources(Ray(None, (2, 4)), few)
    with pytest.raises(KolorsError, match=r"need more than there is: 3 CPUs of 2. Ask for fewer"):
        check_resources(Ray(None, (2, 2), encoders=(1, 1)), few)
    check_resources(Ray("auto", (1, 8), gpus=1.0), few)
    assert "1 GPUs of 0. They start when the cluster has grown" in capsys.readouterr().err


def test_chunks_get_smaller_towards_the_end():
    sizes = list(chunk_sizes(5000, 64))
    assert sum(sizes) == 5000 and sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 9 and sizes[-512:] == [1] * 512
    assert max(chunk_sizes(100_000, 1)) == 32 and list(chunk_sizes(3, 8)) == [1, 1, 1]
