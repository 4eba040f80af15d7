"""Packs around ControlNets and their pictures."""

from __future__ import annotations

from .recipe import Inputs, Pack, given, node, of

APPLY = "ACN_AdvancedControlNetApply_v2"
WEIGHTS, HALF = of("ScaledSoftControlNetWeights"), of("TimestepKeyframe", strength=0.5)
REFERENCE: Inputs = {"control_net": of("ACN_ReferenceControlNet"), "image": of("ACN_ReferencePreprocessor")}
PREPROCESSORS = ("CannyEdge", "Binary", "Scribble", "PyraCanny", "Color", "Shuffle", "Tile", "Scribble_XDoG_")

PACKS = {
    "ComfyUI-Advanced-ControlNet": Pack(
        (
            node(APPLY),
            node(APPLY, title="mask", mask_optional=given("MASK")),
            node(APPLY, title="ScaledSoftControlNetWeights", weights_override=WEIGHTS),
            node(APPLY, title="TimestepKeyframe", timestep_kf=HALF),
            node("ACN_AdvancedControlNetApplySingle_v2"),
            node(APPLY, title="ACN_ReferenceControlNet", **REFERENCE),
        ),
        "Load Kolors' ControlNets with *Load Kolors ControlNet*, and apply them with its nodes. Its Reference "
        "ControlNet knows SDXL by its exact class, and stops on a Kolors.",
        "可图的 ControlNet 请用“加载可图 ControlNet”加载，再接它的节点。它的 Reference ControlNet 只认 SDXL 本身的类，"
        "遇到可图会报错。",
    ),
    "comfyui_controlnet_aux": Pack(
        tuple(node(f"{name}Preprocessor", resolution=256) for name in PREPROCESSORS),
        "Its images are the same for every model.",
        "预处理得到的图像与模型无关。",
    ),
}
