"""One ComfyUI over HTTP and its web socket: run a graph, and fetch what it saved.

Source: the routes and messages of ComfyUI's ``server.py`` and ``execution.py``.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ..errors import KolorsError
from .workflow import Graph

FINAL = ("execution_error", "execution_interrupted")
#: What a node's first output makes of its time, in the manifest.
STAGES = {
    "MODEL": "load",
    "CLIP": "load",
    "VAE": "load",
    "CONTROL_NET": "load",
    "CONDITIONING": "encode",
    "LATENT": "sample",
    "IMAGE": "decode",
}


class Refused(KolorsError):
    """ComfyUI does not take the graph: trying again would change nothing."""


class Failed(KolorsError):
    """A node failed."""


class Lost(KolorsError):
    """ComfyUI is gone, or silent."""


@dataclass
class Run:
    """A graph in ComfyUI's queue: what its output nodes said, the seconds of each node, and how it ended.

    began: when its turn came, by the monotonic clock.
    """

    outputs: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    error: KolorsError | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)
    node: str | None = None
    since: float = 0.0

    def enter(self, node: str | None) -> None:
        """A node begins, or the last one has ended."""
        now = time.monotonic()
        if self.node is not None:
            self.seconds[self.node] = self.seconds.get(self.node, 0.0) + now - self.since
        self.node, self.since = node, now


class Client:
    """Runs graphs on the server at `url`, several at a time as far as it lets them. Used in one event loop only."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.id = uuid.uuid4().hex
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=120))
        self.runs: dict[str, Run] = {}
        self.heard = time.monotonic()
        self.listener: asyncio.Task | None = None
        self.lost: str | None = None
        self.nodes: dict[str, dict] = {}
        self.versions: dict[str, str] = {}
        self.device = ""

    async def connect(self) -> None:
        """Ask what the server is, and listen to it. Raises Lost where it does not answer."""
        try:
            self.nodes = await self._json("GET", "/object_info")
            stats = await self._json("GET", "/system_stats")
            socket = await self.session.ws_connect(
                f"{self.url}/ws", params={"clientId": self.id}, max_msg_size=0, heartbeat=60
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Lost(f"{self.url} does not answer as ComfyUI does ({_reason(error)}).") from error
        system, devices = stats.get("system", {}), stats.get("devices") or [{}]
        self.versions = {
            "comfyui": str(system.get("comfyui_version", "")),
            "torch": str(system.get("pytorch_version", "")),
            "python": str(system.get("python_version", "")).split(" ")[0],
        }
        self.device = str(devices[0].get("name", ""))
        self.listener = asyncio.create_task(self._listen(socket))

    async def close(self) -> None:
        if self.listener:
            self.listener.cancel()
        await self.session.close()

    async def answers(self) -> bool:
        try:
            await self._json("GET", "/system_stats")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False
        return True

    async def run(self, graph: Graph, silence: float) -> Run:
        """Run a graph to its end. `silence`: seconds without a word of the server after which it is taken for lost.

        Raises Refused, Failed or Lost.
        """
        if self.lost:
            raise Lost(self.lost)
        began, id = time.monotonic(), str(uuid.uuid4())
        run = self.runs[id] = Run()
        try:
            answer = await self._json("POST", "/prompt", {"prompt": graph, "client_id": self.id, "prompt_id": id})
            if answer.get("error") or answer.get("node_errors"):
                raise Refused(describe_refusal(answer, graph))
            while not run.done.is_set():
                left = silence - (time.monotonic() - max(began, self.heard))
                if left <= 0:
                    raise Lost(f"ComfyUI has not said anything for {silence:.0f} s.")
                try:
                    await asyncio.wait_for(run.done.wait(), left)
                except asyncio.TimeoutError:
                    continue
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Lost(f"{self.url} does not answer any more ({_reason(error)}).") from error
        finally:
            self.runs.pop(id, None)
        if run.error:
            raise run.error
        run.seconds = self._by_stage(run.seconds, graph)
        return run

    async def fetch(self, file: dict[str, str]) -> bytes:
        """A file that an output node saved. Raises Lost, or Failed where it is not there."""
        names = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        try:
            async with self.session.get(f"{self.url}/view", params=names) as answer:
                if answer.status != 200:
                    raise Failed(f"ComfyUI saved {names['filename']}, and does not give it (status {answer.status}).")
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Lost(f"{self.url} does not answer any more ({_reason(error)}).") from error

    async def upload(self, name: str, content: bytes) -> str:
        """Put an image where the nodes that load images find it; what they call it there."""
        form = aiohttp.FormData()
        form.add_field("image", content, filename=name, content_type="application/octet-stream")
        for key, value in (("type", "temp"), ("subfolder", "kolors-render"), ("overwrite", "true")):
            form.add_field(key, value)
        try:
            async with self.session.post(f"{self.url}/upload/image", data=form) as answer:
                if answer.status != 200:
                    raise Failed(f"ComfyUI does not take the image {name} (status {answer.status}).")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Lost(f"{self.url} does not answer any more ({_reason(error)}).") from error
        return f"kolors-render/{name} [temp]"

    async def interrupt(self) -> None:
        """Take what this client waits for out of the queue, and stop what runs, if it is this client's."""
        try:
            await self._json("POST", "/queue", {"delete": list(self.runs)})
            for id in list(self.runs):
                await self._json("POST", "/interrupt", {"prompt_id": id})
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            pass

    # ---- messages

    async def _listen(self, socket: Any) -> None:
        try:
            async for message in socket:
                self.heard = time.monotonic()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._hear(json.loads(message.data))
            self.lost = f"{self.url} has closed the connection."
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.lost = f"The connection to {self.url} broke ({_reason(error)})."
        finally:
            self.lost = self.lost or "The connection was closed."
            for run in self.runs.values():
                run.error = Lost(self.lost)
                run.done.set()

    def _hear(self, message: dict[str, Any]) -> None:
        kind, data = message.get("type"), message.get("data") or {}
        run = self.runs.get(str(data.get("prompt_id")))
        if run is None:  # of another client, or of none
            return
        if kind == "execution_start":
            run.began = time.monotonic()
        elif kind == "executing":
            run.enter(data.get("node"))
            if data.get("node") is None:
                run.done.set()
        elif kind == "executed":
            run.outputs[str(data.get("node"))] = data.get("output") or {}
        elif kind in FINAL:
            run.error = Failed(_describe_failure(data) if kind == FINAL[0] else "It was interrupted in ComfyUI.")
            run.enter(None)

    def _by_stage(self, seconds: dict[str, float], graph: Graph) -> dict[str, float]:
        found: dict[str, float] = {}
        for node, each in seconds.items():
            kind = graph[node]["class_type"] if node in graph else ""
            outputs = self.nodes.get(kind, {}).get("output") or [""]
            stage = STAGES.get(outputs[0] if isinstance(outputs[0], str) else "", "other")
            found[stage] = found.get(stage, 0.0) + each
        return {stage: round(each, 4) for stage, each in found.items()}

    async def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with self.session.request(method, self.url + path, json=body) as answer:
            text = await answer.text()
        data = json.loads(text) if text else {}
        return data if isinstance(data, dict) else {}


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _describe_failure(data: dict[str, Any]) -> str:
    text = str(data.get("exception_message", "")).strip()
    return f"{data.get('node_type')} ({data.get('node_id')}): {text or data.get('exception_type')}"


def describe_refusal(answer: dict[str, Any], graph: Graph) -> str:
    """ComfyUI's answer to a graph that it does not take, as sentences: of the nodes, or else of the whole."""
    parts = []
    for id, node in (answer.get("node_errors") or {}).items():
        kind = graph[id]["class_type"] if id in graph else node.get("class_type", "")
        parts += [f"{kind} ({id}): {each.get('message')}: {each.get('details')}" for each in node.get("errors", [])]
    error = answer.get("error")
    if not parts and isinstance(error, dict):
        parts = [": ".join(filter(None, (error.get("message"), error.get("details"))))]
    return "ComfyUI does not take this graph. " + ("; ".join(parts) or str(error))
