"""A worker: one ComfyUI, of its own or that of a URL, and the jobs that it does with it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ..errors import KolorsError
from .client import Client, Failed, Lost, Refused, Run
from .comfyui import ComfyUI, NoComfyUI, find_comfyui
from .jobs import Job
from .manifest import Line, Manifest, image_folder, line_name
from .outputs import Made, OutputFolder, add_seconds, list_files
from .png import put_graph
from .settings import BESIDE, Settings
from .stages import SAVE, Cut
from .storage import StorageFault, open_storage, read_file, split
from .workflow import Graph

ATTEMPTS = 3
RETRY_SECONDS = 60.0  # for a server of another's to come back
DYING_SECONDS = 2.0  # from a broken connection to the end of its process
NOTHING = Made({}, {})
T = TypeVar("T")


class Worker:
    """Does jobs, from any number of threads. Raises NoComfyUI where there is no ComfyUI to do them with."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.storage = open_storage(settings.out)
        self.manifest = Manifest(self.storage)
        self.host = None if settings.server else ComfyUI(find_comfyui(settings.comfyui), settings.options)
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self.client: Client | None = None
        self.folder = OutputFolder(self.host) if self.host else None
        self.turns, self.taking, self.renewing = asyncio.Semaphore(BESIDE), asyncio.Lock(), asyncio.Lock()
        self.closed = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="kolors-render", daemon=True)
        self.thread.start()
        try:
            self.wait(self._ready())
        except BaseException:
            self.close()
            raise

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work in the worker's own event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """End the ComfyUI of its own, or stop what runs in another's."""
        if self.closed:
            return
        self.closed = True
        self.wait(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        if self.host:
            self.host.close()

    async def _cancel(self) -> None:
        if self.client and self.host is None:
            await self.client.interrupt()
        if self.client:
            await self.client.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def do(self, job: Job, cut: Cut | None = None, given: Made = NOTHING) -> Line:
        """Draw a job and record it; its line. One that is recorded already is not drawn again.

        given: what `make` of another worker made of the same job with `cut`. Raises StorageFault or NoComfyUI where no
        other job could be done either.
        """
        return self.wait(self._do(job, cut, given))

    def make(
        self, job: Job, cut: Cut, outputs: list[str], before: Cut | None = None, given: Made = NOTHING
    ) -> Made | Line:
        """What these outputs of a job are, which `cut` found, or the line that records why they cannot be made.

        before, given: as in `do`. Raises as `do` does.
        """
        return self.wait(self._make(job, cut, outputs, before, given))

    def find(self, job: Job, cut: Cut) -> list[str]:
        """The outputs that a cut goes through."""
        client = self.wait(self._ready())
        return cut.find(job.graph, client.nodes)

    # ---- one job

    async def _do(self, job: Job, cut: Cut | None, given: Made) -> Line:
        if line := await asyncio.to_thread(self._recorded, job):
            return line
        began = time.time()

        async def draw(alone: bool) -> dict[str, Any]:
            async with self._turn(alone):
                client = await self._ready()
                graph = await self._prepare(client, job)
                run = await self._run(client, self._own_folder().load(cut, given.outputs, graph) if cut else graph)
                drawn = time.monotonic()
            contents = await self._contents(client, run)
            fetched = time.monotonic()
            files = await asyncio.to_thread(self._save, job, contents)
            ended = time.monotonic()
            seconds = {"fetch": fetched - drawn, "write": ended - fetched, "all": ended - run.began}
            return {"files": files, "seconds": add_seconds(given.seconds, run.seconds, seconds)}

        return await self._record(job, began, *await self._attempt(draw))

    async def _make(self, job: Job, cut: Cut, outputs: list[str], before: Cut | None, given: Made) -> Made | Line:
        began = time.time()

        async def make(alone: bool) -> Made:
            async with self._turn(alone):
                client = await self._ready()
                graph = await self._prepare(client, job)
                folder = self._own_folder()
                graph = folder.load(before, given.outputs, graph) if before else graph
                run = await self._run(client, cut.before(graph, outputs))
                saved = [run.outputs.get(SAVE.format(index), {}) for index in range(len(outputs))]
                made = dict(zip(outputs, await asyncio.to_thread(folder.take, saved)))
                seconds = add_seconds(given.seconds, run.seconds, {"all": time.monotonic() - run.began})
                return Made(made, seconds)

        made, attempts, error = await self._attempt(make)
        return made if made is not None else await self._record(job, began, None, attempts, error)

    async def _attempt(self, work: Callable[[bool], Awaitable[T]]) -> tuple[T | None, int, str]:
        """What work gives, tried ATTEMPTS times; how often it was tried; the last error where it gave nothing."""
        error, alone = "", False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await work(alone), attempt, ""
            except (StorageFault, NoComfyUI):
                raise
            except Refused as refused:
                return None, attempt, str(refused)
            except Lost as lost:
                error, alone = str(lost), True  # so that no other job is lost with this one
            except KolorsError as failed:
                error = str(failed)
        return None, ATTEMPTS, error

    async def _record(self, job: Job, began: float, drawn: dict[str, Any] | None, attempts: int, error: str) -> Line:
        client = self.client
        line = {"row": job.row, "number": job.number, "seed": job.seed, "values": job.values, "hash": job.hash}
        line |= drawn or {"files": [], "seconds": {}}
        line |= {"attempts": attempts, "worker": self.name, "device": client.device if client else ""}
        line |= {"versions": client.versions if client else {}}
        line |= {"began": round(began, 3), "ended": round(time.time(), 3), "error": error or None}
        await asyncio.to_thread(self.manifest.record, line)
        return line

    def _recorded(self, job: Job) -> Line | None:
        """The line of a job that another worker has done, and did not live to tell."""
        name = line_name(job.row, job.number)
        if not self.storage.exists(name):
            return None
        lines = [line for line in self.manifest.read(name) if line["hash"] == job.hash and not line["error"]]
        return lines[0] if lines else None

    @asynccontextmanager
    async def _turn(self, alone: bool) -> AsyncIterator[None]:
        """One of the places in ComfyUI's queue, or all of them."""
        places = BESIDE if alone else 1
        async with self.taking:
            for _ in range(places):
                await self.turns.acquire()
        try:
            yield
        finally:
            for _ in range(places):
                self.turns.release()

    async def _prepare(self, client: Client, job: Job) -> Graph:
        """The graph that ComfyUI gets: with uploaded images, and names for what it saves that no other job has."""
        graph = {id: {**node, "inputs": dict(node["inputs"])} for id, node in job.graph.items()}
        for target, location in job.images.items():
            content = await asyncio.to_thread(read_file, location)
            suffix = PurePosixPath(split(location)[1].partition("?")[0]).suffix
            node, _, name = target.rpartition(".")
            graph[node]["inputs"][name] = await client.upload(
                hashlib.sha256(content).hexdigest()[:32] + suffix, content
            )
        for node in graph.values():
            prefix = node["inputs"].get("filename_prefix")
            if isinstance(prefix, str):
                node["inputs"]["filename_prefix"] = f"{prefix}_{job.id}"
        return graph

    async def _run(self, client: Client, graph: Graph) -> Run:
        try:
            return await client.run(graph, self.settings.silence)
        except Lost as lost:
            since, ended = time.monotonic(), ""
            while self.host and client.lost and not ended and time.monotonic() - since < DYING_SECONDS:
                ended = self.host.ended()
                await asyncio.sleep(0.1)
            client.lost = client.lost or str(lost)
            raise Lost(ended or str(lost)) from lost

    async def _contents(self, client: Client, run: Run) -> list[tuple[str, bytes]]:
        """Name and content of each file that was saved; previews where nothing else was. Raises Failed for none."""
        found = [file for node in sorted(run.outputs) for file in list_files(run.outputs[node])]
        kept = [file for file in found if file.get("type") == "output"] or found
        if not kept:
            raise Failed("The workflow saved no file. It needs a node such as Save Image.")
        contents = [(file["filename"], await client.fetch(file)) for file in kept]
        if self.folder:
            self.folder.delete(found)
        return contents

    def _save(self, job: Job, contents: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
        files = []
        for index, (name, content) in enumerate(contents, 1):
            content = put_graph(content, job.graph)
            part = f"_{index}" if len(contents) > 1 else ""
            stored = f"{image_folder(job.row)}/{job.id}{part}{PurePosixPath(name).suffix.lower()}"
            self.storage.write(stored, content)
            files.append({"name": stored, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
        return files

    # ---- ComfyUI

    def _own_folder(self) -> OutputFolder:
        assert self.folder is not None, "graphs are cut only for a ComfyUI of its own"
        return self.folder

    async def _ready(self) -> Client:
        """A client of a ComfyUI that answers; a new process in the place of one that has ended."""
        async with self.renewing:
            if self.closed:
                raise NoComfyUI("This worker was closed.")
            if self.client and not self.client.lost:
                return self.client
            if self.client:
                await self.client.close()
            self.client = await (self._restart(self.host) if self.host else self._reconnect())
            return self.client

    async def _restart(self, host: ComfyUI) -> Client:
        await asyncio.to_thread(host.stop)
        host.start()
        since, client = time.monotonic(), Client(host.url)
        try:
            while not await client.answers():
                host.check(since)
                await asyncio.sleep(0.1)
            await client.connect()
        except BaseException:
            await client.close()
            raise
        return client

    async def _reconnect(self) -> Client:
        since = time.monotonic()
        while True:
            client = Client(self.settings.server or "")
            try:
                await client.connect()
                return client
            except Lost as lost:
                await client.close()
                if self.client is None or time.monotonic() - since > RETRY_SECONDS:
                    raise NoComfyUI(f"{lost} Start ComfyUI there, or leave --server out.") from None
                await asyncio.sleep(1)
