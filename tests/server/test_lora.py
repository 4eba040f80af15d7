"""LoRAs in graphs: through the stock nodes and ours, as hooks, saved, trained, and what users load by mistake."""

from __future__ import annotations

import re

import pytest
import torch
from client import KolorsGraph, Link, PromptError, distance
from comfyui_kolors.demo.random_models import TINY, random_unet
from loras import RANK, random_pairs, written
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

DIFFUSERS, KOHYA, FLUX, ENCODER = "diffusers.safetensors", "kohya.safetensors", "flux.safetensors", "chatglm3.bin"
MODULES = len(random_pairs(random_unet(TINY)))
EQUAL = 1e-5  # relative L2: the same sums in another order


@pytest.fixture(scope="module", autouse=True)
def files(server) -> None:
    """One LoRA in a style that the stock nodes read and in one that they do not, and others."""
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    pairs = random_pairs(random_unet(TINY))
    save_file(written(pairs, "unet.{}".format, ".lora.down.weight", ".lora.up.weight"), folder / DIFFUSERS)
    kohya = written(pairs, lambda m: "lora_unet_" + m.replace(".", "_"), ".lora_down.weight", ".lora_up.weight", RANK)
    save_file(kohya, folder / KOHYA)
    flux = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.zeros(4, 8)}
    save_file(flux, folder / FLUX)
    generator = torch.Generator().manual_seed(1)
    encoder = {
        f"base_model.model.encoder.layers.{layer}.self_attention.query_key_value.{part}": torch.randn(
            shape, generator=generator
        )
        * 0.2
        for layer in range(TINY.layers)
        for part, shape in (
            ("lora_A.weight", (RANK, TINY.hidden)),
            ("lora_B.weight", (TINY.hidden + 2 * TINY.groups * TINY.head_dim, RANK)),
        )
    }
    torch.save(encoder, folder / ENCODER)


def lora(graph, name: str, strength: float = 1.0, clip: Link | None = None) -> Link:
    """Our node on the graph's model."""
    inputs = {"model": graph.model, "lora_name": name, "strength_model": strength, "strength_clip": strength}
    return graph.add("KolorsLoraLoader", **inputs | ({"clip": clip} if clip else {}))


def draw(server, name: str | None = None, strength: float = 1.0) -> torch.Tensor:
    graph = KolorsGraph()
    if name:
        graph.model = lora(graph, name, strength)
    return server.latent(graph, graph.sample())


@pytest.fixture(scope="module")
def styled(server, files):
    """The latent of the plain graph with the LoRA."""
    return draw(server, DIFFUSERS)


def test_a_lora_changes_the_image_and_leaves_no_trace(server, plain, styled):
    assert distance(styled, plain) > 0.01
    assert torch.equal(draw(server), plain)
    assert distance(draw(server, DIFFUSERS, 0.5), styled) > 0.001
    assert torch.equal(draw(server, DIFFUSERS, 0.0), plain)
    server.free()
    assert torch.equal(draw(server, DIFFUSERS), styled)


def test_the_count_is_in_the_log(server, styled):
    assert f"LoRA {DIFFUSERS}: {MODULES} of {MODULES} modules matched" in server.read_log()


@pytest.mark.parametrize("node", ["LoraLoader", "LoraLoaderModelOnly", "KolorsLoraLoader"])
def test_the_stock_nodes_read_kohyas_style(server, styled, node):
    graph = KolorsGraph()
    inputs = {"model": graph.model, "lora_name": KOHYA, "strength_model": 1.0}
    if node != "LoraLoaderModelOnly":
        inputs |= {"clip": graph.clip, "strength_clip": 1.0}
    graph.model = graph.add(node, **inputs)
    assert distance(server.latent(graph, graph.sample()), styled) <= EQUAL


def add_save(server, graph, weights, prefix: str) -> None:
    """Save LoRA Weights, which had another ID on 0.3.65."""
    name = "SaveLoRA" if server.request("/object_info/SaveLoRA") else "SaveLoRANode"
    graph.add(name, lora=weights, prefix=prefix)


@pytest.fixture(scope="module")
def converted(server, files) -> str:
    """The diffusers file as our third output and the stock Save LoRA Weights write it, in models/loras."""
    graph = KolorsGraph()
    add_save(server, graph, lora(graph, DIFFUSERS).output(2), "loras/converted")
    server.run(graph)
    (file,) = (server.base / "output" / "loras").glob("converted_*.safetensors")
    return file.replace(server.base / "models" / "loras" / "converted.safetensors").name


def test_a_converted_file_loads_in_the_stock_node(server, styled, converted):
    graph = KolorsGraph()
    graph.model = graph.add("LoraLoaderModelOnly", model=graph.model, lora_name=converted, strength_model=1.0)
    assert distance(server.latent(graph, graph.sample()), styled) <= EQUAL


def test_as_a_hook_on_both_prompts_it_is_the_same(server, plain, styled, converted):
    graph = KolorsGraph()
    hook = graph.add("CreateHookLoraModelOnly", lora_name=converted, strength_model=1.0)
    assert distance(server.latent(graph, graph.sample(*hooked(graph, hook))), styled) <= EQUAL
    assert torch.equal(draw(server), plain)


def test_as_a_hook_it_can_begin_later(server, converted):
    """Never, after a third of the schedule, from the start: three latents, in this order."""
    latents = []
    for start in (1.0, 0.3, 0.0):
        graph = KolorsGraph()
        hook = graph.add("CreateHookLoraModelOnly", lora_name=converted, strength_model=1.0)
        keyframe = graph.add("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)
        keyframe = graph.add("CreateHookKeyframe", strength_mult=1.0, start_percent=start, prev_hook_kf=keyframe)
        hook = graph.add("SetHookKeyframes", hooks=hook, hook_kf=keyframe)
        latents.append(server.latent(graph, graph.sample(*hooked(graph, hook), steps=6)))
    never, later, always = latents
    assert 1e-4 < distance(later, never) < distance(always, never)


def hooked(graph, hook: Link) -> list[Link]:
    """Both prompts of the plain graph with a hook."""
    return [
        graph.add("ConditioningSetProperties", cond_NEW=text, strength=1.0, set_cond_area="default", hooks=hook)
        for text in (graph.encode(), graph.encode(""))
    ]


def test_a_lora_on_chatglm3_changes_the_prompt(server, plain):
    graph = KolorsGraph()
    graph.clip = lora(graph, ENCODER, clip=graph.clip).output(1)
    latent = server.latent(graph, graph.sample())
    assert distance(latent, plain) > 0.001
    assert torch.equal(draw(server), plain)


# ---- training -------------------------------------------------------------------------------------------------------

TRAINING = {
    "batch_size": 1, "grad_accumulation_steps": 1, "steps": 3, "learning_rate": 0.01, "rank": 2, "optimizer": "AdamW",
    "loss_function": "MSE", "seed": 0, "training_dtype": "fp32", "lora_dtype": "fp32", "algorithm": "LoRA",
    "existing_lora": "[None]",
}  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_hosts_training_makes_a_lora_that_loads_back(server, plain, checkpointing):
    node = server.request("/object_info/TrainLoraNode")
    if not node:
        pytest.skip("this host has no TrainLoraNode")
    info = node["TrainLoraNode"]["input"]
    graph = KolorsGraph()
    known = {name: spec[1]["default"] for name, spec in info["required"].items() if "default" in (*spec, {})[1]}
    wanted = TRAINING | {"gradient_checkpointing": checkpointing}
    known |= {name: value for name, value in wanted.items() if name in info["required"]}
    name = f"trained-{checkpointing}"
    pictures = graph.sample(latent=graph.empty_latent(batch_size=2))
    if server.request("/object_info/SaveLoRA"):  # a list, as a dataset is; 0.3.65 takes a batch
        pictures = graph.add("RebatchLatents", latents=pictures, batch_size=1)
    trained = graph.add("TrainLoraNode", model=graph.model, positive=graph.encode(), latents=pictures, **known)
    outputs = {name: index for index, name in enumerate(node["TrainLoraNode"]["output"])}
    add_save(server, graph, trained.output(outputs["LORA_MODEL"]), f"loras/{name}")
    server.run(graph)
    (file,) = (server.base / "output" / "loras").glob(f"{name}_*.safetensors")
    assert any(tensor.any() for key, tensor in load_file(file).items() if "lora_down" in key or "lora_up" in key)
    file.replace(server.base / "models" / "loras" / f"{name}.safetensors")
    server.free()
    latent = draw(server, f"{name}.safetensors")
    assert distance(latent, plain) > 1e-3
    assert torch.equal(draw(server), plain)
    counted = re.findall(rf"LoRA {name}\.safetensors: (\d+) of (\d+) modules matched", server.read_log())
    assert counted
    assert all(matched == total for matched, total in counted)
    graph = KolorsGraph()
    graph.model = graph.add("LoraLoaderModelOnly", model=graph.model, lora_name=f"{name}.safetensors", strength_model=1)
    assert distance(server.latent(graph, graph.sample()), latent) <= EQUAL


# ---- what users load by mistake -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (FLUX, ("0 of its 1 modules matched", "Expected a LoRA for Kolors, or one of SDXL")),
        (ENCODER, ("for the text encoder", "Connect the CLIP")),
    ],
)
def test_wrong_files_are_named_and_the_queue_goes_on(server, plain, name, words):
    with pytest.raises(PromptError) as failure:
        draw(server, name)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsLoraLoader")
    for part in (name, str(server.base / "models" / "loras"), *words):
        assert part in str(failure.value)
    server.free()
    assert torch.equal(draw(server), plain)
