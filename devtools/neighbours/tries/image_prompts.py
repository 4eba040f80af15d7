"""Packs that bring a picture, layers or motion into a model."""

from __future__ import annotations

from typing import Any

from .recipe import DRAWS, KEEPS, Inputs, Pack, Try, file, given, node, of


def adapted(name: str = "IPAdapterAdvanced", title: str = "", **inputs: Any) -> Try:
    """Kolors' IP-Adapter by IPAdapter_plus' nodes."""
    adapter = of("IPAdapterModelLoader", ipadapter_file=file("ip_adapter"))
    return node(
        name, title=title, ipadapter=adapter, clip_vision=of("CLIPVisionLoader", clip_name=file("tower")), **inputs
    )


INSTANT_ID: Inputs = {
    "instantid": of("InstantIDModelLoader", instantid_file=file("instant_id")),
    "insightface": of("InstantIDFaceAnalysis"),
    "image": of("LoadImage", image=file("face")),
}
WINDOWS = of("ADE_StandardUniformContextOptions", context_length=2, context_overlap=1)

PACKS = {
    "ComfyUI_IPAdapter_plus": Pack(
        (
            adapted(),
            adapted(title="mask", attn_mask=given("MASK")),
            adapted(title="style transfer", weight_type="style transfer"),
            adapted("IPAdapterStyleComposition"),
            adapted("IPAdapterTiled"),
            adapted("IPAdapterBatch"),
        ),
        "It applies Kolors' adapters as this package does, but for the middle block, which it does not reach.",
        "它应用可图适配器的方式与本插件相同，但中间块除外：它没有作用到那里。",
    ),
    "ComfyUI_InstantID": Pack(
        (node("ApplyInstantID", **INSTANT_ID), node("InstantIDAttentionPatch", output="MODEL", **INSTANT_ID)),
        "Its patch of the attention works on a Kolors without a word, but its weights are for SDXL alone: take *Apply "
        "Kolors FaceID* for faces.",
        "它的注意力补丁不加提示就会作用于可图，但权重只有 SDXL 版：人脸请用“应用可图 FaceID”。",
    ),
    "PuLID_ComfyUI": Pack(
        (),
        "Not tried: it needs EVA-CLIP. Its weights are for SDXL alone: take *Apply Kolors FaceID* for faces.",
        "没有试：需要 EVA-CLIP。它的权重只有 SDXL 版：人脸请用“应用可图 FaceID”。",
    ),
    "ComfyUI-layerdiffuse": Pack(
        (node("LayeredDiffusionApply", config="SDXL, Attention Injection"),),
        "On today's ComfyUI its patch has no effect, with any model. Its weights are for SDXL: do not expect "
        "transparent images of a Kolors.",
        "在如今的 ComfyUI 上，它的补丁对任何模型都不起作用。权重是为 SDXL 训练的，可图得不到透明图层。",
    ),
    "ComfyUI-BrushNet": Pack(
        (node("RAUNet"),),
        "Its weights are for SDXL and SD 1.5. For Kolors there is an inpainting UNet.",
        "它的权重是为 SDXL 和 SD 1.5 训练的。可图有自己的 inpainting UNet。",
    ),
    "ComfyUI-AnimateDiff-Evolved": Pack(
        (
            node("ADE_UseEvolvedSampling", KEEPS),
            node("ADE_UseEvolvedSampling", DRAWS, title="ADE_StandardUniformContextOptions", context_options=WINDOWS),
            node("ADE_AnimateDiffLoaderGen1", refusal="intended for SD1.5", model_name=file("motion")),
        ),
        "There are no motion modules for Kolors; of those for SD 1.5 it says so. Its sampling can be used.",
        "没有可图的运动模块；用 SD 1.5 的模块时它会报错说明。它的采样功能可以用。",
    ),
}
