"""Talk to a running ComfyUI as its front end does, through the HTTP API."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy
import safetensors.torch
from PIL import Image

TIMEOUT_SECONDS = 120


class PromptError(Exception):
    """What the user sees of a failed prompt; `kind` is the exception's type on the server."""

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


class Graph(dict):
    """A workflow in API form: `graph.add("KSampler", seed=1, model=unet)` returns the node's first output."""

    def add(self, class_type: str, **inputs: Any) -> Link:
        node = str(len(self) + 1)
        self[node] = {"class_type": class_type, "inputs": {k: list(v) if isinstance(v, Link) else v for k, v in inputs.items()}}
        return Link((node, 0))


class Link(tuple):
    """An output of a node: (node, index)."""

    def output(self, index: int) -> Link:
        return Link((self[0], index))


class Client:
    """One server, its base directory, and prompts run to their end."""

    def __init__(self, url: str, base: Path):
        self.url = url
        self.base = base
        self.serial = itertools.count()

    def request(self, path: str, body: Any = None) -> Any:
        """GET, or POST of `body`; the decoded JSON answer, of an error answer too."""
        data = None if body is None else json.dumps(body).encode()
        message = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(message, timeout=TIMEOUT_SECONDS) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        return json.loads(content) if content else None

    def queue(self, graph: Graph) -> str:
        """Queue a prompt; its id. Raises PromptError where the server's validation refuses it."""
        answer = self.request("/prompt", {"prompt": graph})
        if answer.get("node_errors") or "prompt_id" not in answer:
            raise PromptError(json.dumps(answer, ensure_ascii=False), "validation")
        return answer["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history entry of a finished prompt. Raises PromptError with the server's message."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            entry = self.request(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                for name, message in entry["status"]["messages"]:
                    if name == "execution_error":
                        raise PromptError(message["exception_message"].rstrip(), message["exception_type"].split(".")[-1])
                return entry
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} did not end within {TIMEOUT_SECONDS} s")

    def run(self, graph: Graph) -> dict[str, Any]:
        return self.wait(self.queue(graph))

    def image(self, graph: Graph, samples: Link, vae: Link) -> numpy.ndarray:
        """Decode, save and read back: (batch, height, width, 3) uint8, read from the PNGs that a user would open."""
        images = graph.add("VAEDecode", samples=samples, vae=vae)
        node = graph.add("SaveImage", images=images, filename_prefix=f"test-{next(self.serial)}")
        saved = self.run(graph)["outputs"][node[0]]["images"]
        return numpy.stack([numpy.asarray(Image.open(self.base / "output" / item["subfolder"] / item["filename"])) for item in saved])

    def latent(self, graph: Graph, samples: Link):
        """Save the latent and read it back: a float32 tensor, exact."""
        prefix = f"latents/test-{next(self.serial)}"
        graph.add("SaveLatent", samples=samples, filename_prefix=prefix)
        self.run(graph)
        (file,) = (self.base / "output" / "latents").glob(f"{Path(prefix).name}_*.latent")
        return safetensors.torch.load_file(file)["latent_tensor"]
