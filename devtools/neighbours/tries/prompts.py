"""Packs that read prompts their own way."""

from __future__ import annotations

from ..scene import PROMPT
from .recipe import DRAWS, KEEPS, Pack, file, given, node, of

WEIGHTED = "a (red:1.4) apple on a (yellow:0.7) background"
COUPLED = "a red apple COUPLE MASK(0 0.5) a yellow background"
#: Not down_weight, which under numpy 2 masks one token alone, of any encoder.
STYLES = ("comfy", "perp", "A1111", "compel", "comfy++")
PARSERS = ("A1111", "full", "compel", "fixed attention")


PACKS = {
    "comfyui-prompt-control": Pack(
        (
            node("PCTextEncode", KEEPS, text=PROMPT),
            *(node("PCTextEncode", title=f"STYLE({style})", text=f"STYLE({style}) {WEIGHTED}") for style in STYLES),
            node("PCTextEncode", title="TE_WEIGHT", text=f"{PROMPT} TE_WEIGHT(all=0.5)"),
            node("PCTextEncode", title="CUT", text="a [CUT:red apple:red] on yellow", refusal="such as CUT"),
            node("PCTextEncode", title="BREAK", text="a red apple BREAK a yellow background"),
            node("PCTextEncode", title="AND", text="a red apple AND a yellow background"),
            node("PCTextEncode", title="COUPLE", text=COUPLED),
            node("PCLazyTextEncode", title="editing", text="[a red apple:a blue bird:0.5] on yellow"),
            node("PCLazyTextEncodeAdvanced", KEEPS, text=PROMPT),
            node("PCTextEncodeWithRange", KEEPS, text=PROMPT),
            node("PCLazyLoraLoader", text=file("lora_tag"), model=given("MODEL"), clip=given("CLIP")),
            node("PCTextEncode", KEEPS, title="PCSetPCTextEncodeSettings", clip=of("PCSetPCTextEncodeSettings")),
            node(
                "PCTextEncode",
                title="PCAddMaskToCLIP",
                clip=of("PCAddMaskToCLIP", mask=given("MASK")),
                text="a red apple IMASK(0) AND a yellow background",
            ),
            node("PCAttentionCoupleBatchNegative", positive=of("PCTextEncode", text=COUPLED)),
        ),
        "CUT needs CLIP's start and end tokens, and an error says so. All else can be used.",
        "CUT 需要 CLIP 的起止 token，会报错说明；其余功能都可以用。",
    ),
    "ComfyUI_ADV_CLIP_emb": Pack(
        (
            node("BNK_CLIPTextEncodeAdvanced", text=WEIGHTED),
            node("BNK_CLIPTextEncodeSDXLAdvanced", text_l=WEIGHTED, text_g=WEIGHTED),
            node("BNK_AddCLIPSDXLParams", width=64),
            node("BNK_AddCLIPSDXLRParams", DRAWS),
        ),
        "Its encoders ask for CLIP-L by name, and an error says so: encode with *CLIP Text Encode*, or with "
        "prompt-control, which has the same styles. Its sizes can be used.",
        "它的编码节点点名要 CLIP-L，会报错说明：请改用 *CLIP Text Encode*，或功能相同的 prompt-control。"
        "尺寸节点可以用。",
    ),
    "ComfyUI_smZNodes": Pack(
        (
            node("smZ CLIPTextEncode", KEEPS, title="comfy", text=PROMPT, parser="comfy"),
            node("smZ CLIPTextEncode", title="comfy, weights", text=WEIGHTED, parser="comfy"),
            node("smZ CLIPTextEncode", title="comfy++", text=WEIGHTED, parser="comfy++"),
            *(node("smZ CLIPTextEncode", title=parser, text=WEIGHTED, parser=parser) for parser in PARSERS),
        ),
        "Choose comfy or comfy++. The other parsers take CLIP apart, and an error says so.",
        "解析器请选 comfy 或 comfy++。其余几种要拆开 CLIP，会报错说明。",
    ),
}
