"""What the pools of a cluster consist of: actors that each have a worker, and take chunks of jobs.

A chunk is a table of one row: the jobs, and what an actor before this one made for each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, cast

import pyarrow

from ..errors import KolorsError
from .jobs import Job
from .outputs import Made, add_seconds
from .settings import Settings
from .stages import CONDITIONING, LATENT, Cut, hash_output
from .worker import Worker

FATAL = "fatal"  # what an actor tells in the place of a line when nothing can go on
ENDED = "chunk ended"  # what it tells of a chunk: the keys of its jobs
Chunk = list[tuple[Job, Made]]
SCHEMA = pyarrow.schema(
    {
        "jobs": pyarrow.list_(pyarrow.string()),
        "outputs": pyarrow.list_(pyarrow.list_(pyarrow.string())),
        "contents": pyarrow.list_(pyarrow.list_(pyarrow.large_binary())),
        "seconds": pyarrow.list_(pyarrow.string()),
    }
)


def pack(chunk: Iterable[tuple[Job, Made]]) -> pyarrow.Table:
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for job, made in chunk:
        columns["jobs"].append(job.to_json())
        columns["outputs"].append(list(made.outputs))
        columns["contents"].append(list(made.outputs.values()))
        columns["seconds"].append(json.dumps(made.seconds))
    return pyarrow.table({name: [values] for name, values in columns.items()}, SCHEMA)


def unpack(table: pyarrow.Table) -> Chunk:
    return [
        (Job.from_json(job), Made(dict(zip(outputs, contents)), json.loads(seconds)))
        for row in table.to_pylist()
        for job, outputs, contents, seconds in zip(*(row[name] for name in SCHEMA.names))
    ]


class Actor:
    """A worker in an actor. What ends the run is told through the queue, and raised where there is no worker at all."""

    def __init__(self, settings: Settings, queue: Any):
        self.queue = queue
        try:
            self.worker = Worker(settings)
        except KolorsError as error:
            queue.put({FATAL: str(error)})
            raise

    def __del__(self) -> None:
        """Ray Data lets go of an actor that it does not need any more; one that is killed never gets here."""
        if hasattr(self, "worker"):
            self.worker.close()

    def each(self, table: pyarrow.Table, work: Callable[[Job, Made], Made | None]) -> pyarrow.Table:
        """The chunk with what `work` makes of its jobs; those of which it makes nothing are left out."""
        made: Chunk = []
        try:
            for job, given in unpack(table):
                found = work(job, given)
                if found is not None:
                    made.append((job, found))
        except KolorsError as error:
            self.queue.put({FATAL: str(error)})
        return pack(made)


class Drawer(Actor):
    """The last pool: draws, or decodes, and saves. cut: where the jobs were cut; None where they are whole.

    At the end of a chunk it tells so: until then Ray may give the chunk to another one, which looks for single lines.
    """

    def __init__(self, settings: Settings, queue: Any, cut: Cut | None):
        super().__init__(settings, queue)
        self.cut = cut

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        ended = self.each(table, self._draw)
        self.queue.put({ENDED: [(job.row, job.number) for job, _ in unpack(table)]})
        return ended

    def _draw(self, job: Job, given: Made) -> None:
        self.queue.put(self.worker.do(job, self.cut, given))


class Encoder(Actor):
    """Makes the conditioning of each job, but what another encoder has made."""

    def __init__(self, settings: Settings, queue: Any, prompts: Any):
        super().__init__(settings, queue)
        self.prompts = prompts

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        return self.each(table, self._encode)

    def _encode(self, job: Job, given: Made) -> Made | None:
        import ray

        keys = {output: hash_output(output, job.graph) for output in self.worker.find(job, CONDITIONING)}
        found, seconds = dict[str, bytes](), dict[str, float]()
        for output, key in keys.items():
            content: bytes | None = cast(Any, ray.get(self.prompts.take.remote(key)))
            if content is None:
                made = self._make(job, output, key)
                if made is None:
                    return None
                content, seconds = made.outputs[output], add_seconds(seconds, made.seconds)
            found[output] = content
        return Made(found, seconds)

    def _make(self, job: Job, output: str, key: str) -> Made | None:
        """None where it cannot be made, which the worker has recorded."""
        content = None
        try:
            made = self.worker.make(job, CONDITIONING, [output])
            if isinstance(made, Made):
                content = made.outputs[output]
                return made
            self.queue.put(made)
        finally:
            self.prompts.give.remote(key, content)


class Sampler(Actor):
    """Makes the latents of each job, for the decoders."""

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        return self.each(table, self._sample)

    def _sample(self, job: Job, given: Made) -> Made | None:
        outputs = self.worker.find(job, LATENT)
        if not outputs:  # it samples again after it has decoded
            self.queue.put(self.worker.do(job, CONDITIONING, given))
            return None
        made = self.worker.make(job, LATENT, outputs, CONDITIONING, given)
        if isinstance(made, Made):
            return made
        self.queue.put(made)
        return None
