"""The node for LoRAs in key formats that the stock nodes do not read."""

from ..kolors_core.host import lora, messages, model_files

STRENGTH = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01, "round": 0.001}


class KolorsLoraLoader:
    TITLE = "Load Kolors LoRA"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Applies a LoRA in any key format (diffusers, PEFT, kohya, SimpleTuner, DiffSynth) to the UNet and, if a CLIP "
        "is connected, to ChatGLM3, and says how many of its modules matched. LoRAs in kohya's format also load in "
        "the stock Load LoRA."
    )
    SEARCH_ALIASES = ["kolors", "lora", "load lora", "dreambooth", "diffsynth", "peft", "可图", "加载LoRA"]
    RETURN_TYPES = ("MODEL", "CLIP", "LORA_MODEL")
    RETURN_NAMES = ("model", "clip", "lora")
    OUTPUT_TOOLTIPS = (
        "The Kolors model with the LoRA.",
        "The text encoder with the LoRA; empty where none is connected.",
        "The LoRA in a key format that every node reads: Save LoRA Weights writes it to a file for the stock Load LoRA "
        "and the hook nodes.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The Kolors model; the one that comes out is a copy."}),
                "lora_name": (
                    model_files.list_files("loras"),
                    {
                        "tooltip": "The LoRA in models/loras, for Kolors or for SDXL; .safetensors, .ckpt or .bin. An "
                        "adapter folder of PEFT reads its adapter_config.json too."
                    },
                ),
                "strength_model": (
                    "FLOAT",
                    STRENGTH | {"tooltip": "How much it changes the UNet. 1 is as trained, 0 not at all, 0.8 is mild."},
                ),
                "strength_clip": (
                    "FLOAT",
                    STRENGTH
                    | {
                        "tooltip": "How much it changes the text encoder, where the LoRA has such a part and the CLIP "
                        "is connected. 1 is as trained."
                    },
                ),
            },
            "optional": {
                "clip": (
                    "CLIP",
                    {"tooltip": "The ChatGLM3 text encoder; only LoRAs that change the text encoder need it."},
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, lora_name, **kwargs):
        return model_files.fingerprint("loras", lora_name)

    def load(self, model, lora_name, strength_model, strength_clip, clip=None, unique_id=None):
        path = model_files.resolve("loras", lora_name)
        applied = lora.apply_lora(model, clip, path, strength_model, strength_clip)
        messages.show_text(applied.report, unique_id)
        return (applied.model, applied.clip, applied.tensors)
