"""What stands in for a ComfyUI process: its routes and messages, and nodes that make a hash of what goes into them.

Started as ComfyUI is, by `main.py` with its options. A graph takes ``--seconds``, as on a card that is busy with
nothing else. Texts do what they say: FAIL is an error of a node, CRASH ends the process, CRASH-ONCE does so the first
time in the folder that follows, HANG never says a word again. ``--journal`` is a file that gets a line for each node
that saves.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path

from aiohttp import web

OUTPUTS = {
    "CheckpointLoaderSimple": ["MODEL", "CLIP", "VAE"],
    "CLIPTextEncode": ["CONDITIONING"],
    "ConditioningCombine": ["CONDITIONING"],
    "EmptyLatentImage": ["LATENT"],
    "KSampler": ["LATENT"],
    "VAEDecode": ["IMAGE"],
    "LoadImage": ["IMAGE", "MASK"],
    "VAEEncode": ["LATENT"],
    "SaveImage": [],
    "KolorsConditioningSave": [],
    "KolorsConditioningLoad": ["CONDITIONING"],
    "SaveLatent": ["LATENT"],
    "LoadLatent": ["LATENT"],
}
LOADS = ("KolorsConditioningLoad", "LoadLatent")
SAVES = {"SaveImage": "images", "SaveLatent": "latents", "KolorsConditioningSave": ""}


class Trouble(Exception):
    """What a node says when it fails."""


def png(value: str) -> bytes:
    """An image of eight pixels that differs with `value`, with a stamp such as ComfyUI leaves in its own."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0" + hashlib.sha256(value.encode()).digest()[:24])
    stamp = chunk(b"tEXt", b"prompt\0" + json.dumps({"made by": os.getpid()}).encode())
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + stamp + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class Stub:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.waiting: asyncio.Queue = asyncio.Queue()
        self.counter = 0
        self.last: dict[str, tuple[dict, str]] = {}
        self.said: dict[str, dict] = {}

    # ---- nodes

    def output(self, link: list, graph: dict, known: dict) -> str:
        """The value of an output; of one that was saved, what it was then."""
        id, slot = str(link[0]), link[1]
        value = self.value(id, graph, known)
        return value if graph[id]["class_type"] in LOADS else f"{value}/{slot}"

    def value(self, id: str, graph: dict, known: dict) -> str:
        """A hash of a node, its inputs, and all before it; what a file holds where it loads one."""
        if id not in known:
            node, inputs = graph[id], {}
            for name, value in node["inputs"].items():
                if isinstance(value, list) and str(value[0]) in graph:
                    value = self.output(value, graph, known)
                if name != "filename_prefix":
                    inputs[name] = value
            if node["class_type"] in LOADS:
                known[id] = self.find(next(iter(inputs.values()))).read_text()
            elif node["class_type"] == "LoadImage":
                known[id] = hashlib.sha256(self.find(inputs["image"]).read_bytes()).hexdigest()
            else:
                self.misbehave(str(inputs.get("text", "")))
                known[id] = hashlib.sha256(json.dumps([node["class_type"], inputs]).encode()).hexdigest()
        return known[id]

    def find(self, name: str) -> Path:
        name, _, kind = name.partition(" [")
        folders = {"output": self.options.output_directory, "temp": f"{self.options.temp_directory}/temp"}
        return Path(folders[kind.rstrip("]") or "output"], name)

    def misbehave(self, text: str) -> None:
        what, _, folder = text.partition(":")
        if what == "FAIL":
            raise Trouble("it fails, as it was told to")
        if what == "CRASH":
            os._exit(3)
        if what == "CRASH-ONCE" and not Path(folder, "crashed").exists():
            Path(folder, "crashed").touch()
            os._exit(3)

    async def run(self, id: str, graph: dict, client: str) -> None:
        async def tell(kind: str, **data: object) -> None:
            if client in self.sockets and not self.sockets[client].closed:
                await self.sockets[client].send_json({"type": kind, "data": {"prompt_id": id, **data}})

        if any(node["inputs"].get("text") == "HANG" for node in graph.values()):
            await asyncio.sleep(3600)
        await tell("execution_start")
        known: dict[str, str] = {}
        for node, each in graph.items():
            if each["class_type"] not in SAVES:
                continue
            try:
                await tell("executing", node=node)
                if each["class_type"] != "KolorsConditioningSave":
                    await asyncio.sleep(self.options.seconds)
                source = next(value for value in each["inputs"].values() if isinstance(value, list))
                value = self.output(source, graph, known)
                if (each, value) == self.last.get(node):  # as ComfyUI does: it tells again what it saved before
                    await tell("executed", node=node, output=self.said[node])
                    continue
                if self.options.journal:
                    with open(self.options.journal, "a") as journal:
                        journal.write(each["class_type"] + "\n")
                self.last[node] = (copy.deepcopy(each), value)
                self.said[node] = self.save(each, value)
                await tell("executed", node=node, output=self.said[node])
            except Trouble as error:
                await tell("execution_error", node_id=node, node_type=each["class_type"], exception_message=str(error))
                break
        await tell("executing", node=None)

    def save(self, node: dict, value: str) -> dict:
        self.counter += 1
        prefix = Path(self.options.output_directory, f"{node['inputs']['filename_prefix']}_{self.counter:05}_")
        prefix.parent.mkdir(parents=True, exist_ok=True)
        kind = SAVES[node["class_type"]]
        suffix = {"images": ".png", "latents": ".latent"}.get(kind, ".safetensors")
        path = prefix.with_name(prefix.name + suffix)
        path.write_bytes(png(value) if kind == "images" else value.encode())
        if not kind:
            return {"text": [str(path)]}
        folder = path.parent.relative_to(self.options.output_directory).as_posix()
        return {kind: [{"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}]}

    # ---- routes

    async def work(self) -> None:
        while True:
            await self.run(*await self.waiting.get())

    async def prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        unknown = {
            id: {"errors": [{"message": "No such node", "details": node["class_type"]}]}
            for id, node in body["prompt"].items()
            if node["class_type"] not in OUTPUTS
        }
        if unknown:
            return web.json_response({"error": {"message": "Invalid"}, "node_errors": unknown}, status=400)
        await self.waiting.put((body["prompt_id"], body["prompt"], body["client_id"]))
        return web.json_response({"prompt_id": body["prompt_id"], "node_errors": {}})

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        async for _ in socket:
            pass
        return socket

    async def view(self, request: web.Request) -> web.StreamResponse:
        path = Path(self.options.output_directory, request.query["subfolder"], request.query["filename"])
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form["image"]
        folder = Path(self.options.temp_directory, "temp", str(form["subfolder"]))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.filename).write_bytes(image.file.read())
        return web.json_response({"name": image.filename})

    async def info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {kind: {"output": outputs, "output_node": kind in SAVES} for kind, outputs in OUTPUTS.items()}
        )

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "stub"}, "devices": [{"name": "stub"}]})

    async def nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.post("/prompt", self.prompt),
                web.get("/ws", self.socket),
                web.get("/view", self.view),
                web.post("/upload/image", self.upload),
                web.get("/object_info", self.info),
                web.get("/system_stats", self.stats),
                web.post("/queue", self.nothing),
                web.post("/interrupt", self.nothing),
            ]
        )

        async def start(app: web.Application) -> None:
            self.worker = asyncio.create_task(self.work())

        app.on_startup.append(start)
        return app


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--listen", "--port", "--output-directory", "--temp-directory", "--database-url", "--journal"):
        parser.add_argument(name)
    parser.add_argument("--disable-auto-launch", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--no-start", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if options.no_start:
        raise SystemExit("this ComfyUI does not start")
    web.run_app(Stub(options).app(), host=options.listen, port=int(options.port), print=None)


if __name__ == "__main__":
    main()
