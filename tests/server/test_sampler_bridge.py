"""The sampler bridge in graphs: its own nodes, the stock nodes around it, few-step LoRAs, and the queue."""

from __future__ import annotations

import pytest
import torch
from client import KolorsGraph, distance
from comfyui_kolors.kolors_core.sampling.schedule import PRESETS
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host


def bridge(graph, **changes):
    """Kolors KSampler in the plain graph."""
    inputs = {
        "model": graph.model, "seed": 1, "steps": 4, "cfg": 5.0, "sampler": "euler", "positive": graph.encode(),
        "negative": graph.encode(""), "latent_image": graph.empty_latent(), "denoise": 1.0,
    }  # fmt: skip
    return graph.add("KolorsKSampler", **inputs | changes)


def draw(server, patch=None, **changes):
    graph = KolorsGraph()
    if patch:
        graph.model = patch(graph)
    return server.latent(graph, bridge(graph, **changes))


@pytest.fixture(scope="module")
def reference(server):
    return draw(server)


def test_every_preset_gives_a_latent_of_its_own(server):
    latents = [draw(server, sampler=preset) for preset in PRESETS]
    assert all(latent.isfinite().all() for latent in latents)
    assert len({latent.numpy().tobytes() for latent in latents}) == len(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_image_taken_from_a_batch_is_drawn_as_in_the_batch(server, preset):
    graph = KolorsGraph()
    batch = graph.empty_latent(72, 40, batch_size=3)
    whole = server.latent(graph, bridge(graph, sampler=preset, latent_image=batch))
    for index, length in ((1, 1), (0, 2), (2, 1)):
        part = graph.add("LatentFromBatch", samples=batch, batch_index=index, length=length)
        found = server.latent(graph, bridge(graph, sampler=preset, latent_image=part))
        assert distance(found, whole[index : index + length]) <= 1e-5


def test_scheduler_node_feeds_the_stock_custom_sampler(server, reference):
    """The same sigmas with the host's own noise scaling: near, but not the reference's image."""
    graph = KolorsGraph()
    sigmas = graph.add("KolorsScheduler", model=graph.model, scheduler="euler", steps=4, denoise=1.0)
    samples = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=1),
        guider=graph.add("CFGGuider", model=graph.model, positive=graph.encode(), negative=graph.encode(""), cfg=5.0),
        sampler=graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=sigmas,
        latent_image=graph.empty_latent(),
    )
    assert 0 < distance(server.latent(graph, samples), reference) < 0.2


PATCHES = {
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "RescaleCFG": {"multiplier": 0.7},
}


@pytest.mark.parametrize("node", PATCHES)
def test_stock_model_patches_change_the_latent(server, reference, node):
    patched = draw(server, lambda graph: graph.add(node, model=graph.model, **PATCHES[node]))
    assert patched.isfinite().all()
    assert distance(patched, reference) > 1e-5  # random weights give guidance little to rescale


def masked(graph, image):
    mask = graph.add("SolidMask", value=1.0, width=64, height=64)
    half = graph.add("SolidMask", value=0.0, width=32, height=64)
    mask = graph.add("MaskComposite", destination=mask, source=half, x=0, y=0, operation="multiply")
    return graph.add("SetLatentNoiseMask", samples=image, mask=mask)


@pytest.mark.parametrize("differential", [False, True])
def test_a_noise_mask_keeps_the_rest(server, reference, differential):
    graph = KolorsGraph()
    image = bridge(graph)
    if differential:
        graph.model = graph.add("DifferentialDiffusion", model=graph.model)
    samples = server.latent(graph, bridge(graph, latent_image=masked(graph, image), denoise=0.75, seed=2))
    assert torch.allclose(samples[..., :3], reference[..., :3], atol=1e-4)
    assert distance(samples[..., 5:], reference[..., 5:]) > 0.1


def test_a_second_pass_at_a_larger_size(server):
    graph = KolorsGraph()
    larger = graph.add(
        "LatentUpscale", samples=bridge(graph), upscale_method="nearest-exact", width=96, height=128, crop="disabled"
    )
    first, second = server.latent(graph, larger), None
    second = server.latent(graph, bridge(graph, latent_image=larger, denoise=0.5, sampler="dpmpp_2m_karras"))
    assert second.shape == first.shape == (1, 4, 16, 12)
    assert distance(second, first) > 0.1


@pytest.mark.parametrize("schedule", ["kolors", "sdxl"])
def test_the_schedule_is_chosen_per_model(server, reference, schedule):
    latent = draw(server, lambda graph: graph.add("KolorsModelSampling", model=graph.model, schedule=schedule))
    assert torch.equal(latent, reference) is (schedule == "kolors")


@pytest.fixture(scope="module")
def few_step_lora(server):
    """A small random LoRA under kohya's SDXL names, as Hyper, LCM and Lightning come."""
    unet = load_file(server.base / "models/diffusion_models/kolors-random-unet.safetensors")
    generator = torch.Generator().manual_seed(0)
    lora = {}
    for key, weight in unet.items():
        if key.endswith(("attn1.to_q.weight", "attn2.to_k.weight")):
            name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
            lora[f"{name}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator)
            lora[f"{name}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
            lora[f"{name}.alpha"] = torch.tensor(2.0)
    (server.base / "models/loras").mkdir(exist_ok=True)
    save_file(lora, server.base / "models/loras/few-step.safetensors")
    return "few-step.safetensors"


def test_a_few_step_lora_on_sdxls_schedule(server, few_step_lora):
    def patch(graph):
        model = graph.add("KolorsModelSampling", model=graph.model, schedule="sdxl")
        return graph.add("LoraLoaderModelOnly", model=model, lora_name=few_step_lora, strength_model=1.0)

    with_lora, without = draw(server, patch, cfg=1.0), draw(server, cfg=1.0)
    assert with_lora.isfinite().all()
    assert distance(with_lora, without) > 0.01
    graph = KolorsGraph()
    model = graph.add("ModelSamplingDiscrete", model=patch(graph), sampling="lcm", zsnr=False)
    latent = server.latent(graph, graph.sample(model=model, sampler_name="lcm", scheduler="sgm_uniform", cfg=1.0))
    assert latent.isfinite().all()


def test_an_interrupt_frees_the_queue(server, reference):
    graph = KolorsGraph()
    server.save_latent(graph, bridge(graph, steps=1000, seed=3))
    prompt_id = server.queue(graph)
    while not server.request("/queue")["queue_running"]:
        pass
    server.request("/interrupt", {})
    status = server.wait(prompt_id)["status"]
    assert [name for name, _ in status["messages"]][-1] == "execution_interrupted"
    assert torch.equal(draw(server), reference)
