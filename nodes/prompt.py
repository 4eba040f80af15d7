"""Nodes that encode text."""

from ..kolors_core.host import conditioning


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
                        "weakens it.",
                    },
                ),
            },
            "optional": {
                "width": _pixels("Width of the original picture that the model should think of. 0 = the latent's."),
                "height": _pixels("Height of the original picture that the model should think of. 0 = the latent's."),
                "crop_w": _pixels("How much of that picture was cut off on the left. 0 keeps the subject whole."),
                "crop_h": _pixels("How much of that picture was cut off at the top. 0 keeps the subject whole."),
                "target_width": _pixels("Width that the model aims at. 0 = the latent's."),
                "target_height": _pixels("Height that the model aims at. 0 = the latent's."),
                "max_tokens": (
                    "INT",
                    {
                        "default": 256,
                        "min": 256,
                        "max": 4096,
                        "step": 256,
                        "advanced": True,
                        "tooltip": "Tokens after which a prompt is cut. 256 is what Kolors was trained with: about 350 "
                        "Chinese characters or 200 English words. More makes each sampling step a little slower.",
                    },
                ),
            },
        }

    def encode(self, clip, text, max_tokens=256, **size):
        return (conditioning.encode_prompt(clip, text, max_tokens, size),)
