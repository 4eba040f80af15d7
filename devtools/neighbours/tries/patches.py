"""Packs that patch a MODEL: guidance, caches, attention."""

from __future__ import annotations

from .recipe import DRAWS, KEEPS, Inputs, OnCanvas, Pack, encoded, file, given, node, of, sampled

SET_AND_GET = """
  const set = make("SetNode"), get = make("GetNode");
  source.connect(0, set, 0);
  set.widgets[0].value = "model";
  set.widgets[0].callback?.("model");
  get.widgets[0].value = "model";
  get.onRename();
  get.connect(0, target, slot);
"""
TILES: Inputs = {"tile_width": 64, "tile_height": 64, "tile_overlap": 8}
KL_VAE = of("VAELoader", vae_name=file("kl_vae"))
NAG = Pack(
    tuple(node(name, refusal="is not support for NAG") for name in ("KSamplerWithNAG", "NAGCFGGuider", "NAGGuider")),
    "It takes no class but ComfyUI's own, and says so. *Normalized Attention Guidance* of sd-perturbed-attention does "
    "the same on Kolors.",
    "它只认 ComfyUI 自己的模型类，会报错说明。sd-perturbed-attention 的 *Normalized Attention Guidance* "
    "在可图上有同样的作用。",
)

PACKS = {
    "sd-perturbed-attention": Pack(
        (
            node("PerturbedAttention"),
            node("SmoothedEnergyGuidanceAdvanced"),
            node("TokenPerturbationGuidance"),
            node("SlidingWindowGuidanceAdvanced", tile_width=64, tile_height=64, tile_overlap=32),
            node("NormalizedAttentionGuidance"),
            node("PLADIS"),
            node("FrequencyDecoupledGuidance"),
            node("MomentumGuidance", momentum=0.5),
            node("SlidingModeControlCFG"),
        )
    ),
    "ComfyUI-NAG": NAG,
    "ComfyUI-NAG-Extended": NAG,
    "Comfy-WaveSpeed": Pack(
        (
            node("ApplyFBCacheOnModel", KEEPS, title="threshold 0"),
            node("ApplyFBCacheOnModel", title="threshold 1", residual_diff_threshold=1.0),
            node("EnhancedLoadDiffusionModel", KEEPS, unet_name=file("unet")),
        )
    ),
    "ComfyUI-TeaCache": Pack(
        (node("TeaCache"),),
        "It is for Flux and video models; its list has no UNet.",
        "它是为 Flux 和视频模型做的，列表里没有 UNet 类模型。",
    ),
    "ComfyUI-TiledDiffusion": Pack(
        (
            node("TiledDiffusion", title="MultiDiffusion", method="MultiDiffusion", **TILES),
            node("TiledDiffusion", title="Mixture of Diffusers", method="Mixture of Diffusers", **TILES),
            node("SpotDiffusionParams_TiledDiffusion", model=of("TiledDiffusion", method="SpotDiffusion", **TILES)),
            node("VAEDecodeTiled_TiledDiffusion", DRAWS, samples=sampled(), vae=KL_VAE),
            node("VAEEncodeTiled_TiledDiffusion", DRAWS, vae=KL_VAE),
        ),
        "Its tiled VAE does not run on today's ComfyUI, with any model: use *VAE Decode (Tiled)*.",
        "它的分块 VAE 在如今的 ComfyUI 上对任何模型都跑不了：请用 *VAE Decode (Tiled)*。",
    ),
    "ComfyUI-KJNodes": Pack(
        (
            node("DifferentialDiffusionAdvanced", samples=of("VAEEncode")),
            node("CFGZeroStarAndInit"),
            node("PathchSageAttentionKJ", KEEPS),
            node("ModelPatchTorchSettings", KEEPS),
            node("PatchModelPatcherOrder", KEEPS),
            node("ModelMemoryUsageFactorOverride", KEEPS),
            node("ModelMemoryUseReportPatch", KEEPS),
            node("ModelPreviewOverrideKJ", KEEPS),
            node("ModelPassThrough", KEEPS, model=given("MODEL")),
            node("VRAM_Debug", KEEPS, output="model_pass", model_pass=given("MODEL")),
            node("TorchCompileModelAdvanced", DRAWS),
            node("DiffusionModelLoaderKJ", KEEPS, model_name=file("unet")),
            node("ScheduledCFGGuidance", DRAWS),
            node("ConditioningSetMaskAndCombine", positive_2=encoded("a blue bird"), set_cond_area="mask bounds"),
            node("ConditioningMultiCombine", conditioning_2=encoded("a blue bird")),
            node("CondPassThrough", KEEPS, positive=given("CONDITIONING"), negative=encoded("")),
            node("CustomSigmas", sigmas_string="14.6, 5.0, 2.0, 0.5, 0.03"),
            node("InjectNoiseToLatent", DRAWS, noise=of("GenerateNoise"), latents=sampled()),
            node("VAELoaderKJ", KEEPS, vae_name=file("vae"), weight_dtype="fp32"),
            node("CheckpointPerturbWeights"),
        ),
        canvas=(OnCanvas("SetNode, GetNode", SET_AND_GET),),
    ),
}
