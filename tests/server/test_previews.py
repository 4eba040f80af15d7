"""Previews while a Kolors run goes on: by TAESD where its file is there, else by the host's matrix from latent to RGB.

The miniature draws, whose VAE is a TAESD: its decoder takes the place of the published one, which has the same
topology. After the last step of Euler the preview is the picture itself.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import aiohttp
import numpy
import pytest
import servers
import torch
from client import TIMEOUT_SECONDS, Client, Graph, Link
from comfyui_kolors.devtools import start_options
from comfyui_kolors.devtools.miniature import DEMO_CHECKPOINT
from comfyui_kolors.kolors_core.models.catalog import BY_NAME
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

STEPS, SIDE = 5, 128  # with steps that do not divide 1000 ddim_uniform takes one more
PREVIEW = 1  # the binary message of a preview to a browser that does not ask for more with it
SENT, NEAR = (512, 512), 3.0  # the size that is sent, and how far a value is on average from what it was before JPEG
FILE = BY_NAME["preview-decoder"]
PREFIX = "taesd_decoder."


class Drawn(NamedTuple):
    """What a browser got, and what was saved: an image of the miniature's VAE, and the latent."""

    previews: list[Image.Image]
    image: Image.Image
    latent: torch.Tensor


@pytest.fixture(scope="module", params=["taesd", "auto"])
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def server(method, tmp_path_factory) -> Iterator[Client]:
    """A ComfyUI that is started with the method."""
    base = tmp_path_factory.mktemp(method)
    (base / "models" / FILE.folder).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(start_options.VARIABLE, " ".join([*start_options.given(), "--preview-method", method]))
        with servers.running(base, [servers.ROOT]) as client:
            yield client


@pytest.fixture
def decoder(server) -> Iterator[None]:
    """The decoder's file is where the host looks for it."""
    (vae,) = (servers.ROOT / "demo" / "models" / DEMO_CHECKPOINT / "vae").glob("*.safetensors")
    tensors = {key: tensor.float() for key, tensor in load_file(vae).items() if key.startswith(PREFIX)}
    path = server.base / "models" / FILE.place
    save_file({key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}, path)
    assert path.stat().st_size == FILE.size, "it is made like the published one"
    yield
    path.unlink()


def sample_stock(graph: Graph, **inputs: object) -> Link:
    return graph.add("KSampler", sampler_name="euler", scheduler="ddim_uniform", **inputs)


def sample_ours(graph: Graph, **inputs: object) -> Link:
    return graph.add("KolorsKSampler", sampler="euler", **inputs)


@pytest.fixture(params=[sample_stock, sample_ours], ids=["KSampler", "KolorsKSampler"])
def watch(request, server, seeds=itertools.count(1)) -> Callable[..., Drawn]:  # noqa: B008 - one for all
    """Draws a picture that has not been drawn before; takes what the front end adds to a prompt."""

    def run(**extra: str) -> Drawn:
        graph = Graph()
        model = graph.add("KolorsCheckpointLoader", ckpt_name=DEMO_CHECKPOINT)
        positive, negative = (
            graph.add("CLIPTextEncode", clip=model.output(1), text=text) for text in ("红苹果，黄色背景", "")
        )
        links = {"model": model, "positive": positive, "negative": negative}
        links["latent_image"] = graph.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
        settings = {"seed": next(seeds), "steps": STEPS, "cfg": 4.0, "denoise": 1.0}
        samples = request.param(graph, **links, **settings)
        latent = server.save_latent(graph, samples)
        images = graph.add("VAEDecode", samples=samples, vae=model.output(2))
        saved = graph.add("SaveImage", images=images, filename_prefix="previewed")
        prompt_id, previews = asyncio.run(follow(server, graph, extra))
        entry = server.wait(prompt_id)
        (file,) = server.saved_files(entry, saved, "images")
        return Drawn(previews, Image.open(file), server.read_latent(entry, latent))

    return run


async def follow(server: Client, graph: Graph, extra: dict) -> tuple[str, list[Image.Image]]:
    """Queue a prompt as a browser does, and take what is sent to it until the end."""
    previews, client = [], "watching"
    address, body = f"{server.url}/ws?clientId={client}", {"prompt": graph, "client_id": client, "extra_data": extra}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.ws_connect(address, max_msg_size=0) as socket:
        async with session.post(f"{server.url}/prompt", json=body) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                if struct.unpack(">I", message.data[:4])[0] == PREVIEW:
                    previews.append(Image.open(io.BytesIO(message.data[8:])))
            elif message.type == aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                data = event.get("data") or {}
                if data.get("prompt_id") == prompt_id and event["type"] in ("execution_success", "execution_error"):
                    return prompt_id, previews
    raise ConnectionError("the server left before the end")


def is_fine(drawn: Drawn) -> bool:
    """Whether there is a preview of each step, of which the last one, and not the first, is the picture."""
    return shows(drawn.previews, drawn.image)


def is_coarse(drawn: Drawn) -> bool:
    """The same of a picture with a colour for each cell of the latent, by the host's matrix."""
    from comfy.latent_formats import SDXL
    from latent_preview import Latent2RGBPreviewer

    previewer = Latent2RGBPreviewer(SDXL().latent_rgb_factors, SDXL().latent_rgb_factors_bias)
    return shows(drawn.previews, previewer.decode_latent_to_preview(SDXL().process_in(drawn.latent)))


def shows(previews: list[Image.Image], expected: Image.Image) -> bool:
    wanted = pixels(ImageOps.contain(expected, SENT, Image.Resampling.BILINEAR))
    first, last = (numpy.abs(pixels(preview) - wanted).mean() for preview in (previews[0], previews[-1]))
    return len(previews) == STEPS and last < NEAR < min(first, wanted.std())


def pixels(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image.convert("RGB"), dtype=float)


@pytest.mark.parametrize("method", ["taesd"], indirect=True)
def test_previews_by_taesd_become_the_picture(watch, decoder):
    drawn = watch()
    assert is_fine(drawn) and not is_coarse(drawn)


@pytest.mark.parametrize("method", ["taesd"], indirect=True)
def test_without_the_file_previews_are_coarse_and_the_log_names_it(watch, server):
    drawn = watch()
    assert is_coarse(drawn) and not is_fine(drawn)
    assert "could not find models/vae_approx/taesdxl_decoder" in server.read_log()


@pytest.mark.parametrize("method", ["auto"], indirect=True)
def test_auto_takes_the_coarse_ones_with_the_file_too(watch, decoder):
    drawn = watch()
    assert is_coarse(drawn) and not is_fine(drawn)


@pytest.mark.parametrize("method", ["taesd"], indirect=True)
def test_a_run_has_the_method_that_the_front_end_chose_for_it(watch, decoder):
    import latent_preview

    if not hasattr(latent_preview, "set_preview_method"):
        pytest.skip("this ComfyUI has one method for all runs")
    assert watch(preview_method="none").previews == []
    assert is_coarse(watch(preview_method="latent2rgb")) and is_coarse(watch(preview_method="auto"))
    assert is_fine(watch(preview_method="default"))
