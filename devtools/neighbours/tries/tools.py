"""Packs of many helpers, and those that keep a whole graph in a few nodes."""

from __future__ import annotations

from ..scene import PROMPT
from .recipe import DRAWS, KEEPS, Inputs, Maker, OnCanvas, Pack, Script, encoded, file, given, node, of, sampled, sized

MODEL_AND_CLIP: Inputs = {"model": given("MODEL"), "clip": given("CLIP")}
OPTIONAL: Inputs = {"opt_model": given("MODEL"), "opt_clip": given("CLIP")}
PROMPTS: Inputs = {"positive": given("CONDITIONING"), "negative": encoded("")}
PICTURE = of("VAEDecode", samples=sampled())
EASY = of(
    "easy pipeIn",
    **MODEL_AND_CLIP,
    vae=given("VAE"),
    pos=given("CONDITIONING"),
    neg=encoded(""),
    latent=given("LATENT"),
)
EFFICIENT = "KSampler (Efficient)"


def easy(kind: str) -> Maker:
    """A pipe with what to sample it by."""
    return of(kind, pipe=EASY)


REROUTED = """
  const reroute = make("Reroute (rgthree)");
  source.connect(0, reroute, 0);
  reroute.connect(0, target, slot);
"""
EVERYWHERE = """
  const everywhere = make("Anything Everywhere");
  target.disconnectInput(slot);
  source.connect(0, everywhere, 0);
"""

COMFY_SCRIPT = """
import sys

sys.path.insert(0, sys.argv[2] + "/src")
from comfy_script.runtime import Workflow, load

load(sys.argv[1] + "/")
from comfy_script.runtime.nodes import *

with Workflow(wait=True):
    positive, negative = (CLIPTextEncode(text, {clip}) for text in ({prompt}, ""))
    latent = KSampler({model}, {settings}, positive, negative, EmptyLatentImage({size}), 1.0)
    SaveLatent(latent, "neighbours/drawn")
"""

PACKS = {
    "ComfyScript": Pack((), scripts=(Script("a script of its own", COMFY_SCRIPT),)),
    "cg-use-everywhere": Pack((), canvas=(OnCanvas("Anything Everywhere", EVERYWHERE),)),
    "rgthree-comfy": Pack(
        (
            node("Context (rgthree)", KEEPS, **MODEL_AND_CLIP, vae=given("VAE"), **PROMPTS, latent=given("LATENT")),
            node("Power Lora Loader (rgthree)", **MODEL_AND_CLIP, lora_1=file("lora_switch")),
            node("Lora Loader Stack (rgthree)", lora_01=file("lora")),
            node("Power Prompt (rgthree)", KEEPS, **OPTIONAL, prompt=PROMPT),
            node("Power Prompt - Simple (rgthree)", KEEPS, opt_clip=given("CLIP"), prompt=PROMPT),
            node("SDXL Power Prompt - Positive (rgthree)", **OPTIONAL, prompt_g=PROMPT, prompt_l=PROMPT),
            sized("SDXL Empty Latent Image (rgthree)", "dimensions"),
        ),
        canvas=(OnCanvas("Reroute (rgthree)", REROUTED),),
    ),
    "efficiency-nodes-comfyui": Pack(
        (
            node(EFFICIENT, KEEPS, output="LATENT"),
            node("KSampler Adv. (Efficient)", DRAWS, output="LATENT"),
            node("Apply ControlNet Stack", cnet_stack=of("Control Net Stacker")),
            node(EFFICIENT, DRAWS, title="HighRes-Fix Script", output="LATENT", script=of("HighRes-Fix Script")),
            node(
                EFFICIENT,
                title="Noise Control Script",
                output="LATENT",
                script=of("Noise Control Script", add_seed_noise=True),
            ),
        ),
        "*Efficient Loader* reads checkpoints with CLIP in them. Load Kolors with its own nodes; all else follows.",
        "*Efficient Loader* 只读带 CLIP 的检查点。请用可图自己的节点加载，其余照常使用。",
    ),
    "ComfyUI-Easy-Use": Pack(
        (
            node("easy kSampler", KEEPS, output="image", pipe=easy("easy preSampling"), image_output="Hide"),
            node(
                "easy kSampler",
                DRAWS,
                title="preSamplingNoiseIn",
                output="image",
                pipe=easy("easy preSamplingNoiseIn"),
                image_output="Hide",
            ),
            node(
                "easy kSampler",
                DRAWS,
                title="preSamplingDynamicCFG",
                output="image",
                pipe=easy("easy preSamplingDynamicCFG"),
                image_output="Hide",
            ),
            node("easy fullkSampler", DRAWS, output="image", pipe=EASY, image_output="Hide"),
            node("easy pipeOut", DRAWS, output="model", pipe=EASY),
            node("easy styleAlignedBatchAlign", DRAWS),
            node("dynamicThresholdingFull"),
            node("easy positive", KEEPS, positive=PROMPT),
            node("easy wildcards", DRAWS, text="a {red|green} apple"),
        ),
        "Its *kolorsLoader* draws with code of its own, which this package's converter takes out of workflows.",
        "它的 *kolorsLoader* 用自带的代码出图；本插件的转换器可以把工作流里的它换掉。",
    ),
    "ComfyUI-Image-Saver": Pack(
        (
            node("UNet loader with Name (Image Saver)", KEEPS, output="model", unet_name=file("unet")),
            node("Conditioning Concat Optional (Image Saver)", conditioning_from=encoded("a blue bird")),
        )
    ),
    "ComfyUI-Crystools": Pack(
        (
            node("Stats system [Crystools]", DRAWS, latent=sampled()),
            node("Switch conditioning [Crystools]", KEEPS, on_false=encoded("")),
            node("Switch latent [Crystools]", DRAWS, on_true=sampled()),
        )
    ),
    "ComfyUI-Custom-Scripts": Pack(
        (
            node("LoraLoader|pysssss", lora_name=file("lora")),
            node(
                "StringFunction|pysssss",
                KEEPS,
                action="append",
                tidy_tags="no",
                text_a="a red apple ",
                text_b="on a yellow background",
            ),
        )
    ),
}
