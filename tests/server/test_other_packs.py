"""IPAdapter_plus' own nodes, unmodified, on our MODEL: the same pictures as ours at the same settings.

Only with a checkout of it, which KOLORS_IPADAPTER_PLUS names: it is another project under another licence. conftest.py
says how all other tests run beside this or any other pack.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy
import pytest
import servers
import torch
import vision_tower
from client import KolorsGraph, Link, distance
from comfyui_kolors.demo import random_models
from image_prompts import nested, picture
from PIL import Image
from safetensors.torch import save_file

CHECKOUT = os.environ.get("KOLORS_IPADAPTER_PLUS")
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not CHECKOUT, reason="no ComfyUI_IPAdapter_plus: set KOLORS_IPADAPTER_PLUS to a checkout"),
]

TOLERANCE = 1e-2  # relative L2 of final latents
ROUNDING = 1e-5  # the same: float32 sums in another order

# What that pack knows Kolors by is fixed: SDXL's depth, a resampler 2048 wide, for faces 4096.
SIZES = random_models.Sizes(hidden=4096, head_dim=128, layers=1, ffn=64, depth=(2, 10), context=2048)
TOWER, PLUS, NO_MIDDLE, FACE = "tower.safetensors", "plus.safetensors", "no-middle.safetensors", "faceid.bin"

# An insightface that finds one face, the whole picture; the embedding of a black one is zero.
INSIGHTFACE = {
    "__init__.py": "",
    "app.py": """
import numpy
from types import SimpleNamespace


class Face(dict):
    __getattr__ = dict.__getitem__


class FaceAnalysis:
    def __init__(self, name, root, providers):
        self.det_model = SimpleNamespace(input_size=None, input_shape=[1, 3, "?", "?"])
        self.models = {"detection": self.det_model, "recognition": None}

    def prepare(self, ctx_id, det_size):
        pass

    def get(self, pixels):
        height, width, _ = pixels.shape
        embedding = numpy.random.RandomState(0).randn(512).astype(numpy.float32) * bool(pixels.any())
        embedding /= max(numpy.linalg.norm(embedding), 1)
        box, points = numpy.float32([0, 0, width, height]), numpy.zeros((5, 2), numpy.float32)
        return [Face(bbox=box, kps=points, embedding=embedding, normed_embedding=embedding)]
""",
    "utils/__init__.py": "",
    "utils/face_align.py": """
def norm_crop(pixels, landmark, image_size):
    assert pixels.shape == (image_size, image_size, 3)
    return pixels
""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A ComfyUI of its own with both packs, and models as wide as that pack expects them."""
    base = tmp_path_factory.mktemp("packs")
    models = base / "models"
    for folder in ("input", "models/ipadapter", "models/clip_vision"):
        (base / folder).mkdir(parents=True)
    random_models.write(models, SIZES)
    vision_tower.write_tower(models / "clip_vision" / TOWER)
    adapter = random_models.random_ip_adapter(SIZES, vision_tower.WIDTH, width=2048, heads=12)
    save_file(halve(adapter), models / "ipadapter" / PLUS)
    save_file(halve(without_middle(adapter)), models / "ipadapter" / NO_MIDDLE)
    adapter = random_models.random_face_adapter(SIZES, vision_tower.WIDTH)
    torch.save(nested(halve(without_middle(adapter))), models / "ipadapter" / FACE)
    for seed, (name, size) in enumerate({"square": (336, 336), "cloud": (336, 336), "photo": (900, 600)}.items()):
        save_picture(base, name, (picture(*size, seed)[0] * 255).round().numpy())
    save_picture(base, "black", numpy.zeros((336, 336, 3)))
    for name, code in INSIGHTFACE.items():
        (base / "stubs/insightface" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "stubs/insightface" / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(base / "stubs"), prepend=os.pathsep)
        with servers.running(base, [servers.ROOT, Path(CHECKOUT).resolve()]) as client:
            yield client
    shutil.rmtree(models)  # pytest would keep 4 GB


def halve(adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor.half() for key, tensor in adapter.items()}


def without_middle(adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapter with zeros for the values of the middle block, whose projections are the last ten."""
    count = len(random_models.attention_widths(SIZES))
    middle = {str(2 * index + 1) for index in range(count - 10, count)}
    return {
        key: torch.zeros_like(tensor) if key.endswith("to_v_ip.weight") and key.split(".")[1] in middle else tensor
        for key, tensor in adapter.items()
    }


def save_picture(base: Path, name: str, pixels: numpy.ndarray) -> None:
    Image.fromarray(pixels.astype(numpy.uint8)).save(base / "input" / f"{name}.png")


class BothGraph(KolorsGraph):
    """The plain graph, and either pack's Apply nodes at the same settings."""

    def __init__(self):
        super().__init__()
        self.tower = self.add("KolorsTestMemory", clip_vision=self.add("CLIPVisionLoader", clip_name=TOWER))

    def picture(self, name: str) -> Link:
        return self.add("LoadImage", image=f"{name}.png")

    def settings(self, weight: float, image: str, negative: str | None) -> dict:
        inputs = {"clip_vision": self.tower, "image": self.picture(image), "weight": weight}
        inputs |= {"start_at": 0.0, "end_at": 1.0, "weight_type": "linear"}
        return inputs | ({"image_negative": self.picture(negative)} if negative else {})

    def ours(self, model=None, weight=1.0, image="square", negative="cloud", adapter=PLUS) -> Link:
        loaded = self.add("KolorsIPAdapterLoader", ipadapter_name=adapter)
        inputs = self.settings(weight, image, negative)
        return self.add("KolorsIPAdapterApply", model=model or self.model, ipadapter=loaded, **inputs)

    def theirs(self, model=None, weight=1.0, image="square", negative="cloud", adapter=PLUS) -> Link:
        loaded = self.add("IPAdapterModelLoader", ipadapter_file=adapter)
        inputs = self.settings(weight, image, negative) | {"combine_embeds": "concat", "embeds_scaling": "V only"}
        return self.add("IPAdapterAdvanced", model=model or self.model, ipadapter=loaded, **inputs)

    def insightface(self) -> Link:
        return self.add("IPAdapterInsightFaceLoader", provider="CPU", model_name="antelopev2")

    def our_face(self, model=None, weight=1.0, image="square", negative="black", adapter=FACE) -> Link:
        loaded = self.add("KolorsIPAdapterLoader", ipadapter_name=adapter)
        inputs = self.settings(weight, image, negative) | {"face_analysis": self.insightface()}
        return self.add("KolorsFaceIDApply", model=model or self.model, ipadapter=loaded, **inputs)

    def their_face(self, model=None, weight=1.0, image="square", negative="black", adapter=FACE) -> Link:
        loaded = self.add("IPAdapterModelLoader", ipadapter_file=adapter)
        inputs = self.settings(weight, image, negative) | {"combine_embeds": "concat", "embeds_scaling": "V only"}
        inputs |= {"weight_faceidv2": 1.0, "weight_kolors": 1.0, "insightface": self.insightface()}
        return self.add("IPAdapterFaceIDKolors", model=model or self.model, ipadapter=loaded, **inputs)


def draw(server, change=None, cfg: float = 5.0, steps: int = 10):
    """The latent of the plain graph with the model that `change` makes of it."""
    graph = BothGraph()
    model = change(graph) if change else graph.model
    latent = graph.empty_latent(128, 128)
    return server.latent(graph, graph.sample(model=model, latent=latent, cfg=cfg, steps=steps))


@pytest.fixture(scope="module")
def plain(server):
    return draw(server)


@pytest.fixture(scope="module")
def ours(server):
    return draw(server, BothGraph.ours)


@pytest.fixture(scope="module")
def theirs(server):
    return draw(server, BothGraph.theirs)


@pytest.mark.parametrize("weight", [1.0, 0.5])
@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_both_packs_give_the_same_latents(server, weight, cfg):
    """Of an adapter that leaves the middle block alone: that pack never gets there, as the next test shows."""
    found, expected = (
        draw(server, lambda graph, apply=apply: apply(graph, weight=weight, adapter=NO_MIDDLE), cfg)
        for apply in (BothGraph.ours, BothGraph.theirs)
    )
    assert distance(found, expected) <= ROUNDING
    assert distance(found, draw(server, cfg=cfg)) > 0.01


def test_only_the_middle_block_tells_both_packs_apart(server, ours, theirs):
    """That pack asks for ("middle", 1, ...) where the host's middle block is ("middle", 0, ...)."""
    without = draw(server, lambda graph: graph.ours(adapter=NO_MIDDLE))
    assert distance(theirs, ours) <= distance(without, ours) + ROUNDING
    assert distance(theirs, ours) <= 2 * TOLERANCE


def test_their_resize_of_a_photo_is_near_ours(server):
    """Theirs is torch's, with antialiasing and in floating point; ours is Pillow's, as the reference's."""
    found, expected = (
        draw(server, lambda graph, apply=apply: apply(graph, image="photo", adapter=NO_MIDDLE))
        for apply in (BothGraph.ours, BothGraph.theirs)
    )
    assert ROUNDING < distance(found, expected) <= TOLERANCE


def test_their_negative_is_a_black_picture_where_none_is_connected(server):
    black = draw(server, lambda graph: graph.ours(negative="black", adapter=NO_MIDDLE))
    expected = draw(server, lambda graph: graph.theirs(negative=None, adapter=NO_MIDDLE))
    assert distance(black, expected) <= ROUNDING


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")], ids=" then ".join)
def test_both_packs_on_one_model(server, plain, ours, theirs, order):
    """Both count, in either order, and the models from before the second was applied do not hear of it."""
    alone = {"ours": ours, "theirs": theirs}
    graph = BothGraph()
    first = getattr(graph, order[0])()
    second = getattr(graph, order[1])(model=first, image="photo")
    both, first_alone, nothing = (
        server.latent(graph, graph.sample(model=model, latent=graph.empty_latent(128, 128), steps=10))
        for model in (second, first, graph.model)
    )
    assert torch.equal(nothing, plain)
    assert torch.equal(first_alone, alone[order[0]])
    assert distance(both, first_alone) > 0.01
    swapped = draw(server, lambda graph: getattr(graph, order[0])(getattr(graph, order[1])(image="photo")))
    assert distance(both, swapped) <= ROUNDING


def test_both_packs_give_the_same_face(server, plain):
    """Of the same embedding, crop and negative face, which insightface gives."""
    found, expected = (draw(server, apply) for apply in (BothGraph.our_face, BothGraph.their_face))
    assert distance(found, expected) <= ROUNDING
    assert distance(found, plain) > 0.01


def test_an_image_that_they_saved_is_applied_by_ours(server):
    """Their file has no negative, which our loader makes; of a picture that neither resizes, the states are equal."""
    graph = BothGraph()
    loaded = graph.add("IPAdapterModelLoader", ipadapter_file=PLUS)
    inputs = {"ipadapter": loaded, "image": graph.picture("square"), "weight": 1.0, "clip_vision": graph.tower}
    encoded = graph.add("IPAdapterEncoder", **inputs)
    graph.add("IPAdapterSaveEmbeds", embeds=encoded, filename_prefix="IP_embeds")
    server.run(graph)
    (file,) = (server.base / "output").glob("IP_embeds_*.ipadpt")

    def apply(graph):
        name = f"{file.name} [output]"
        prompt = graph.add("KolorsImagePromptLoad", image_prompt_name=name, clip_vision=graph.tower)
        adapter = graph.add("KolorsIPAdapterLoader", ipadapter_name=PLUS)
        inputs = {"model": graph.model, "weight": 1.0, "start_at": 0.0, "end_at": 1.0}
        return graph.add("KolorsImagePromptApply", ipadapter=adapter, image_prompt=prompt, **inputs)

    assert distance(draw(server, apply), draw(server, lambda graph: graph.ours(negative=None))) <= ROUNDING
