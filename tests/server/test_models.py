"""Models through the stock nodes that merge, save and load them, and every layout and storage type of a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy
import pytest
import torch
from client import ENCODER, UNET, KolorsGraph, PromptError, distance
from comfyui_kolors.demo import random_models
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

OTHER_UNET, OTHER_ENCODER = "other-unet.safetensors", "other-chatglm3.safetensors"
INPAINTING_UNET = "inpainting-unet.safetensors"
SD_PREFIX = "model.diffusion_model."
HOST_COMPLAINTS = re.compile(r"unet unexpected|(?:unet|clip|vae) missing|missing keys|left over keys", re.IGNORECASE)


@pytest.fixture(scope="module")
def folder(server) -> Path:
    """The models folder, with a second UNet and a second encoder of other weights."""
    models = server.base / "models"
    unet = random_models.random_unet(random_models.TINY, seed=1)
    save_file(unet.state_dict(), models / "diffusion_models" / OTHER_UNET)
    tokenizer = {"spiece_model": load_file(models / "text_encoders" / ENCODER)["spiece_model"]}
    encoder = random_models.random_chatglm3(random_models.TINY, pieces=480, seed=1)
    save_file(encoder | tokenizer, models / "text_encoders" / OTHER_ENCODER)
    return models


def draw(server, graph=None, **changes):
    graph = graph or KolorsGraph()
    return server.latent(graph, graph.sample(**changes))


# ---- merging --------------------------------------------------------------------------------------------------------


class MergedGraph(KolorsGraph):
    """The plain graph with two UNets and two encoders merged; each ratio is the share of the plain one."""

    def __init__(self, unet_ratio: float = 0.5, encoder_ratio: float = 0.5):
        super().__init__()
        unet = self.add("KolorsUNETLoader", unet_name=OTHER_UNET, weight_dtype="default")
        encoder = self.add("KolorsChatGLM3Loader", text_encoder_name=OTHER_ENCODER, weight_dtype="default")
        self.model = self.add("ModelMergeSimple", model1=self.model, model2=unet, ratio=unet_ratio)
        self.clip = self.add("CLIPMergeSimple", clip1=self.clip, clip2=encoder, ratio=encoder_ratio)


@pytest.mark.parametrize(
    ("ratio", "ends"), [(1.0, (UNET, ENCODER)), (0.0, (OTHER_UNET, OTHER_ENCODER))], ids=["first", "second"]
)
def test_merge_at_either_end_is_that_model(server, folder, ratio, ends):
    assert torch.equal(draw(server, MergedGraph(ratio, ratio)), draw(server, KolorsGraph(*ends)))


@pytest.mark.parametrize("ratios", [(0.5, 1.0), (1.0, 0.5)], ids=["unet", "encoder"])
def test_merge_in_the_middle_is_neither_model(server, folder, plain, ratios):
    merged = draw(server, MergedGraph(*ratios))
    other = draw(server, KolorsGraph(unet=OTHER_UNET) if ratios[0] == 0.5 else KolorsGraph(encoder=OTHER_ENCODER))
    assert distance(merged, plain) > 1e-3
    assert distance(merged, other) > 1e-3


# ---- saving and loading again ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(server, folder) -> tuple[torch.Tensor, numpy.ndarray]:
    """Latent and image of the merged models. Their files, saved by the stock nodes, lie in their folders as merged.*"""
    graph = MergedGraph()
    saves = {"CheckpointSave": "checkpoints", "ModelSave": "diffusion_models", "CLIPSave": "text_encoders"}
    links = {"model": graph.model, "clip": graph.clip, "vae": graph.vae}
    inputs = {"CheckpointSave": links, "ModelSave": {"model": graph.model}, "CLIPSave": {"clip": graph.clip}}
    for node, kind in saves.items():
        graph.add(node, filename_prefix=f"{kind}/merged", **inputs[node])
    samples = graph.sample()
    latent = server.latent(graph, samples)
    for kind in saves.values():
        (file,) = (server.base / "output" / kind).glob("merged_*.safetensors")
        file.replace(folder / kind / "merged.safetensors")
    return latent, server.image(graph, samples)


def test_models_were_merged_before_they_were_saved(merged, plain):
    assert distance(merged[0], plain) > 1e-3


@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "KolorsCheckpointLoader"])
def test_saved_checkpoint_loads_to_the_same_image(server, merged, loader):
    latent, image = merged
    server.free()
    before = server.read_log()
    graph = KolorsGraph()
    graph.model = graph.add(loader, ckpt_name="merged.safetensors")
    graph.clip, graph.vae = graph.model.output(1), graph.model.output(2)
    samples = graph.sample()
    assert torch.equal(server.latent(graph, samples), latent)
    assert numpy.array_equal(server.image(graph, samples), image)
    assert HOST_COMPLAINTS.findall(server.read_log().removeprefix(before)) == []


@pytest.mark.parametrize("loader", ["CheckpointLoaderSimple", "KolorsCheckpointLoader"])
def test_saved_checkpoint_loads_and_saves_again_bit_for_bit(server, folder, merged, loader):
    graph = KolorsGraph()
    model = graph.add(loader, ckpt_name="merged.safetensors")
    prefix = f"checkpoints/again-{loader}"
    graph.add("CheckpointSave", model=model, clip=model.output(1), vae=model.output(2), filename_prefix=prefix)
    server.run(graph)
    (file,) = (server.base / "output").glob(f"{prefix}_*.safetensors")
    first, second = load_file(folder / "checkpoints/merged.safetensors"), load_file(file)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@pytest.mark.parametrize("loader", ["UNETLoader", "KolorsUNETLoader"])
def test_saved_model_loads_to_the_same_latent(server, merged, loader):
    server.free()
    graph = MergedGraph()
    graph.model = graph.add(loader, unet_name="merged.safetensors", weight_dtype="default")
    assert torch.equal(draw(server, graph), merged[0])


def test_saved_encoder_brings_its_tokenizer_along(server, folder, merged):
    assert list(folder.rglob("tokenizer.model")) == []
    server.free()
    graph = MergedGraph()
    graph.clip = graph.add("KolorsChatGLM3Loader", text_encoder_name="merged.safetensors", weight_dtype="default")
    assert torch.equal(draw(server, graph), merged[0])


# ---- layouts and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", SD_PREFIX], ids=["bare", "prefixed"])
@pytest.mark.parametrize("loader", ["UNETLoader", "KolorsUNETLoader"])
def test_unet_with_sd_names_loads(server, folder, merged, loader, prefix):
    unet = load_file(folder / "diffusion_models/merged.safetensors")
    assert all(key.startswith(SD_PREFIX) for key in unet)
    name = f"sd-{loader}-{len(prefix)}.safetensors"
    save_file(
        {prefix + key.removeprefix(SD_PREFIX): tensor for key, tensor in unet.items()},
        folder / "diffusion_models" / name,
    )
    graph = MergedGraph()
    graph.model = graph.add(loader, unet_name=name, weight_dtype="default")
    assert torch.equal(draw(server, graph), merged[0])


def test_stock_loader_still_refuses_an_unknown_unet_in_its_own_words(server, folder, merged):
    """The host asks the pack's model, last of all, about every file that no other model claims."""
    unet = load_file(folder / "diffusion_models/merged.safetensors")
    del unet[SD_PREFIX + "encoder_hid_proj.weight"]
    save_file(unet, folder / "diffusion_models/unknown.safetensors")
    graph = KolorsGraph()
    graph.model = graph.add("UNETLoader", unet_name="unknown.safetensors", weight_dtype="default")
    with pytest.raises(PromptError, match="Could not detect model type") as failure:
        draw(server, graph)
    assert (failure.value.kind, failure.value.node) == ("RuntimeError", "UNETLoader")


@pytest.fixture(scope="module")
def unet_as_checkpoint(folder) -> str:
    """A diffusers UNet that somebody put into models/checkpoints."""
    name = "unet-as-checkpoint.safetensors"
    (folder / "checkpoints" / name).write_bytes((folder / "diffusion_models" / OTHER_UNET).read_bytes())
    return name


def test_diffusers_unet_in_checkpoints_loads(server, unet_as_checkpoint):
    graph = KolorsGraph()
    graph.model = graph.add("KolorsCheckpointLoader", ckpt_name=unet_as_checkpoint)
    assert torch.equal(draw(server, graph), draw(server, KolorsGraph(unet=OTHER_UNET)))


def test_missing_text_encoder_of_a_checkpoint_is_named(server, unet_as_checkpoint):
    graph = KolorsGraph()
    checkpoint = graph.add("KolorsCheckpointLoader", ckpt_name=unet_as_checkpoint)
    positive = graph.add("KolorsPromptEncode", clip=checkpoint.output(1), text="一只红苹果")
    with pytest.raises(PromptError, match="the checkpoint it comes from has no text encoder") as failure:
        server.latent(graph, graph.sample(positive, model=checkpoint))
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsPromptEncode")
    assert "Load Kolors ChatGLM3 Text Encoder" in str(failure.value)


def test_missing_vae_of_a_checkpoint_is_named(server, unet_as_checkpoint):
    graph = KolorsGraph()
    checkpoint = graph.add("KolorsCheckpointLoader", ckpt_name=unet_as_checkpoint)
    with pytest.raises(PromptError, match="does not contain a valid VAE") as failure:
        server.image(graph, graph.sample(model=checkpoint), checkpoint.output(2))
    assert failure.value.node == "VAEDecode"


def test_encoder_in_the_llm_folder_of_earlier_packs_loads(server, folder):
    (folder / "LLM" / "checkpoints").mkdir(parents=True, exist_ok=True)
    name = "checkpoints/chatglm3-in-llm.safetensors"
    (folder / "LLM" / name).write_bytes((folder / "text_encoders" / OTHER_ENCODER).read_bytes())
    found = draw(server, KolorsGraph(encoder=str(Path(name))))
    assert torch.equal(found, draw(server, KolorsGraph(encoder=OTHER_ENCODER)))


# ---- storage types --------------------------------------------------------------------------------------------------

# The most that a latent may differ from that of float32 on the same device. Measured on a CPU, which computes in
# float32 whatever the UNet's storage: 0.0002, 0.002, 0.04, 0.04 and 0.06.
NEAR = {"fp16": 0.001, "bf16": 0.005, "fp8_e4m3fn": 0.1, "fp8_e4m3fn_fast": 0.1, "fp8_e5m2": 0.15}
# An accelerator computes in the UNet's own half precision; measured 0.004 and 0.03.
NEAR_IN_HALF = NEAR | {"fp16": 0.01, "bf16": 0.06}
# The encoder computes in float32 everywhere; measured 0.00002, 0.0002, 0.002 and 0.003.
NEAR_ENCODER = {"fp16": 0.0001, "bf16": 0.0005, "fp8_e4m3fn": 0.01, "fp8_e5m2": 0.015}
WHOLE = ("fp32", "fp16", "bf16")


def draw_stored(server, unet: str = "fp32", encoder: str = "fp32", device: str = "default") -> torch.Tensor:
    graph = KolorsGraph()
    graph.model = graph.add("KolorsUNETLoader", unet_name=UNET, weight_dtype=unet)
    loader = {"text_encoder_name": ENCODER, "weight_dtype": encoder, "device": device}
    graph.clip = graph.add("KolorsChatGLM3Loader", **loader)
    return draw(server, graph)


@pytest.fixture(scope="module")
def in_float32(server) -> torch.Tensor:
    return draw_stored(server)


@pytest.mark.parametrize("dtype", NEAR)
def test_unet_in_any_weight_dtype_is_near_float32(server, in_float32, device, dtype):
    near = NEAR if device == "cpu" else NEAR_IN_HALF
    assert 0 < distance(draw_stored(server, unet=dtype), in_float32) <= near[dtype]


@pytest.mark.parametrize("dtype", NEAR_ENCODER)
def test_encoder_in_any_weight_dtype_is_near_float32(server, in_float32, dtype):
    assert 0 < distance(draw_stored(server, encoder=dtype), in_float32) <= NEAR_ENCODER[dtype]


@pytest.mark.parametrize("model", ["unet", "encoder"])
def test_the_default_is_one_of_the_whole_weight_dtypes(server, device, model):
    """Of this file, which has float32: itself on the CPU, and what the host prefers on an accelerator."""
    default = draw_stored(server, **{model: "default"})
    same = [dtype for dtype in WHOLE if torch.equal(draw_stored(server, **{model: dtype}), default)]
    assert same == ["fp32"] if device == "cpu" else len(same) == 1


@pytest.mark.parametrize("place", ["default", "cpu"])
def test_encoder_on_a_chosen_device_gives_the_same(server, in_float32, place):
    server.free()
    assert distance(draw_stored(server, device=place), in_float32) < 1e-4


# ---- inpainting -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inpainting_unet(folder) -> str:
    unet = random_models.random_unet(random_models.TINY, in_channels=9)
    save_file(unet.state_dict(), folder / "diffusion_models" / INPAINTING_UNET)
    return INPAINTING_UNET


def inpaint(server, unet, mask, color=0xC08040):
    """The image of the nine-channel UNet; `mask` (0 keep, 1 redraw) and picture of one colour reach it as channels."""
    graph = KolorsGraph(unet=unet)
    conditioned = graph.add(
        "InpaintModelConditioning",
        positive=graph.encode(),
        negative=graph.encode(""),
        vae=graph.vae,
        pixels=graph.add("EmptyImage", width=64, height=64, batch_size=1, color=color),
        mask=graph.add("SolidMask", value=mask, width=64, height=64),
        noise_mask=False,
    )
    return server.image(graph, graph.sample(conditioned, conditioned.output(1), conditioned.output(2)))


def test_inpainting_unet_draws_by_mask_and_picture(server, inpainting_unet):
    image = inpaint(server, inpainting_unet, mask=0.0)
    assert image.shape == (1, 64, 64, 3)
    assert not numpy.array_equal(inpaint(server, inpainting_unet, mask=1.0), image)
    assert not numpy.array_equal(inpaint(server, inpainting_unet, mask=0.0, color=0x204080), image)
