"""Packs with samplers, schedules, noise and guiders of their own."""

from __future__ import annotations

from .recipe import DRAWS, KEEPS, Inputs, Pack, encoded, file, given, node, of, sampled, sized

NOISE = of("BNK_NoisyLatentImage")
PARTS: Inputs = {
    name: given(kind) for name, kind in (("model", "MODEL"), ("positive", "CONDITIONING"), ("latent_image", "LATENT"))
}
PARTS["negative"] = encoded("")
WILDCARD: Inputs = {"wildcard_text": "a {red|green} apple", "populated_text": "a green apple"}

PACKS = {
    "ComfyUI-Detail-Daemon": Pack(
        (
            node("DetailDaemonSamplerNode"),
            node("DetailDaemonSamplerGUINode", output="sampler"),
            node("LyingSigmaSampler"),
            node("MultiplySigmas", factor=1.02),
        )
    ),
    "ComfyUI_Noise": Pack(
        (
            node("BNK_Unsampler", DRAWS, latent_image=sampled()),
            node("BNK_InjectNoise", DRAWS, latents=sampled(), noise=NOISE, strength=0.3),
            node("BNK_SlerpLatent", DRAWS, latents1=sampled(), latents2=sampled(seed=2)),
            node(
                "BNK_InjectNoise", DRAWS, title="BNK_GetSigma", noise=NOISE, strength=of("BNK_GetSigma", end_at_step=4)
            ),
        )
    ),
    "RES4LYF": Pack(
        (
            node("ClownsharKSampler_Beta", output="output", **PARTS),
            node("ClownSampler_Beta"),
            node("Sigmas Mult", multiplier=1.01),
        )
    ),
    "ComfyUI_essentials": Pack(
        (
            node("KSamplerVariationsWithNoise+", DRAWS),
            node("KSamplerVariationsStochastic+", DRAWS),
            node("InjectLatentNoise+", DRAWS, latent=sampled(), noise_strength=0.3),
            node("CLIPTextEncodeSDXL+"),
            node("ConditioningCombineMultiple+", conditioning_2=encoded("a blue bird")),
            node("GuidanceTimestepping+", value=2.0, start_at=0.5),
            sized("SDXLEmptyLatentSizePicker+", "resolution"),
        ),
        "*SDXL CLIPTextEncode* writes for CLIP-L and CLIP-G, and an error says so: use *CLIP Text Encode*.",
        "*SDXL CLIPTextEncode* 面向 CLIP-L 和 CLIP-G，会报错说明：请用 *CLIP Text Encode*。",
    ),
    "ComfyUI-Inspire-Pack": Pack(
        (
            node("KSampler //Inspire", KEEPS, noise_mode="CPU"),
            node("KSampler //Inspire", title="variation", variation_strength=0.3),
            node("KSamplerAdvanced //Inspire", DRAWS),
            node("KSamplerProgress //Inspire", DRAWS),
            node("RegionalConditioningSimple //Inspire", set_cond_area="mask bounds"),
            node("RegionalCFG //Inspire"),
            node("HyperTile //Inspire", tile_size=32, max_depth=2),
            node("ScheduledCFGGuider //Inspire"),
            node("ScheduledPerpNegCFGGuider //Inspire"),
            node("WildcardEncode //Inspire", mode="populate", **WILDCARD),
            node("CLIPTextEncodeWithWeight //Inspire", strength=1.2),
            node("LoraLoaderBlockWeight //Inspire", lora_name=file("lora"), block_vector=",".join("1" * 17)),
            node(
                "KSamplerAdvanced //Inspire",
                DRAWS,
                title="SeedExplorer //Inspire",
                noise_opt=of("SeedExplorer //Inspire"),
            ),
            node("LoadDiffusionModelShared //Inspire", KEEPS, model_name=file("unet"), key_opt=file("unet")),
        ),
        "*Wildcard Encode (Inspire)* encodes with ADV_CLIP_emb, which asks for CLIP-L, and an error says so: take "
        "Impact Pack's *ImpactWildcardEncode*.",
        "*Wildcard Encode (Inspire)* 用 ADV_CLIP_emb 编码，后者点名要 CLIP-L，会报错说明：请用 Impact Pack 的 "
        "*ImpactWildcardEncode*。",
        beside=("ComfyUI-Impact-Pack", "ComfyUI_ADV_CLIP_emb"),
    ),
}
