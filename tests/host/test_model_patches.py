"""The host's own model patches, on and off: on Kolors they do what they do on the host's own SDXL.

The SDXL has the weights of the Kolors, and its prompts are projected beforehand. So both give the same latents without
a patch, and have to with each one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import loras
import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_chatglm3, random_tokenizer, random_unet, tokenizer_tensors
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from reference import relative_error
from safetensors.torch import save_file
from stock_nodes import stock

pytestmark = pytest.mark.host

EXACT = 1e-5  # relative L2, float32: sums in another order
EFFECT = 2e-4  # what a patch changes at least
SIZES = replace(TINY, hidden=96, channels=(32, 64, 128), depth=(1, 1), context=160)  # patches tell layers by widths
SEED = 7
SCHEDULER = "sgm_uniform"  # whose last step is as far as the others
TOKENS = 64  # of a prompt
POSITIVE, NEGATIVE, EXTRA = 1, 2, 3  # seeds of prompts
TEXTS = ("一只红苹果 a red apple", "low quality")
LORA, HYPERNETWORK, CHECKPOINT = "patch-lora.safetensors", "patch-hypernetwork.pt", "patch-unet.safetensors"
ATTENTION = re.compile(r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)|input_blocks\.1\.0\.in_layers\.2")


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    model: Any
    other: Any  # the same with other weights
    take: Callable[..., list]  # CONDITIONING as it stands in the graph -> as this model, or the other, takes it

    checkpoint: str | None = None  # the other in a file that the host recognises

    def prompt(self, seed: int, for_other: bool = False) -> list:
        return self.take(prompt(seed), for_other)


@dataclass(frozen=True)
class Run:
    """What a patch is tried with."""

    steps: int = 2
    images: int = 1
    cells: int = 16
    masked: bool = False
    tolerance: float = EXACT


def found(name: str) -> Callable[..., tuple]:
    """A node of the host; the test is skipped where it has none."""
    try:
        return stock(name)
    except AttributeError as error:
        pytest.skip(str(error))


def node(name: str, **inputs) -> Callable[[Side], Any]:
    """From a side to the MODEL that a node gives."""
    return lambda side: found(name)(side.model, **inputs)[0]


def merge(name: str, **ratios) -> Callable[[Side], Any]:
    return lambda side: found(name)(side.model, side.other, **ratios)[0]


def blocks(number: int) -> dict[str, float]:
    """Another ratio for each input of a node that merges block by block, of so many on either side."""
    names = ["time_embed.", "label_emb.", *(f"middle_block.{index}." for index in range(3)), "out."]
    names += [f"{kind}_blocks.{index}." for kind in ("input", "output") for index in range(number)]
    return {name: index / len(names) for index, name in enumerate(names)}


def perp_neg(side: Side):
    return found("PerpNeg")(side.model, side.prompt(EXTRA), neg_scale=1.0)[0]


def operation(side: Side):
    (sharpen,) = found("LatentOperationSharpen")(sharpen_radius=1, sigma=1.0, alpha=0.5)
    return found("LatentApplyOperationCFG")(side.model, sharpen)[0]


def lora_with_clip(name: str, side: Side):
    return found(name)(side.model, None, LORA, 1.0, 1.0)[0]


def lora_model(bypass: bool, side: Side):
    import comfy.sd

    load, tensors = found("LoraModelLoader"), found_file("loras", LORA)
    if bypass and not hasattr(comfy.sd, "load_bypass_lora_for_models"):
        pytest.skip("this host puts no LoRA beside the weights")
    return load(side.model, tensors, 1.0, **({"bypass": True} if bypass else {}))[0]


def found_file(folder: str, name: str) -> dict[str, torch.Tensor]:
    import comfy.utils
    import folder_paths

    return comfy.utils.load_torch_file(folder_paths.get_full_path(folder, name))


def windows(side: Side, **inputs):
    import comfy.context_windows

    options = {"context_schedule": "standard_static", "context_stride": 1, "closed_loop": False, "freenoise": False}
    options |= {"fuse_method": "pyramid", "context_length": 12, "context_overlap": 4, "dim": 3} | inputs
    if not hasattr(comfy.context_windows, "create_sampler_sample_wrapper") and options.pop("freenoise"):
        pytest.skip("this host shuffles no noise")
    return found("ContextWindowsManualNode")(side.model, **options)[0]


def downscale(after_skip: bool):
    return node(
        "PatchModelAddDownscale", block_number=3, downscale_factor=2.0, start_percent=0.0, end_percent=0.7,
        downscale_after_skip=after_skip, downscale_method="bicubic", upscale_method="bicubic",
    )  # fmt: skip


BATCHED = {"dim": 0, "context_length": 4, "context_overlap": 2}
CACHED = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
ATTENTION_STRENGTHS = {"q": 1.5, "k": 0.5, "v": 1.25, "out": 0.75}
GUIDANCE = {
    "APG": (node("APG", eta=0.5, norm_threshold=5.0, momentum=-0.5), Run()),
    "CFGNorm": (node("CFGNorm", strength=0.9), Run()),
    "CFGOverride": (node("CFGOverride", cfg=2.0, start_percent=0.0, end_percent=0.5), Run()),
    "CFGZeroStar": (node("CFGZeroStar"), Run()),
    "EpsilonScaling": (node("EpsilonScaling", scaling_factor=1.05), Run()),
    "FreSca": (node("FreSca", scale_low=0.8, scale_high=1.25, freq_cutoff=4), Run()),
    "LatentApplyOperationCFG": (operation, Run()),
    "Mahiro": (node("Mahiro"), Run()),
    "NAGuidance": (node("NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5), Run()),
    "PerpNeg": (perp_neg, Run()),
    "PerturbedAttentionGuidance": (node("PerturbedAttentionGuidance", scale=3.0), Run()),
    "RenormCFG": (node("RenormCFG", cfg_trunc=100.0, renorm_cfg=1.0), Run()),
    "RescaleCFG": (node("RescaleCFG", multiplier=0.7), Run()),
    "SelfAttentionGuidance": (node("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0), Run()),
    "TCFG": (node("TCFG"), Run()),
    "TemporalScoreRescaling": (node("TemporalScoreRescaling", tsr_k=0.1, tsr_sigma=5.0), Run()),
    "VideoLinearCFGGuidance": (node("VideoLinearCFGGuidance", min_cfg=1.0), Run(images=3)),
    "VideoTriangleCFGGuidance": (node("VideoTriangleCFGGuidance", min_cfg=1.0), Run(images=3)),
}
NETWORK = {
    "EasyCache": (node("EasyCacheNode", **CACHED), Run(steps=6)),
    "LazyCache": (node("LazyCacheNode", **CACHED), Run(steps=6)),
    "FreeU": (node("FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2), Run()),
    "FreeU_V2": (node("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), Run()),
    "HyperTile": (node("HyperTile", tile_size=32, swap_size=2, max_depth=1, scale_depth=False), Run()),
    "HyperTile, of random sizes": (
        node("HyperTile", tile_size=32, swap_size=3, max_depth=1, scale_depth=False), Run(cells=32)
    ),
    "HyperTile, scaled": (node("HyperTile", tile_size=32, swap_size=2, max_depth=1, scale_depth=True), Run(cells=32)),
    "HypernetworkLoader": (node("HypernetworkLoader", hypernetwork_name=HYPERNETWORK, strength=1.0), Run()),
    "PatchModelAddDownscale": (downscale(True), Run()),
    "PatchModelAddDownscale, before the skip": (downscale(False), Run()),
    "ContextWindowsManual, of columns": (partial(windows, dim=3), Run()),
    "ContextWindowsManual, of rows": (
        partial(windows, dim=2, context_schedule="looped_uniform", closed_loop=True, fuse_method="flat"), Run()
    ),
    "ContextWindowsManual, shuffled": (partial(windows, **BATCHED, freenoise=True), Run(images=6)),
    "DifferentialDiffusion": (node("DifferentialDiffusion"), Run(steps=4, masked=True)),
}  # fmt: skip
WEIGHTS = {
    "UNetSelfAttentionMultiply": (node("UNetSelfAttentionMultiply", **ATTENTION_STRENGTHS), Run()),
    "UNetCrossAttentionMultiply": (node("UNetCrossAttentionMultiply", **ATTENTION_STRENGTHS), Run()),
    "UNetTemporalAttentionMultiply": (
        node("UNetTemporalAttentionMultiply", self_structural=0.5, self_temporal=1.0, cross_structural=1.5,
             cross_temporal=1.0), Run(),
    ),
    "LoraLoader": (partial(lora_with_clip, "LoraLoader"), Run()),
    "LoraLoaderBypass": (partial(lora_with_clip, "LoraLoaderBypass"), Run()),
    "LoraLoaderModelOnly": (node("LoraLoaderModelOnly", lora_name=LORA, strength_model=1.0), Run()),
    "LoraLoaderBypassModelOnly": (node("LoraLoaderBypassModelOnly", lora_name=LORA, strength_model=1.0), Run()),
    "LoraModelLoader": (partial(lora_model, False), Run()),
    "LoraModelLoader, bypassed": (partial(lora_model, True), Run()),
    "ModelMergeAdd": (merge("ModelAdd"), Run(tolerance=10 * EXACT)),
    "ModelMergeBlocks": (merge("ModelMergeBlocks", input=0.25, middle=0.5, out=0.75), Run()),
    "ModelMergeSD1": (merge("ModelMergeSD1", **blocks(12)), Run()),
    "ModelMergeSDXL": (merge("ModelMergeSDXL", **blocks(9)), Run()),
    "ModelMergeSimple": (merge("ModelMergeSimple", ratio=0.5), Run()),
    "ModelMergeSubtract": (merge("ModelSubtract", multiplier=0.5), Run()),
}  # fmt: skip
SAMPLING = {
    **{
        f"ModelSamplingDiscrete, {kind}": (node("ModelSamplingDiscrete", sampling=kind, zsnr=zsnr), Run())
        for kind, zsnr in (("eps", True), ("v_prediction", False), ("lcm", False), ("x0", False), ("img_to_img", False))
    },
    **{
        f"ModelSamplingContinuousEDM, {kind}": (
            node("ModelSamplingContinuousEDM", sampling=kind, sigma_max=20.0, sigma_min=0.02), Run()
        )
        for kind in ("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")
    },
    "ModelSamplingContinuousV": (
        node("ModelSamplingContinuousV", sampling="v_prediction", sigma_max=20.0, sigma_min=0.03), Run()
    ),
    "ModelSamplingAuraFlow": (node("ModelSamplingAuraFlow", shift=1.73), Run()),
    "ModelSamplingFlux": (node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=128, height=128), Run()),
    "ModelSamplingSD3": (node("ModelSamplingSD3", shift=3.0), Run()),
    "ModelSamplingStableCascade": (node("ModelSamplingStableCascade", shift=2.0), Run()),
    "ModelComputeDtype": (node("ModelComputeDtype", dtype="bf16"), Run(tolerance=0.05)),
}  # fmt: skip
PATCHES = GUIDANCE | NETWORK | WEIGHTS | SAMPLING
#: What changes nothing on a UNet of this shape.
WITHOUT_EFFECT = {
    "ModelAttentionBackend": node("ModelAttentionBackend", attention="pytorch attention"),
    "MultiGPU_WorkUnits": node("MultiGPUCFGSplitNode", max_gpus=2),
    "ScaleROPE": node("ScaleROPE", scale_x=2.0, shift_x=1.0, scale_y=2.0, shift_y=1.0, scale_t=2.0, shift_t=1.0),
    "SelectModelDevice": node("SelectModelDeviceNode", device="default"),
    "SkipLayerGuidanceDiT": node("SkipLayerGuidanceDiT", double_layers="1, 2", single_layers="1, 2", scale=3.0,
                                 start_percent=0.0, end_percent=1.0, rescaling_scale=0.0),
    "SkipLayerGuidanceDiTSimple": node("SkipLayerGuidanceDiTSimple", double_layers="1, 2", single_layers="1, 2",
                                       start_percent=0.0, end_percent=1.0),
    "SkipLayerGuidanceSD3": node("SkipLayerGuidanceSD3", layers="1, 2", scale=3.0, start_percent=0.0, end_percent=1.0),
    "TomePatchModel": node("TomePatchModel", ratio=0.5),
}  # fmt: skip


# ---- prompts that bring regions, ranges or hooks --------------------------------------------------------------------


def combined(first: list, second: list) -> list:
    return found("ConditioningCombine")(first, second)[0]


def areas(side: Side):
    left = found("ConditioningSetArea")(side.prompt(POSITIVE), 64, 128, 0, 0, 1.0)[0]
    right = found("ConditioningSetAreaPercentage")(side.prompt(EXTRA), 0.75, 1.0, 0.25, 0.0, 0.8)[0]
    return combined(left, right), side.prompt(NEGATIVE)


def strength_of_area(side: Side):
    background = found("ConditioningSetAreaStrength")(side.prompt(EXTRA), 0.5)[0]
    return combined(side.prompt(POSITIVE), background), side.prompt(NEGATIVE)


def masked(bounds: str, side: Side):
    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1
    left = found("ConditioningSetMask")(side.prompt(POSITIVE), 1 - mask, bounds, 1.0)[0]
    right = found("ConditioningSetMask")(side.prompt(EXTRA), mask, bounds, 0.9)[0]
    return combined(left, right), side.prompt(NEGATIVE)


def ranged(side: Side):
    ranges = ((EXTRA, 0.0, 0.4), (POSITIVE, 0.4, 1.0))
    parts = [found("ConditioningSetTimestepRange")(side.prompt(seed), *ends)[0] for seed, *ends in ranges]
    return combined(*parts), side.prompt(NEGATIVE)


def concatenated(side: Side):
    return found("ConditioningConcat")(side.prompt(POSITIVE), side.prompt(EXTRA))[0], side.prompt(NEGATIVE)


def averaged(side: Side):
    return found("ConditioningAverage")(side.prompt(POSITIVE), side.prompt(EXTRA), 0.5)[0], side.prompt(NEGATIVE)


def lora_hooks(**keyframes):
    (hooks,) = found("CreateHookLora")(LORA, 1.0, 1.0)
    if not keyframes:
        return hooks
    if "strength_mult" in keyframes:
        (frames,) = found("CreateHookKeyframe")(1.0, 0.0)
        (frames,) = found("CreateHookKeyframe")(prev_hook_kf=frames, **keyframes)
    else:
        (frames,) = found("CreateHookKeyframesInterpolated")(**keyframes)
    return found("SetHookKeyframes")(hooks, frames)[0]


STEP = {"strength_mult": 0.25, "start_percent": 0.4}
SLOPE = {"strength_start": 1.0, "strength_end": 0.0, "interpolation": "linear", "start_percent": 0.0}
SLOPE |= {"end_percent": 0.9, "keyframes_count": 3}


def hooked(keyframes: dict, side: Side):
    hooks = lora_hooks(**keyframes)
    prompts = side.prompt(POSITIVE), side.prompt(NEGATIVE)
    return found("PairConditioningSetProperties")(*prompts, 1.0, "default", hooks=hooks)


def hooked_by_region(side: Side):
    """One prompt with a LoRA in the right half for a part of the steps, one without, and one for the rest."""
    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1
    (steps, _, _) = found("ConditioningTimestepsRange")(0.0, 0.6)
    options = {"mask": mask, "hooks": lora_hooks(**STEP), "timesteps": steps}
    add = found("ConditioningSetPropertiesAndCombine")
    (both,) = add(side.prompt(POSITIVE), side.prompt(EXTRA), 0.8, "mask bounds", **options)
    (left,) = found("ConditioningSetProperties")(both, 1.0, "default", mask=1 - mask)
    return found("ConditioningSetDefaultAndCombine")(left, side.prompt(EXTRA))[0], side.prompt(NEGATIVE)


def hooked_in_clip(clip, scheduled: bool, side: Side):
    clip = found("SetClipHooks")(clip, apply_to_conds=True, schedule_clip=scheduled, hooks=lora_hooks(**STEP))[0]
    return texts(clip, side)


def texts(clip, side: Side):
    return tuple(side.take(stock("CLIPTextEncode")(clip, text)[0]) for text in TEXTS)


def model_as_lora(side: Side):
    """Kolors by the node, which loads a checkpoint; SDXL is too small to be recognised in one."""
    import comfy.hooks

    if side.checkpoint is None:
        weights = comfy.hooks.get_patch_weights_from_model(side.other)
        hooks = comfy.hooks.create_hook_model_as_lora(weights, None, 1.0, 0.0)
    else:
        (hooks,) = found("CreateHookModelAsLoraModelOnly")(side.checkpoint, 1.0)
    positive = found("ConditioningSetProperties")(side.prompt(POSITIVE, True), 1.0, "default", hooks=hooks)[0]
    return positive, side.prompt(NEGATIVE)


PROMPTS = {
    "areas": areas,
    "strength of an area": strength_of_area,
    "masks": partial(masked, "default"),
    "bounds of masks": partial(masked, "mask bounds"),
    "ranges": ranged,
    "concatenated": concatenated,
    "averaged": averaged,
    "a LoRA": partial(hooked, {}),
    "a LoRA in two steps": partial(hooked, STEP),
    "a LoRA that fades": partial(hooked, SLOPE),
    "a LoRA in a region": hooked_by_region,
    "a model as LoRA": model_as_lora,
}


# ---- guiders --------------------------------------------------------------------------------------------------------


def dual_cfg(style: str, side: Side):
    prompts = (side.prompt(seed) for seed in (POSITIVE, EXTRA, NEGATIVE))
    return found("DualCFGGuider")(side.model, *prompts, 3.0, 2.0, style)[0]


def dual_model(side: Side):
    positive, negative = side.prompt(POSITIVE), side.prompt(NEGATIVE, True)
    return found("DualModelGuider")(side.model, positive, 3.0, model_negative=side.other, negative=negative)[0]


def perp_neg_guider(side: Side):
    prompts = (side.prompt(seed) for seed in (POSITIVE, NEGATIVE, EXTRA))
    return found("PerpNegGuider")(side.model, *prompts, 3.0, 1.0)[0]


GUIDERS = {
    "BasicGuider": lambda side: found("BasicGuider")(side.model, side.prompt(POSITIVE))[0],
    "DualCFGGuider": partial(dual_cfg, "regular"),
    "DualCFGGuider, nested": partial(dual_cfg, "nested"),
    "DualModelGuider": dual_model,
    "PerpNegGuider": perp_neg_guider,
}


# ---- the two models -------------------------------------------------------------------------------------------------


@cache
def prompt(seed: int):
    """A CONDITIONING of Kolors of which the last tokens are not padding."""
    tokens = 10 * seed
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(1, tokens + 1, SIZES.hidden, generator=generator)
    context = torch.cat((states[:, :1].expand(-1, TOKENS - tokens, -1), states[:, 1:]), dim=1)
    return [[context, {"pooled_output": torch.randn(1, SIZES.hidden, generator=generator)}]]


@pytest.fixture(scope="module")
def kolors(tmp_path_factory) -> Side:
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    folder, models = tmp_path_factory.mktemp("unets"), []
    for seed in range(2):
        path = folder / f"{seed}.safetensors"
        save_file(random_unet(SIZES, seed=seed).state_dict(), path)
        models.append(loaders.load_unet(path))
    write_files(*models)
    return Side(*models, lambda conditioning, for_other=False: conditioning, CHECKPOINT)


@pytest.fixture(scope="module")
def sdxl(kolors) -> Side:
    import stock_sdxl

    twin, other = map(stock_sdxl.as_sdxl, (kolors.model, kolors.other))

    def take(conditioning, for_other=False):
        return stock_sdxl.project(kolors.other if for_other else kolors.model, conditioning)

    return Side(twin, other, take)


@pytest.fixture(scope="module")
def clip(kolors, tmp_path_factory):
    import loaders

    tokenizer = ChatGLM3Tokenizer(random_tokenizer())
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_file(random_chatglm3(SIZES, tokenizer.pieces) | tokenizer_tensors(tokenizer.model), path)
    return loaders.load_text_encoder(str(path))


def write_files(model, other) -> None:
    """What some nodes read, in the host's folders: a LoRA, a checkpoint, and a hypernetwork for the self attentions.

    One for the cross attentions has no effect on Kolors, whose patches see the prompts before they are projected.
    """
    import comfy.sd
    import folder_paths

    def place(kind: str, name: str) -> Path:
        path = Path(folder_paths.get_folder_paths(kind)[0]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    pairs = loras.random_pairs(model.model.diffusion_model, ATTENTION)
    tensors = loras.written(pairs, "diffusion_model.{}".format, ".lora_down.weight", ".lora_up.weight")
    loras.save(tensors, place("loras", LORA))
    comfy.sd.save_checkpoint(str(place("checkpoints", CHECKPOINT)), other)
    width = SIZES.channels[1]
    layer = {f"linear.{key}": tensor for key, tensor in torch.nn.Linear(width, width).state_dict().items()}
    torch.save({width: [layer, layer]}, place("hypernetworks", HYPERNETWORK))  # of keys and of values


def draw(model, positive, negative, run: Run) -> torch.Tensor:
    latent = {"samples": torch.zeros(run.images, 4, run.cells, run.cells)}
    if run.masked:
        latent |= {"samples": latent["samples"] + 1, "noise_mask": torch.linspace(0, 1, 128).expand(1, 128, 128)}
    settings = SEED, run.steps, 3.0, "euler", SCHEDULER
    return stock("KSampler")(model, *settings, positive, negative, latent, 1.0)[0]["samples"]


def guide(guider, model) -> torch.Tensor:
    (sigmas,) = stock("BasicScheduler")(model, SCHEDULER, 2, 1.0)
    (noise,), (solver,) = stock("RandomNoise")(SEED), stock("KSamplerSelect")("euler")
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return stock("SamplerCustomAdvanced")(noise, guider, solver, sigmas, latent)[0]["samples"]


def draw_side(side: Side, run: Run, model=None) -> torch.Tensor:
    return draw(model or side.model, side.prompt(POSITIVE), side.prompt(NEGATIVE), run)


@pytest.fixture(scope="module")
def plain(kolors, sdxl):
    """Both sides' latents without a patch."""
    return cache(lambda run: tuple(draw_side(side, run) for side in (kolors, sdxl)))


def compare(ours, theirs, unpatched, tolerance: float = EXACT) -> None:
    """Latents of Kolors and of SDXL with the patch, and both without."""
    assert theirs.isfinite().all()
    assert min(map(relative_error, (ours, theirs), unpatched)) > EFFECT
    assert relative_error(ours, theirs) <= tolerance


def test_without_a_patch_both_are_equal(plain):
    for run in {run for _, run in PATCHES.values()}:
        assert relative_error(*plain(run)) <= EXACT


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_does_what_it_does_on_sdxl(kolors, sdxl, plain, name):
    from stock_sdxl import project

    build, run = PATCHES[name]
    patched = build(kolors)
    ours, unpatched = draw_side(kolors, run, patched), plain(run)
    projected = (project(patched, prompt(seed)) for seed in (POSITIVE, NEGATIVE))
    theirs = draw(build(sdxl), *projected, run)
    compare(ours, theirs, unpatched, run.tolerance)
    assert torch.equal(draw_side(kolors, run), unpatched[0])


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_patch_has_no_effect_as_on_sdxl(kolors, sdxl, plain, name):
    for side, unpatched in zip((kolors, sdxl), plain(Run())):
        patched = WITHOUT_EFFECT[name](side)
        assert relative_error(draw_side(side, Run(), patched), unpatched) <= EXACT
        assert torch.equal(draw_side(side, Run()), unpatched)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_do_what_they_do_on_sdxl(kolors, sdxl, plain, name):
    drawn = [draw(side.model, *PROMPTS[name](side), Run()) for side in (kolors, sdxl)]
    compare(*drawn, plain(Run()))
    assert torch.equal(draw_side(kolors, Run()), plain(Run())[0])


@pytest.mark.parametrize("scheduled", [False, True])
def test_hooks_of_the_text_encoder_reach_the_model(kolors, sdxl, clip, scheduled):
    plain = [draw(side.model, *texts(clip, side), Run()) for side in (kolors, sdxl)]
    drawn = [draw(side.model, *hooked_in_clip(clip, scheduled, side), Run()) for side in (kolors, sdxl)]
    compare(*drawn, plain)


@pytest.mark.parametrize("name", GUIDERS)
def test_a_guider_does_what_it_does_on_sdxl(kolors, sdxl, plain, name):
    drawn = [guide(GUIDERS[name](side), side.model) for side in (kolors, sdxl)]
    compare(*drawn, plain(Run()))


def test_torch_compile_finds_one_graph(kolors):
    """The node offers inductor, which takes minutes; the graphs are the same for each backend.

    SDXL has one graph as well where its attention is torch's, and 55 where it is the host's own for a CPU.
    """
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    expected = draw_side(kolors, Run())
    (compiled,) = stock("TorchCompileModel")(kolors.model, "eager")
    try:
        assert relative_error(draw_side(kolors, Run(), compiled), expected) <= EXACT
        assert (counters["stats"]["unique_graphs"], len(counters["graph_break"])) == (1, 0)
    finally:
        torch._dynamo.reset()
    assert torch.equal(draw_side(kolors, Run()), expected)
