"""The sampler bridge in graphs: its own nodes, the stock nodes around it, few-step LoRAs, and the queue."""

from __future__ import annotations

import pytest
import torch
from client import KolorsGraph, PromptError, distance
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


def custom(graph, sigmas, latent=None, noise_seed=1, model=None, sampler="euler"):
    """SamplerCustomAdvanced in the plain graph; noise_seed: None for DisableNoise."""
    guider = {"model": model or graph.model, "positive": graph.encode(), "negative": graph.encode(""), "cfg": 5.0}
    return graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("DisableNoise") if noise_seed is None else graph.add("RandomNoise", noise_seed=noise_seed),
        guider=graph.add("CFGGuider", **guider),
        sampler=graph.add("KSamplerSelect", sampler_name=sampler),
        sigmas=sigmas,
        latent_image=latent or graph.empty_latent(),
    )


def schedule(graph, scheduler="euler", steps=4, **changes):
    """Kolors Scheduler in the plain graph."""
    inputs = {"model": graph.model, "scheduler": scheduler, "steps": steps, "denoise": 1.0}
    return graph.add("KolorsScheduler", **inputs | changes)


@pytest.mark.parametrize("preset", ["euler", "dpmpp_2m", "dpmpp_2m_karras"])
def test_scheduler_node_in_the_stock_custom_sampler_gives_the_references_latent(server, preset):
    """That of Kolors KSampler, also where the schedule starts below the largest sigma."""
    graph = KolorsGraph()
    found = server.latent(graph, custom(graph, schedule(graph, preset), sampler=preset.removesuffix("_karras")))
    assert distance(found, draw(server, sampler=preset)) <= 1e-5


@pytest.mark.parametrize("split", [("SplitSigmas", {"step": 3}), ("SplitSigmasDenoise", {"denoise": 0.25})], ids=str)
def test_a_split_schedule_goes_on_where_it_stopped(server, reference, split):
    graph = KolorsGraph()
    node, inputs = split
    high = graph.add(node, sigmas=schedule(graph), **inputs)
    first = custom(graph, high)
    second = custom(graph, high.output(1), first, None)
    assert distance(server.latent(graph, second), reference) <= 1e-5


def test_two_advanced_ksamplers_go_on_where_the_first_stopped(server):
    graph = KolorsGraph()
    options = {"steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "ddim_uniform", "noise_seed": 1}
    options |= {"model": graph.model, "positive": graph.encode(), "negative": graph.encode("")}
    first = graph.add(
        "KSamplerAdvanced", add_noise="enable", start_at_step=0, end_at_step=3, return_with_leftover_noise="enable",
        latent_image=graph.empty_latent(), **options,
    )  # fmt: skip
    second = graph.add(
        "KSamplerAdvanced", add_noise="disable", start_at_step=3, end_at_step=10000, latent_image=first,
        return_with_leftover_noise="disable", **options,
    )  # fmt: skip
    found = server.latent(graph, second)
    graph = KolorsGraph()
    whole = server.latent(graph, graph.sample(steps=4, scheduler="ddim_uniform"))
    assert distance(found, whole) <= 1e-5


def test_train_steps_of_ones_own_are_visited(server, reference):
    """Those of euler's 4 steps, whatever `steps` says; one that no spacing has gives another latent."""
    graph = KolorsGraph()
    found = server.latent(graph, custom(graph, schedule(graph, steps=9, timesteps="826, 551, 276, 1")))
    assert distance(found, reference) <= 1e-5
    graph = KolorsGraph()
    other = server.latent(graph, custom(graph, schedule(graph, steps=9, timesteps="999 551 276 1")))
    assert distance(other, reference) > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timesteps": "249, 499"}, "The input timesteps is 249, 499. Expected whole numbers that fall"),
        ({"timesteps": "999", "scheduler": "unipc"}, "unipc takes no timesteps"),
        ({"scheduler": "lcm", "steps": 60}, "lcm has 1 to 50 steps, not 60."),
    ],
)
def test_a_schedule_that_does_not_exist_is_an_error_in_a_sentence(server, changes, said):
    graph = KolorsGraph()
    server.save_latent(graph, custom(graph, schedule(graph, **changes)))
    with pytest.raises(PromptError) as failure:
        server.run(graph)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsScheduler")
    assert str(failure.value).startswith(said)


def test_more_steps_than_lcm_has_are_an_error_of_the_sampler(server):
    with pytest.raises(PromptError, match=r"^lcm has 1 to 50 steps, not 60\. Set steps within that range\.$"):
        draw(server, sampler="lcm", steps=60)


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
    few_steps = draw(server, patch, sampler="lcm", cfg=1.0)
    assert distance(few_steps, with_lora) > 0.01
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
