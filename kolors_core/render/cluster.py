"""All jobs on a Ray cluster, or on a local one: Ray Data streams them through pools of actors, each with its ComfyUI.

A block of the stream is a chunk of jobs. What a job comes to, a worker has written before its chunk ends, and tells it
at once through a queue; the stream itself carries only what the next pool needs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import KolorsError
from .jobs import Plan
from .keys import KeySet
from .manifest import Line, key_of
from .prompts import Prompts
from .settings import BESIDE, Ray, Settings
from .stages import CONDITIONING, LATENT

OLDEST = (2, 59)
#: Is read when Ray is imported: a thread that outlives the run starts no cluster again, and Ray's C++ says only what
#: ends it.
ENVIRONMENT = {"RAY_ENABLE_AUTO_CONNECT": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
LARGEST_CHUNK = 32  # jobs
CPU = "--cpu"  # ComfyUI's option
BUFFER = 256  # chunks that are read ahead
POLL_SECONDS = 0.5


def prepare() -> None:
    """Raises KolorsError where Ray is missing, or too old."""
    os.environ.update(ENVIRONMENT)
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        raise KolorsError(
            f'--ray needs Ray, which is not installed here whole ({error}). Run: pip install "ray[data]", on every '
            "machine with the same version, in the Python that runs ComfyUI."
        ) from None
    if tuple(map(int, ray.__version__.split(".")[:2])) < OLDEST:
        raise KolorsError(
            f"Ray {ray.__version__} is too old: expected {'.'.join(map(str, OLDEST))} or newer. "
            'Run: pip install -U "ray[data]"'
        )


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine. Raises KolorsError with Ray's reason."""
    import ray

    package = Path(__file__).absolute().parents[1]
    options: dict[str, Any] = {"runtime_env": {"py_modules": [str(package)]}, "log_to_driver": False}
    options |= {"logging_level": logging.ERROR, "configure_logging": True}
    options |= {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())[:500].rstrip(".")
        raise KolorsError(
            f"Ray at {address or 'this machine'} cannot be used: {text}. Every machine needs the same Ray and Python, "
            "and the cluster has to be up."
        ) from error


def chunk_sizes(jobs: int, workers: int) -> Iterator[int]:
    """Large chunks first, and single jobs at the end, when all workers are to stop at the same time."""
    while jobs > 0:
        size = min(max(1, jobs // (8 * workers)), LARGEST_CHUNK)
        yield size
        jobs -= size


def run_on_cluster(
    plan: Plan,
    done: KeySet,
    total: int,
    settings: Settings,
    ray_: Ray,
    tell: Callable[[Line], None],
    settle: Callable[[Line], None],
) -> None:
    """Draw every job that is not done; `tell` gets each line, and `settle` again when no worker needs it any more.

    Raises KolorsError where it cannot go on.
    """
    import ray
    from ray.util.queue import Empty, Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from .actors import ENDED, FATAL

    connect(ray_.address)
    try:
        check_resources(ray_, ray.cluster_resources())
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        beside = {"num_cpus": 0, "scheduling_strategy": here}
        queue = Queue(actor_options=beside)
        stream = build(plan, done, total, settings, ray_, queue, beside)
        ended, error = threading.Event(), list[BaseException]()

        def consume() -> None:
            try:
                for _ in stream.iter_batches(batch_size=None, prefetch_batches=0):
                    pass
            except BaseException as raised:
                error.append(raised)
            finally:
                ended.set()

        threading.Thread(target=consume, name="kolors-render", daemon=True).start()
        fresh: dict[tuple, Line] = {}
        while True:
            last = ended.is_set()
            try:
                lines = [queue.get(timeout=POLL_SECONDS)]
                lines += queue.get_nowait_batch(queue.qsize())
            except Empty:
                lines = []
            for line in lines:
                if FATAL in line:
                    raise KolorsError(line[FATAL])
                if ENDED in line:
                    for key in map(tuple, line[ENDED]):
                        if key in fresh:
                            settle(fresh.pop(key))
                elif key_of(line) not in fresh:
                    fresh[key_of(line)] = line
                    tell(line)
            if last and not lines:
                break
        if error:
            raise KolorsError(
                f"Ray gave up: {' '.join(str(error[0]).split())[:500]} The same command goes on."
            ) from error[0]
    finally:
        ray.shutdown()


def build(plan: Plan, done: KeySet, total: int, settings: Settings, ray_: Ray, queue: Any, beside: dict) -> Any:
    """The stream: chunks of jobs, through encoders, samplers and decoders as far as there are."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from .actors import Drawer, Encoder, Sampler

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # every chunk is a block of its own
    context._max_num_blocks_in_streaming_gen_buffer = BUFFER  # else the source gives 10 chunks a second
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    found_gpus = float(ray.cluster_resources().get("GPU", 0) > 0)
    prompts = ray.remote(Prompts).options(**beside).remote() if ray_.encoders else None

    def pool(stream: Any, actor: type, size: tuple[int, int], gpus: float | None, *arguments: Any) -> Any:
        strategy = ActorPoolStrategy(
            min_size=size[0],
            max_size=size[1],
            max_tasks_in_flight_per_actor=BESIDE + 1,
            max_concurrent_calls_per_actor=BESIDE,
            enable_true_multi_threading=True,
        )
        return stream.map_batches(
            actor,
            batch_size=1,
            batch_format="pyarrow",
            compute=strategy,
            num_cpus=ray_.cpus,
            num_gpus=found_gpus if gpus is None else gpus,
            fn_constructor_args=(on_cpu(settings) if gpus == 0 else settings, queue, *arguments),
        )

    stream = ray.data.read_datasource(
        source_of(ray.put((plan, done)), total - len(done), ray_.workers[1]), override_num_blocks=1, num_cpus=0
    )
    if ray_.encoders:
        stream = pool(stream, Encoder, ray_.encoders, ray_.encoder_gpus, prompts)
    if ray_.decoders:
        stream = pool(stream, Sampler, ray_.workers, ray_.gpus)
        return pool(stream, Drawer, ray_.decoders, 0.0, LATENT)
    return pool(stream, Drawer, ray_.workers, ray_.gpus, CONDITIONING if ray_.encoders else None)


def on_cpu(settings: Settings) -> Settings:
    """The same for workers that are to have no card: Ray hides the cards from nobody who asks for none."""
    return settings if CPU in settings.options else replace(settings, options=(*settings.options, CPU))


def check_resources(ray_: Ray, has: Mapping[str, float]) -> None:
    """Compare what the fewest workers need with what there is. Raises KolorsError on one machine, which cannot grow."""
    sizes = [ray_.workers[0], *(size[0] for size in (ray_.encoders, ray_.decoders) if size)]
    needs: dict[str, float] = {"CPU": sum(sizes) * ray_.cpus, "GPU": ray_.workers[0] * (ray_.gpus or 0)}
    needs["GPU"] += ray_.encoders[0] * ray_.encoder_gpus if ray_.encoders else 0
    short = [f"{needs[kind]:g} {kind}s of {has.get(kind, 0):g}" for kind in needs if needs[kind] > has.get(kind, 0)]
    if not short:
        return
    text = f"The workers need more than there is: {', '.join(short)}."
    if ray_.address is None:
        raise KolorsError(f"{text} Ask for fewer workers, or less for each with --num-cpus-per-worker.")
    sys.stderr.write(f"{text} They start when the cluster has grown.\n")


def source_of(plan: Any, missing: int, workers: int) -> Any:
    """A source for Ray Data. plan: reference to the Plan and the done jobs."""
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    from .actors import pack
    from .outputs import Made

    def read() -> Iterator[Any]:
        found, done = ray.get(plan)
        jobs = found.missing(done)
        for size in chunk_sizes(missing, workers):
            yield pack((job, Made({}, {})) for job in islice(jobs, size))

    class Jobs(Datasource):
        def estimate_inmemory_data_size(self) -> int:
            return missing * 4096

        def get_read_tasks(self, parallelism: int, *more: Any, **named: Any) -> list[ReadTask]:
            metadata = BlockMetadata(num_rows=missing, size_bytes=missing * 4096, input_files=None, exec_stats=None)
            return [ReadTask(read, metadata)]

    return Jobs()
