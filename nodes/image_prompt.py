"""Nodes of image prompts as values: encoded once, combined, kept in files, and applied in many ways."""

from ..kolors_core.files.image_prompt import save_image_prompt
from ..kolors_core.host.ip_adapter import adapter
from ..kolors_core.host.ip_adapter.image_prompt import FILES, METHODS, combine, encode, load
from .ip_adapter import BATCH, CLIP_VISION, IMAGE, MASK, NEGATIVE, apply_inputs
from .prompt import PRECISIONS, saved_as


def _weight(of: str) -> tuple:
    tooltip = f"How much of {of} goes in; see method. 0 leaves it out, as if it were not connected."
    return "FLOAT", {"default": 1.0, "min": -1.0, "max": 3.0, "step": 0.05, "tooltip": tooltip}


class KolorsImagePromptEncode:
    TITLE = "Kolors Image Prompt Encode"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Encodes an image for Apply Kolors Image Prompt, once: the result can be combined with others, saved, and "
        "applied with any weight without encoding it again."
    )
    SEARCH_ALIASES = [
        "kolors",
        "image prompt",
        "ipadapter encoder",
        "image embeds",
        "可图",
        "图片提示",
        "图片提示编码",
        "参考图",
    ]
    RETURN_TYPES = ("KOLORS_IMAGE_PROMPT",)
    RETURN_NAMES = ("image_prompt",)
    OUTPUT_TOOLTIPS = ("The encoded image with its negative, to apply, combine or save.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": CLIP_VISION | {"image": ("IMAGE", {"tooltip": IMAGE})}, "optional": dict(NEGATIVE)}

    def encode(self, clip_vision, image, image_negative=None):
        return (encode(clip_vision, image, image_negative),)


class KolorsImagePromptCombine:
    TITLE = "Combine Kolors Image Prompts"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Makes one image prompt of two: both images beside each other, a blend of them, or one without what the other "
        "shows."
    )
    SEARCH_ALIASES = [
        "kolors",
        "image prompt",
        "combine embeds",
        "average images",
        "subtract image",
        "可图",
        "合并图片提示",
        "图片提示合并",
        "混合参考图",
    ]
    RETURN_TYPES = ("KOLORS_IMAGE_PROMPT",)
    RETURN_NAMES = ("image_prompt",)
    OUTPUT_TOOLTIPS = ("Both in one, to apply, combine with another, or save.",)
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image_prompt_1": ("KOLORS_IMAGE_PROMPT", {"tooltip": "The first image prompt."}),
                "image_prompt_2": (
                    "KOLORS_IMAGE_PROMPT",
                    {"tooltip": "The second image prompt. Of one image where the other has several: it goes to each."},
                ),
                "method": (
                    list(METHODS),
                    {
                        "default": "concat",
                        "tooltip": "With states s, negatives n, weights w. concat: all images side by side, each as "
                        "strong as its weight. average: (w1·s1 + w2·s2) / (w1 + w2). weighted sum: w1·s1 + w2·s2; only "
                        "the ratio matters much. difference: w1·s1 - w2·(s2 - n2), start at 1 and 0.5.",
                    },
                ),
                "weight_1": _weight("image_prompt_1"),
                "weight_2": _weight("image_prompt_2"),
            }
        }

    def combine(self, image_prompt_1, image_prompt_2, method, weight_1, weight_2):
        return (combine(image_prompt_1, image_prompt_2, method, weight_1, weight_2),)


class KolorsImagePromptSave:
    TITLE = "Save Kolors Image Prompt"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Writes an encoded image to a file in the output folder, to use it later or on another machine without the "
        "vision encoder. diffusers reads it too."
    )
    SEARCH_ALIASES = [
        "kolors",
        "save image prompt",
        "save embeds",
        "ipadpt",
        "可图",
        "保存图片提示",
        "图片提示缓存",
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
                "image_prompt": ("KOLORS_IMAGE_PROMPT", {"tooltip": "The encoded image, or a combination of several."}),
                **saved_as(FILES.example, "An image takes 4.7 MB in fp32.", "result"),
            }
        }

    def save(self, image_prompt, filename_prefix, precision):
        path = FILES.next_path(filename_prefix)
        save_image_prompt(path, image_prompt, PRECISIONS[precision])
        return {"ui": {"text": [str(path)]}}


class KolorsImagePromptLoad:
    TITLE = "Load Kolors Image Prompt"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Reads an encoded image that Save Kolors Image Prompt wrote, or an .ipadpt file of diffusers or "
        "ComfyUI_IPAdapter_plus. No vision encoder is needed."
    )
    SEARCH_ALIASES = [
        "kolors",
        "load image prompt",
        "load embeds",
        "ipadpt",
        "可图",
        "加载图片提示",
        "图片提示缓存",
    ]
    RETURN_TYPES = ("KOLORS_IMAGE_PROMPT",)
    RETURN_NAMES = ("image_prompt",)
    OUTPUT_TOOLTIPS = ("The encoded image with its negative, to apply or combine.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image_prompt_name": (
                    FILES.names(),
                    {"tooltip": "A file of Save Kolors Image Prompt, or an .ipadpt, in the input or output folder."},
                ),
            },
            "optional": {
                "clip_vision": (
                    "CLIP_VISION",
                    {
                        "tooltip": "Only for a file without a negative, as ComfyUI_IPAdapter_plus saves them: makes "
                        "the uniform gray of diffusers for it."
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, image_prompt_name, clip_vision=None):
        return FILES.fingerprint(image_prompt_name)

    def load(self, image_prompt_name, clip_vision=None):
        return (load(FILES.find(image_prompt_name), clip_vision),)


class KolorsImagePromptApply:
    TITLE = "Apply Kolors Image Prompt"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Uses an encoded image as a prompt beside the text, as Apply Kolors IP-Adapter does with an image. No vision "
        "encoder is needed, and another weight encodes nothing again."
    )
    SEARCH_ALIASES = [
        "kolors",
        "ipadapter",
        "ip adapter",
        "image prompt",
        "ipadapter embeds",
        "可图",
        "应用图片提示",
        "参考图",
        "风格参考",
    ]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model with the adapter.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        encoded = {"tooltip": "The image of Kolors Image Prompt Encode, a combination, or one of a file."}
        inputs = apply_inputs(0.5, {"image_prompt": ("KOLORS_IMAGE_PROMPT", encoded)})
        inputs["optional"] |= MASK | BATCH
        return inputs

    def apply(
        self,
        model,
        ipadapter,
        image_prompt,
        weight,
        start_at,
        end_at,
        weight_type="linear",
        attn_mask=None,
        image_batch="combine",
    ):
        one_per_latent = image_batch == "one per latent"
        influence = adapter.Influence(weight, start_at, end_at, weight_type, attn_mask, one_per_latent)
        if not influence.has_effect:
            return (model,)
        return (adapter.apply_image_prompt(model, ipadapter, image_prompt, influence),)
