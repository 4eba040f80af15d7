"""Nodes that encode text."""

import torch

from ..kolors_core.files.conditioning import load_conditioning, save_conditioning
from ..kolors_core.host.text_encoder.conditioning import FILES, encode_prompt

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}


def saved_as(prefix: str, size: str, same: str) -> dict:
    """The inputs of a node that saves a file; `size` says how large it is, `same` what fp32 leaves as it is."""
    return {
        "filename_prefix": (
            "STRING",
            {"default": prefix, "tooltip": f"Folder and name in the output folder; a number is added. {size}"},
        ),
        "precision": (
            list(PRECISIONS),
            {"default": "fp32", "tooltip": f"fp32 gives the very same {same}; fp16 makes the file half as large."},
        ),
    }


def _pixels(tooltip):
    tooltip = f"In pixels. {tooltip}"
    return "INT", {"default": 0, "min": 0, "max": 16384, "step": 8, "advanced": True, "tooltip": tooltip}


class KolorsPromptEncode:
    TITLE = "Kolors Prompt Encode"
    CATEGORY = "Kolors/conditioning"
    DESCRIPTION = (
        "Encodes a Chinese or English prompt with ChatGLM3, Kolors' size conditioning and a limit above 256 tokens "
        "if you need it. CLIP Text Encode does the same with the defaults."
    )
    SEARCH_ALIASES = [
        "kolors",
        "kolors prompt",
        "kolors text encode",
        "chatglm prompt",
        "可图",
        "提示词",
        "可图提示词",
        "文本编码",
    ]
    RETURN_TYPES = ("CONDITIONING",)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("The encoded prompt, for KSampler's positive or negative.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder of Load Kolors ChatGLM3 Text Encoder."}),
                "text": (
                    "STRING",
                    {
                        "multiline": True,
                        "dynamicPrompts": True,
                        "tooltip": "The prompt, in Chinese, English or both. (word:1.2) strengthens a word, (word:0.8) "
                        "weakens it; brackets and colon are half-width.",
                    },
                ),
            },
            "optional": {
                "width": _pixels("Original width to condition on, as in SDXL. 0 = use the latent's."),
                "height": _pixels("Original height to condition on, as in SDXL. 0 = use the latent's."),
                "crop_w": _pixels("Cropped off on the left of the original, as in SDXL. 0 keeps the subject whole."),
                "crop_h": _pixels("Cropped off at the top of the original, as in SDXL. 0 keeps the subject whole."),
                "target_width": _pixels("Target width to condition on, as in SDXL. 0 = use the latent's."),
                "target_height": _pixels("Target height to condition on, as in SDXL. 0 = use the latent's."),
                "max_tokens": (
                    "INT",
                    {
                        "default": 256,
                        "min": 256,
                        "max": 4096,
                        "step": 256,
                        "advanced": True,
                        "tooltip": "Tokens after which a prompt is cut off. 256 is what Kolors was trained with: about "
                        "350 Chinese characters or 200 English words. More makes each sampling step a little slower.",
                    },
                ),
            },
        }

    def encode(self, clip, text, max_tokens=256, **size):
        return (encode_prompt(clip, text, max_tokens, size),)


class KolorsConditioningSave:
    TITLE = "Save Kolors Conditioning"
    CATEGORY = "Kolors/conditioning"
    DESCRIPTION = (
        "Writes an encoded prompt to a small file in the output folder, to use it later, or on a machine that is too "
        "small for the text encoder, with Load Kolors Conditioning."
    )
    SEARCH_ALIASES = [
        "kolors",
        "save conditioning",
        "save prompt",
        "prompt cache",
        "可图",
        "保存条件",
        "保存提示词",
        "条件缓存",
    ]
    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True
    FUNCTION = "save"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "The encoded prompt, before ControlNets are applied."}),
                **saved_as(FILES.example, "An empty prompt takes 64 KB in fp32, each token 16 KB more.", "image"),
            }
        }

    def save(self, conditioning, filename_prefix, precision):
        path = FILES.next_path(filename_prefix)
        save_conditioning(path, conditioning, PRECISIONS[precision])
        return {"ui": {"text": [str(path)]}}


class KolorsConditioningLoad:
    TITLE = "Load Kolors Conditioning"
    CATEGORY = "Kolors/conditioning"
    DESCRIPTION = "Reads an encoded prompt that Save Kolors Conditioning wrote. No text encoder is needed."
    SEARCH_ALIASES = [
        "kolors",
        "load conditioning",
        "load prompt",
        "prompt cache",
        "可图",
        "加载条件",
        "加载提示词",
        "条件缓存",
    ]
    RETURN_TYPES = ("CONDITIONING",)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("The encoded prompt, for KSampler's positive or negative.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning_name": (
                    FILES.names(),
                    {"tooltip": "A file of Save Kolors Conditioning in the input or the output folder."},
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, conditioning_name):
        return FILES.fingerprint(conditioning_name)

    def load(self, conditioning_name):
        return (load_conditioning(FILES.find(conditioning_name)),)
