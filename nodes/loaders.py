"""Nodes that read files."""

from ..kolors_core.host import checkpoint, model_files, unet_file
from ..kolors_core.host.text_encoder import load, storage, tokenizer_file


class KolorsUNETLoader:
    TITLE = "Load Kolors UNet"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads a Kolors UNet (text to image with 4 channels, inpainting with 9) as an ordinary MODEL. "
        "The format (diffusers or SD) is detected from the file's contents."
    )
    SEARCH_ALIASES = ["kolors", "kolors unet", "kolors model", "可图", "可图模型", "加载可图", "快手可图"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The Kolors model, for KSampler and every other node that takes a MODEL.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "unet_name": (
                    model_files.list_files("diffusion_models"),
                    {
                        "tooltip": "The Kolors UNet in models/diffusion_models or models/unet, for example "
                        "Kolors-UNet-fp16.safetensors (5.2 GB); any name will do. "
                        "Those in models/diffusers, models/LLM and models/checkpoints are listed with their folder."
                    },
                ),
                "weight_dtype": (
                    ["default", *unet_file.WEIGHT_DTYPES],
                    {
                        "default": "default",
                        "tooltip": "How the weights are stored in memory. default lets ComfyUI choose and is best; "
                        "the fp8 types take half of fp16 (2.6 GB instead of 5.2) for a small loss of detail; "
                        "_fast also computes in fp8 where the device can.",
                    },
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, unet_name):
        return model_files.validate("diffusion_models", unet_name)

    @classmethod
    def IS_CHANGED(cls, unet_name, **kwargs):
        return model_files.fingerprint("diffusion_models", unet_name)

    def load(self, unet_name, weight_dtype):
        return (unet_file.load_unet(model_files.resolve("diffusion_models", unet_name), weight_dtype),)


class KolorsChatGLM3Loader:
    TITLE = "Load Kolors ChatGLM3 Text Encoder"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads ChatGLM3-6B, the Chinese and English text encoder of Kolors, as an ordinary CLIP. Its tokenizer.model "
        "is found in the file itself, beside it, or anywhere in models/text_encoders or models/clip."
    )
    SEARCH_ALIASES = [
        "kolors",
        "kolors clip",
        "chatglm",
        "chatglm3",
        "text encoder",
        "可图",
        "文本编码器",
        "加载文本编码器",
    ]
    RETURN_TYPES = ("CLIP",)
    RETURN_NAMES = ("clip",)
    OUTPUT_TOOLTIPS = ("The text encoder, for CLIP Text Encode and Kolors Prompt Encode.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text_encoder_name": (
                    model_files.list_files("text_encoders"),
                    {
                        "tooltip": "The ChatGLM3 encoder in models/text_encoders, models/clip or models/LLM, "
                        "for example chatglm3-fp16.safetensors (12.5 GB), chatglm3-4bit.safetensors (3.9 GB), a .gguf "
                        "file, or the index of several shards (.index.json). Those in models/diffusers "
                        "and models/checkpoints are listed with their folder."
                    },
                ),
                "weight_dtype": (
                    ["default", *storage.WEIGHT_NAMES],
                    {
                        "default": "default",
                        "tooltip": "How the weights are stored in memory. default keeps what the file has "
                        "(12 GB in fp16). int8 takes 6.2 GB, int4 3.4 GB, from any file, on any device; fewer bits "
                        "change the images more.",
                    },
                ),
            },
            "optional": {
                "device": (
                    ["default", "cpu"],
                    {
                        "default": "default",
                        "advanced": True,
                        "tooltip": "default lets ComfyUI decide; cpu saves video memory but encodes more slowly.",
                    },
                ),
                "tokenizer": (
                    [tokenizer_file.FIND, tokenizer_file.FETCH],
                    {
                        "default": tokenizer_file.FIND,
                        "tooltip": "What to do where tokenizer.model is missing. find reports it; fetch if missing "
                        "downloads this one file (1 MB) from huggingface.co, hf-mirror.com or modelscope.cn, checks it "
                        "and puts it beside the encoder.",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text_encoder_name):
        return model_files.validate("text_encoders", text_encoder_name)

    @classmethod
    def IS_CHANGED(cls, text_encoder_name, **kwargs):
        return model_files.fingerprint("text_encoders", text_encoder_name)

    def load(self, text_encoder_name, weight_dtype, device="default", tokenizer=tokenizer_file.FIND):
        path = model_files.resolve("text_encoders", text_encoder_name)
        return (load.load_text_encoder(path, weight_dtype, device, tokenizer),)


class KolorsCheckpointLoader:
    TITLE = "Load Kolors Checkpoint"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads a Kolors checkpoint: the UNet, and the text encoder and the VAE where the file has them. "
        "A diffusers UNet that was put into models/checkpoints loads as well, and so does a whole diffusers folder."
    )
    SEARCH_ALIASES = ["kolors", "kolors checkpoint", "可图", "可图大模型", "加载检查点", "加载可图"]
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    RETURN_NAMES = ("model", "clip", "vae")
    OUTPUT_TOOLTIPS = (
        "The Kolors model.",
        "The text encoder inside it; empty where it has none, then use Load Kolors ChatGLM3 Text Encoder.",
        "The VAE inside it; where it has none, use Load VAE.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "ckpt_name": (
                    model_files.list_files("checkpoints"),
                    {
                        "tooltip": "A Kolors checkpoint in models/checkpoints, in SD or diffusers layout. Diffusers "
                        "folders in models/diffusers, models/LLM and models/checkpoints are listed with their folder. "
                        "kolors-demo is the miniature that comes with the package."
                    },
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, ckpt_name):
        return model_files.validate("checkpoints", ckpt_name)

    @classmethod
    def IS_CHANGED(cls, ckpt_name):
        return model_files.fingerprint("checkpoints", ckpt_name)

    def load(self, ckpt_name):
        return checkpoint.load_checkpoint(model_files.resolve("checkpoints", ckpt_name))
