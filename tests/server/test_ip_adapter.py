"""IP-Adapters in graphs: what they change, what they must leave alone, and what users load by mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
import vision_tower
from client import KolorsGraph, Link, PromptError, distance
from comfyui_kolors.demo import random_models
from comfyui_kolors.demo.random_models import TINY, random_face_adapter, random_ip_adapter
from image_prompts import nested, picture
from PIL import Image
from safetensors.torch import save, save_file

pytestmark = pytest.mark.host

TOWER, SMALL_TOWER = "clip-vit-large-patch14-336.safetensors", "clip-vit-large-patch14.safetensors"
PLUS, OTHER, FACE = "plus.safetensors", "other.safetensors", "faceid.bin"
ROUNDING = 1e-5  # relative L2: the same sums in another order
SERIAL = itertools.count(1)
SOURCES = "huggingface.co, hf-mirror.com or modelscope.cn"

Tensors = dict[str, torch.Tensor]


class PictureGraph(KolorsGraph):
    """The plain graph with what an IP-Adapter needs."""

    def __init__(self, tower: str = TOWER):
        super().__init__()
        self.tower = self.add("KolorsTestTower", clip_vision=self.add("CLIPVisionLoader", clip_name=tower))

    def picture(self, name: str = "apple") -> Link:
        return self.add("LoadImage", image=f"{name}.png")

    def mask(self, value: float, width: int = 64, height: int = 64) -> Link:
        return self.add("SolidMask", value=value, width=width, height=height)

    def apply(self, adapter: str = PLUS, node: str = "KolorsIPAdapterApply", **changes) -> Link:
        """The model with an adapter; `changes` are the Apply node's own inputs."""
        inputs = {
            "model": self.model,
            "ipadapter": self.add("KolorsIPAdapterLoader", ipadapter_name=adapter),
            "clip_vision": self.tower,
            "image": changes.get("image") or self.picture(),
            "weight": 0.8,
            "start_at": 0.0,
            "end_at": 1.0,
        }
        return self.add(node, **inputs | changes)

    def apply_face(self, adapter: str = FACE, **changes) -> Link:
        return self.apply(adapter, "KolorsFaceIDApply", **changes)


def draw(server, change: Callable[[PictureGraph], Link] | None = None, **sampling):
    """The latent of the plain graph with the model that `change` makes of it."""
    graph = PictureGraph()
    if change:
        graph.model = change(graph)
    return server.latent(graph, graph.sample(**sampling))


def with_adapter(**changes):
    """A change for `draw`; a mask or picture is given as a function of the graph."""

    def change(graph):
        return graph.apply(**{name: value(graph) if callable(value) else value for name, value in changes.items()})

    return change


@pytest.fixture(scope="module", autouse=True)
def files(server) -> Iterator[None]:
    """The towers, adapters and pictures of these tests."""
    assert server.request("/object_info/KolorsTestTower"), "conftest.py has to copy vision_tower.py into custom_nodes"
    models = server.base / "models"
    vision_tower.write_tower(models / "clip_vision" / TOWER)
    vision_tower.write_tower(models / "clip_vision" / SMALL_TOWER, size=224, scale=0)
    (models / "ipadapter").mkdir(exist_ok=True)
    for seed, name in enumerate((PLUS, OTHER)):
        save_file(plus(seed=seed), models / "ipadapter" / name)
    torch.save(nested(face()), models / "ipadapter" / FACE)
    (server.base / "input").mkdir(exist_ok=True)
    for seed, (name, width) in enumerate({"apple": 336, "boat": 336, "cloud": 500}.items()):
        pixels = (picture(width, 336, seed)[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(server.base / "input" / f"{name}.png")
    Image.fromarray(numpy.zeros((64, 64, 3), numpy.uint8)).save(server.base / "input" / "black.png")
    yield
    for name in (TOWER, SMALL_TOWER):  # pytest keeps the folder, and they are 600 MB each
        (models / "clip_vision" / name).unlink()


def plus(sizes=TINY, seed: int = 0, **changes) -> Tensors:
    return random_ip_adapter(sizes, vision_tower.WIDTH, seed=seed, **changes)


def face(sizes=TINY) -> Tensors:
    return random_face_adapter(sizes, vision_tower.WIDTH)


@pytest.fixture(scope="module")
def styled(server, files):
    """The latent of the plain graph with one adapter."""
    return draw(server, PictureGraph.apply)


# ---- what it changes ------------------------------------------------------------------------------------------------


def test_a_picture_changes_the_image_and_a_seed_repeats_it(server, plain, styled):
    assert distance(styled, plain) > 0.01
    images = []
    for change in (lambda graph: graph.model, PictureGraph.apply):
        server.free()
        graph = PictureGraph()
        samples = graph.sample(model=change(graph))
        images.append(server.image(graph, samples))
        assert torch.equal(server.latent(graph, samples), plain if len(images) == 1 else styled)
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("changes", [{"weight": 0.4}, {"image": lambda graph: graph.picture("boat")}], ids=str)
def test_another_setting_gives_another_image(server, plain, styled, changes):
    latent = draw(server, with_adapter(**changes))
    assert distance(latent, styled) > 0.001
    assert distance(latent, plain) > 0.001


def test_every_weight_type_gives_a_latent_of_its_own(server, plain, styled):
    info = server.request("/object_info/KolorsIPAdapterApply")["KolorsIPAdapterApply"]
    types = info["input"]["optional"]["weight_type"][0]
    latents = {kind: draw(server, with_adapter(weight_type=kind)) for kind in types}
    assert torch.equal(latents["linear"], styled)
    assert len({latent.numpy().tobytes() for latent in [*latents.values(), plain]}) == len(types) + 1 == 8


def test_every_range_gives_a_latent_of_its_own(server):
    ranges = [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.3, 0.7), (0.0, 0.0)]
    latents = [draw(server, with_adapter(start_at=start, end_at=end), steps=4) for start, end in ranges]
    assert len({latent.numpy().tobytes() for latent in latents}) == len(ranges)


def test_a_range_leaves_the_steps_outside_of_it_alone(server):
    """The two halves of a run, by a model whose adapter counts in the other half only."""
    graph = PictureGraph()

    def half(model, latent, **changes):
        inputs = {"noise_seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
        inputs |= {"model": model, "positive": graph.encode(), "negative": graph.encode(""), "latent_image": latent}
        inputs |= {"start_at_step": 0, "end_at_step": 4, "add_noise": "disable", "return_with_leftover_noise": "enable"}
        return graph.add("KSamplerAdvanced", **inputs | changes)

    empty, first = graph.empty_latent(), {"add_noise": "enable", "end_at_step": 2}
    late, early = graph.apply(start_at=0.5), graph.apply(end_at=0.5)
    begun = half(graph.model, empty, **first)
    samples = [begun, half(late, empty, **first), half(early, empty, **first)]
    samples += [half(model, begun, start_at_step=2) for model in (graph.model, early, late)]
    nodes = [server.save_latent(graph, latent) for latent in samples]
    entry = server.run(graph)
    latents = [server.read_latent(entry, node) for node in nodes]
    for plain, outside, inside in (latents[:3], latents[3:]):
        assert torch.equal(outside, plain)
        assert not torch.equal(inside, plain)


def test_pictures_of_a_batch_are_combined(server, styled):
    def combined(*names: str):
        def images(graph):
            return graph.add("ImageBatch", image1=graph.picture(names[0]), image2=graph.picture(names[1]))

        return draw(server, with_adapter(image=images))

    both = combined("apple", "boat")
    alone = draw(server, with_adapter(image=lambda graph: graph.picture("boat")))
    assert distance(both, styled) > 0.001
    assert distance(both, alone) > 0.001
    assert distance(combined("boat", "apple"), both) <= ROUNDING
    assert distance(combined("apple", "apple"), styled) <= ROUNDING


def test_each_latent_of_a_batch_has_its_own_picture(server):
    def batch(*names: str):
        graph = PictureGraph()
        image = graph.picture(names[0])
        if names[1:]:
            image = graph.add("ImageBatch", image1=image, image2=graph.picture(names[1]))
        model = graph.apply(image=image, image_batch="one per latent")
        return server.latent(graph, graph.sample(model=model, latent=graph.empty_latent(batch_size=2)))

    both, *alone = batch("apple", "boat"), batch("apple"), batch("boat")
    for index, latents in enumerate(alone):
        assert distance(both[index], latents[index]) <= ROUNDING
        assert distance(both[1 - index], latents[1 - index]) > 0.001


def test_a_negative_picture_counts_where_there_is_guidance(server, styled):
    negative = with_adapter(image_negative=lambda graph: graph.picture("cloud"))
    assert distance(draw(server, negative), styled) > 0.001
    assert torch.equal(draw(server, negative, cfg=1.0), draw(server, PictureGraph.apply, cfg=1.0))


def half_mask(graph, side: str) -> Link:
    """White on one side of the picture, of another resolution than the latent."""
    size = {"left": (50, 90), "right": (50, 90), "top": (100, 45), "bottom": (100, 45)}[side]
    black, white = graph.mask(0.0, 100, 90), graph.mask(1.0, *size)
    mask = graph.add("MaskComposite", destination=black, source=white, x=0, y=0, operation="add")
    return mask if side in ("left", "top") else graph.add("InvertMask", mask=mask)


def test_two_masks_that_make_up_the_picture_are_as_none(server, styled):
    def both(graph):
        for side in ("left", "right"):
            graph.model = graph.apply(attn_mask=half_mask(graph, side))
        return graph.model

    assert distance(draw(server, both), styled) <= ROUNDING


@pytest.mark.parametrize(("side", "other"), [("left", "right"), ("top", "bottom")])
def test_a_mask_tells_where_it_counts(server, side, other):
    """In one step the change goes round the whole picture already, but there is more of it where it began."""
    graph = PictureGraph()
    models = [graph.model, *(graph.apply(attn_mask=half_mask(graph, name)) for name in (side, other))]
    latent = graph.empty_latent(192, 128)
    nodes = [server.save_latent(graph, graph.sample(model=model, latent=latent, steps=1)) for model in models]
    entry = server.run(graph)
    plain, *masked = (server.read_latent(entry, node) for node in nodes)
    changes = [(latent - plain if side == "left" else (latent - plain).mT) for latent in masked]
    halves = [change.tensor_split(2, dim=-1) for change in changes]
    first, second = (one.norm() / two.norm() for one, two in halves)
    assert first > 1.3 * second


# ---- what it must not change ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": 0.0},
        {"end_at": 0.0},
        {"start_at": 0.6, "end_at": 0.6},
        {"attn_mask": lambda graph: graph.mask(0.0, 96, 40)},
    ],
    ids=["weight 0", "range 0 to 0", "range 0.6 to 0.6", "black mask"],
)
def test_what_counts_nowhere_is_bit_equal_to_no_adapter(server, plain, changes):
    assert torch.equal(draw(server, with_adapter(**changes)), plain)


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (1, 1)], ids=str)
def test_a_white_mask_is_bit_equal_to_no_mask(server, styled, size):
    assert torch.equal(draw(server, with_adapter(attn_mask=lambda graph: graph.mask(1.0, *size))), styled)


def test_the_original_model_stays_bit_equal_beside_its_copies(server, plain, styled):
    graph = PictureGraph()
    models = [graph.apply(), graph.model, graph.apply(image=graph.picture("boat"))]
    nodes = [server.save_latent(graph, graph.sample(model=model)) for model in models]
    entry = server.run(graph)
    latents = [server.read_latent(entry, node) for node in nodes]
    assert torch.equal(latents[0], styled)
    assert torch.equal(latents[1], plain)
    assert not torch.equal(latents[2], styled)
    assert torch.equal(draw(server, seed=1), plain)


def test_the_order_of_two_adapters_does_not_matter(server, styled):
    def both(*order: int):
        def change(graph):
            for index in order:
                graph.model = graph.apply((PLUS, OTHER)[index], image=graph.picture(("apple", "boat")[index]))
            return graph.model

        return draw(server, change)

    latent = both(0, 1)
    assert distance(both(1, 0), latent) <= ROUNDING
    assert distance(latent, styled) > 0.001


@pytest.mark.parametrize("layout", ["ip_adapter", "adapter_modules"])
def test_both_bin_layouts_load_like_safetensors(server, put, styled, layout):
    parts = nested(plus())
    name = put(f"{layout}.bin", {"image_proj": parts["image_proj"], layout: parts["ip_adapter"]})
    assert torch.equal(draw(server, lambda graph: graph.apply(name)), styled)


# ---- beside other nodes ---------------------------------------------------------------------------------------------


def test_an_area_as_large_as_the_picture_changes_nothing(server, styled):
    graph = PictureGraph()
    area = graph.add("ConditioningSetArea", conditioning=graph.encode(), width=64, height=64, x=0, y=0, strength=1.0)
    latent = server.latent(graph, graph.sample(model=graph.apply(), positive=area))
    assert distance(latent, styled) <= ROUNDING


def test_areas_and_combined_prompts(server):
    """Several conditions of other sizes in one step, with and without the adapter, which each of them must see."""

    def latent(adapted: bool):
        graph = PictureGraph()
        left, right = (
            graph.add("ConditioningSetArea", conditioning=graph.encode(text), width=96, height=64, x=x, y=0, strength=1)
            for text, x in (("a red apple", 0), ("一只蓝鸟", 64))
        )
        positive = graph.add("ConditioningCombine", conditioning_1=left, conditioning_2=right)
        positive = graph.add("ConditioningCombine", conditioning_1=positive, conditioning_2=graph.encode())
        return server.latent(
            graph,
            graph.sample(
                model=graph.apply() if adapted else graph.model,
                positive=positive,
                latent=graph.empty_latent(160, 64, batch_size=2),
            ),
        )

    change = (latent(True) - latent(False)).norm(dim=(1, 2))  # (batch, columns)
    assert (change > 0.001).all()


def test_a_second_pass_at_a_larger_size(server):
    """Of an odd number of cells, with a mask, on the model that has made the first pass."""

    def passes(adapted: bool):
        graph = PictureGraph()
        if adapted:
            graph.model = graph.apply(attn_mask=graph.mask(0.5, 50, 70))
        larger = graph.add(
            "LatentUpscale",
            samples=graph.sample(),
            upscale_method="nearest-exact",
            width=104,
            height=136,
            crop="disabled",
        )
        return server.latent(graph, graph.sample(latent=larger, denoise=0.5))

    first, second = passes(False), passes(True)
    assert second.shape == (1, 4, 17, 13)
    assert distance(second, first) > 0.001


def kolors_ksampler(graph):
    return graph.add(
        "KolorsKSampler",
        model=graph.model, seed=1, steps=2, cfg=5.0, sampler="euler", positive=graph.encode(),
        negative=graph.encode(""), latent_image=graph.empty_latent(), denoise=1.0,
    )  # fmt: skip


def inpaint(graph):
    mask = graph.add("MaskComposite", destination=graph.mask(1.0), source=graph.mask(0.0, 32, 64), x=0, y=0,
                     operation="multiply")  # fmt: skip
    return graph.sample(latent=graph.add("SetLatentNoiseMask", samples=graph.empty_latent(), mask=mask))


@pytest.mark.parametrize("sample", [kolors_ksampler, inpaint])
def test_other_ways_to_sample_see_the_picture(server, sample):
    latents = []
    for adapted in (False, True):
        graph = PictureGraph()
        if adapted:
            graph.model = graph.apply()
        latents.append(server.latent(graph, sample(graph)))
    assert distance(latents[1][..., 4:], latents[0][..., 4:]) > 0.001
    if sample is inpaint:
        assert torch.allclose(latents[1][..., :4], torch.zeros(1, 4, 8, 4), atol=1e-4)


PATCHES = {
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "RescaleCFG": {"multiplier": 0.7},
    "SelfAttentionGuidance": {"scale": 0.8, "blur_sigma": 2.0},
}


@pytest.mark.parametrize("node", PATCHES)
def test_stock_patches_and_an_adapter_in_either_order(server, plain, styled, node):
    def patch(graph, model):
        return graph.add(node, model=model, **PATCHES[node])

    before = draw(server, lambda graph: graph.apply(model=patch(graph, graph.model)))
    after = draw(server, lambda graph: patch(graph, graph.apply()))
    assert torch.equal(before, after)
    assert distance(before, styled) > 1e-5  # random weights give guidance little to rescale
    assert distance(before, draw(server, lambda graph: patch(graph, graph.model))) > 0.001


# ---- FaceID ---------------------------------------------------------------------------------------------------------


def test_a_ready_embedding_gives_its_face(server, plain):
    def latent(**changes):
        def change(graph):
            embedding = graph.add("KolorsTestFace", seed=changes.pop("seed", 1), width=512)
            return graph.apply_face(face_embedding=embedding, **changes)

        return draw(server, change)

    found = latent()
    assert torch.equal(latent(), found)
    assert distance(found, plain) > 0.001
    assert distance(latent(seed=2), found) > 0.001
    assert torch.equal(latent(weight=0.0), plain)


def test_a_found_face_can_be_used_again(server):
    """The largest one; its embedding and its picture, connected to another node, say the same."""
    graph = PictureGraph()
    found = graph.apply_face(face_analysis=graph.add("KolorsTestFaceAnalysis"))
    again = graph.apply_face(face_embedding=found.output(1), image=found.output(2))
    given = graph.apply_face(
        face_embedding=graph.add("KolorsTestFace", seed=1, width=512), image=found.output(2), weight=0.8
    )
    nodes = [server.save_latent(graph, graph.sample(model=model)) for model in (found, again, given)]
    saved = graph.add("SaveImage", images=found.output(2), filename_prefix="face")
    entry = server.run(graph)
    latents = [server.read_latent(entry, node) for node in nodes]
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])
    (crop,) = server.saved_files(entry, saved, "images")
    assert Image.open(crop).size == (336, 336)


def test_a_face_and_a_picture_on_one_model(server, styled):
    def both(graph):
        graph.model = graph.apply()
        return graph.apply_face(face_analysis=graph.add("KolorsTestFaceAnalysis"))

    assert distance(draw(server, both), styled) > 0.001


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def put(server) -> Iterator[Callable[..., str]]:
    """Writes a file into models/ipadapter, and removes it after the test; its name. Nested tensors become a .bin."""
    paths = []

    def write(name: str, content: bytes | dict) -> str:
        path = server.base / "models/ipadapter" / name
        paths.append(path)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".bin"):
            torch.save(content, path)
        else:
            save_file(content, path)
        return name

    yield write
    for path in paths:
        path.unlink(missing_ok=True)


@pytest.fixture
def refuse(server, styled) -> Callable[..., str]:
    """Runs a graph whose model `change` makes, for its error; then the good graph, which is computed anew."""

    def run(change: Callable[[PictureGraph], Link], node: str, kind: str = "KolorsError") -> str:
        with pytest.raises(PromptError) as failure:
            draw(server, change)
        assert (failure.value.kind, failure.value.node) == (kind, node), failure.value
        graph = PictureGraph()
        # Zeros times a number that no prompt has had: the host cannot take the result out of its cache.
        latent = graph.add("LatentMultiply", samples=graph.empty_latent(), multiplier=next(SERIAL) / 100)
        assert torch.equal(server.latent(graph, graph.sample(model=graph.apply(), latent=latent)), styled)
        return str(failure.value)

    return run


def without_resampler() -> Tensors:
    """SDXL's first IP-Adapter: one projection of the pooled image embedding."""
    adapter = {key: tensor for key, tensor in of_sdxl().items() if key.startswith("ip_adapter.")}
    return adapter | {
        "image_proj.proj.weight": torch.zeros(4 * 2048, 1280),
        "image_proj.proj.bias": torch.zeros(4 * 2048),
        "image_proj.norm.weight": torch.ones(2048),
        "image_proj.norm.bias": torch.zeros(2048),
    }


def of_sdxl() -> Tensors:
    """The Plus adapter of SDXL in its true widths where they tell it from Kolors'."""
    sizes = replace(TINY, context=2048)
    return random_ip_adapter(sizes, image_width=1280, width=1280, depth=1, heads=20)


def faceid_of_sdxl() -> Tensors:
    adapter = {key: tensor for key, tensor in of_sdxl().items() if key.startswith("ip_adapter.")}
    return adapter | {
        "image_proj.proj.0.weight": torch.zeros(1024, 512),
        "image_proj.proj.2.weight": torch.zeros(4 * 2048, 1024),
        "image_proj.perceiver_resampler.proj_in.weight": torch.zeros(2048, 1280),
        "ip_adapter.0.to_q_lora.down.weight": torch.zeros(128, 64),
    }


def kl_vae() -> Tensors:
    return {"encoder.conv_in.weight": torch.zeros(8, 3, 3, 3), "decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}


def lora() -> Tensors:
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    return {f"{layer}.lora_down.weight": torch.zeros(4, 64), f"{layer}.lora_up.weight": torch.zeros(64, 4)}


OTHER_MODELS = {
    "ip-adapter-plus_sd15.safetensors": (
        lambda: plus(replace(TINY, context=768), depth=1),
        ["an IP-Adapter for SD1.5", "768"],
    ),
    "ip-adapter-plus_sdxl_vit-h.safetensors": (of_sdxl, ["an IP-Adapter for SDXL", "1280"]),
    "ip-adapter_sdxl.bin": (without_resampler, ["an IP-Adapter for SDXL", "not the Plus kind"]),
    "ip-adapter-faceid-plusv2_sdxl.bin": (faceid_of_sdxl, ["a FaceID adapter for SDXL"]),
    "unet.safetensors": (lambda: random_models.random_unet(TINY).state_dict(), ["a Kolors UNet"]),
    "lora.safetensors": (lora, ["a LoRA"]),
    "vae.safetensors": (kl_vae, ["a VAE"]),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_another_model_is_named(server, put, refuse, name):
    make, words = OTHER_MODELS[name]
    put(name, nested(make()) if name.endswith(".bin") else make())
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    words = [*words, name, str(server.base / "models/ipadapter"), "Expected an IP-Adapter", "of Kolors", SOURCES]
    assert [word for word in words if word not in message] == [], message


class CreateFile:
    """Unpickled by a loader that executes what it reads, this creates a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def test_a_bin_with_code_is_named_and_not_executed(server, put, refuse, tmp_path):
    canary = tmp_path / "canary"
    name = put("code.bin", nested(plus()) | {"code": CreateFile(canary)})
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    for word in (name, "a pickle that wants to run code", "was not executed", "Use the .safetensors file"):
        assert word in message, message
    assert not canary.exists()
    torch.load(server.base / "models/ipadapter" / name, weights_only=False)
    assert canary.exists(), "the code would have done nothing anywhere"


def test_a_truncated_adapter_is_named_with_both_sizes(put, refuse):
    whole = save(plus())
    name = put("truncated.safetensors", whole[: len(whole) // 2])
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    for word in (name, "damaged safetensors", f"{len(whole) // 2:,}", f"{len(whole):,}", "Download it again"):
        assert word in message, message


@pytest.mark.parametrize(
    "key",
    [
        "image_proj.latents",
        "image_proj.proj_in.weight",
        "image_proj.proj_out.weight",
        "image_proj.norm_out.bias",
        "image_proj.layers.0.0.to_q.weight",
        "image_proj.layers.2.1.3.weight",
        "ip_adapter.1.to_k_ip.weight",
        "ip_adapter.7.to_v_ip.weight",
        "ip_adapter.33.to_k_ip.weight",
    ],
)
def test_an_adapter_without_one_tensor_is_named_incomplete(put, refuse, key):
    name = put("incomplete.safetensors", {k: tensor for k, tensor in plus().items() if k != key})
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterLoader")
    for word in (name, "an incomplete IP-Adapter", key, "missing", "Download it again"):
        assert word in message, message


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (replace(TINY, depth=(1, 3)), ["23 cross attentions", "17 cross attentions"]),
        (replace(TINY, channels=(32, 64, 128)), ["widths 64 to 128", "widths 64 to 64"]),
        (replace(TINY, context=256), ["256", "128"]),
    ],
    ids=["depth", "channels", "context"],
)
def test_an_adapter_of_another_unet_is_named_with_both_sizes(put, refuse, sizes, words):
    name = put("other-unet.safetensors", plus(sizes))
    message = refuse(lambda graph: graph.apply(name), "KolorsIPAdapterApply")
    for word in (name, *words, "Use the IP-Adapter that belongs to this model"):
        assert word in message, message


def test_a_tower_for_224_pixels_is_named(refuse):
    def change(graph):
        return PictureGraph.apply(graph, clip_vision=graph.add("CLIPVisionLoader", clip_name=SMALL_TOWER))

    message = refuse(change, "KolorsIPAdapterApply")
    for word in ("224", "336", "Load CLIP Vision with clip-vit-large-patch14-336"):
        assert word in message, message


def test_a_face_adapter_in_the_picture_node_and_the_reverse(refuse):
    message = refuse(lambda graph: graph.apply(FACE), "KolorsIPAdapterApply")
    for word in (FACE, "is a FaceID adapter", "Use 'Apply Kolors FaceID'"):
        assert word in message, message

    def change(graph):
        return graph.apply_face(PLUS, face_embedding=graph.add("KolorsTestFace", seed=1, width=512))

    message = refuse(change, "KolorsFaceIDApply")
    for word in (PLUS, "is not a FaceID adapter", "Use 'Apply Kolors IP-Adapter'"):
        assert word in message, message


def test_a_missing_insightface_or_model_is_named_with_its_folder(server, refuse):
    """Whichever this Python lacks: the packages, or the folder with the models."""
    message = refuse(PictureGraph.apply_face, "KolorsFaceIDApply")
    for word in ("insightface", "antelopev2", str(server.base / "models/insightface/models")):
        assert word in message, message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 256}, [FACE, "512", "256", "antelopev2"]),
        ({"images": 2}, ["1 face embedding(s)", "2 image(s)"]),
        ({"black": True}, ["No face was found", "image 1 of 1", "64 x 64"]),
    ],
    ids=["another embedding", "two pictures", "no face"],
)
def test_faces_that_do_not_fit_are_named(refuse, changes, words):
    def change(graph):
        if "black" in changes:
            analysis = graph.add("KolorsTestFaceAnalysis")
            return graph.apply_face(image=graph.picture("black"), face_analysis=analysis)
        image = graph.picture()
        if "images" in changes:
            image = graph.add("ImageBatch", image1=image, image2=graph.picture("boat"))
        embedding = graph.add("KolorsTestFace", seed=1, width=changes.get("width", 512))
        return graph.apply_face(image=image, face_embedding=embedding)

    message = refuse(change, "KolorsFaceIDApply")
    assert [word for word in words if word not in message] == [], message
