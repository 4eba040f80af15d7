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
from comfyui_kolors.demo import random_models
from PIL import Image
from torch import Tensor

TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.02

UNET, ENCODER, VAE = (
    Path(file).name for file in (random_models.UNET_FILE, random_models.TEXT_ENCODER_FILE, random_models.VAE_FILE)
)
PROMPT = "一只红苹果, a red apple on a yellow background"


class PromptError(Exception):
    """What the user sees of a failed prompt; `kind` is the exception's type on the server, `node` the node's."""

    def __init__(self, message: str, kind: str, node: str = ""):
        super().__init__(message)
        self.kind = kind
        self.node = node


class Link(tuple):
    """An output of a node: (node, index)."""

    def output(self, index: int) -> Link:
        return Link((self[0], index))


class Graph(dict):
    """A workflow in API form: `graph.add("KSampler", seed=1, model=unet)` returns the node's first output."""

    def add(self, class_type: str, **inputs: Any) -> Link:
        node = str(len(self) + 1)
        plain = {name: list(value) if isinstance(value, Link) else value for name, value in inputs.items()}
        self[node] = {"class_type": class_type, "inputs": plain}
        return Link((node, 0))


class KolorsGraph(Graph):
    """The stock text-to-image workflow on the tiny random Kolors. A test replaces the part that it is about."""

    def __init__(self, unet: str = UNET, encoder: str = ENCODER, vae: str = VAE):
        super().__init__()
        self.model = self.add("KolorsUNETLoader", unet_name=unet, weight_dtype="default")
        self.clip = self.add("KolorsChatGLM3Loader", text_encoder_name=encoder, weight_dtype="default")
        self.vae = self.add("VAELoader", vae_name=vae)

    def encode(self, text: str = PROMPT) -> Link:
        return self.add("CLIPTextEncode", clip=self.clip, text=text)

    def empty_latent(self, width: int = 64, height: int = 64, batch_size: int = 1) -> Link:
        return self.add("EmptyLatentImage", width=width, height=height, batch_size=batch_size)

    def sample(
        self, positive: Link | None = None, negative: Link | None = None, latent: Link | None = None, **changes: Any
    ) -> Link:
        """A KSampler; `changes` are its own inputs."""
        inputs = {
            "model": self.model,
            "positive": positive or self.encode(),
            "negative": negative or self.encode(""),
            "latent_image": latent or self.empty_latent(),
            "seed": 1,
            "steps": 2,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        return self.add("KSampler", **(inputs | changes))


class Client:
    """One server, its base directory and its log, and prompts run to their end."""

    def __init__(self, url: str, base: Path, log: Path):
        self.url = url
        self.base = base
        self.log = log
        self.serial = itertools.count()

    def request(self, path: str, body: Any = None) -> Any:
        """GET, or POST of `body`; the decoded JSON answer, of an error answer too."""
        data = None if body is None else json.dumps(body).encode()
        message = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine
        try:
            with opener.open(message, timeout=TIMEOUT_SECONDS) as answer:
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
                if error := messages(entry).get("execution_error"):
                    kind = error["exception_type"].split(".")[-1]
                    raise PromptError(error["exception_message"].rstrip(), kind, error["node_type"])
                return entry
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"prompt {prompt_id} did not end within {TIMEOUT_SECONDS} s")

    def run(self, graph: Graph) -> dict[str, Any]:
        return self.wait(self.queue(graph))

    def free(self) -> None:
        """Make the server unload the models and forget every node's output, so that the next prompt is computed."""
        self.request("/free", {"unload_models": True, "free_memory": True})
        # The server frees behind a prompt, and may take one that was queued right after the request first.
        graph = KolorsGraph()
        self.save_latent(graph, graph.empty_latent(16, 16))
        self.run(graph)

    def image(self, graph: KolorsGraph, samples: Link, vae: Link | None = None) -> numpy.ndarray:
        """Decode, save and read back the PNGs that a user would open: (batch, height, width, 3) uint8, not constant."""
        images = graph.add("VAEDecode", samples=samples, vae=vae or graph.vae)
        node = graph.add("SaveImage", images=images, filename_prefix=f"test-{next(self.serial)}")
        files = self.saved_files(self.run(graph), node, "images")
        pixels = numpy.stack([numpy.asarray(Image.open(file)) for file in files])
        assert all(image.std() > 1 for image in pixels), "an image of one colour"
        return pixels

    def latent(self, graph: Graph, samples: Link) -> Tensor:
        """Save a latent and read it back, exact: (batch, 4, height / 8, width / 8) float32, finite and not constant."""
        node = self.save_latent(graph, samples)
        return self.read_latent(self.run(graph), node)

    def save_latent(self, graph: Graph, samples: Link) -> Link:
        return graph.add("SaveLatent", samples=samples, filename_prefix=f"latents/test-{next(self.serial)}")

    def read_latent(self, entry: dict[str, Any], node: Link) -> Tensor:
        """What the SaveLatent `node` of a finished prompt wrote."""
        (file,) = self.saved_files(entry, node, "latents")
        latent = safetensors.torch.load_file(file)["latent_tensor"]
        assert latent.isfinite().all(), "a latent with NaN or infinity"
        assert latent.std() > 0, "a latent of one value"
        return latent

    def read_log(self) -> str:
        """All that the server has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def saved_files(self, entry: dict[str, Any], node: Link, kind: str) -> list[Path]:
        items = entry["outputs"][node[0]][kind]
        return [self.base / "output" / item["subfolder"] / item["filename"] for item in items]


def messages(entry: dict[str, Any]) -> dict[str, Any]:
    """What the server said of a prompt, by the message's name: execution_cached, execution_error, ..."""
    return dict(entry["status"]["messages"])


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    return ((found - expected).norm() / expected.norm()).item()
