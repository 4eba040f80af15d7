"""Nodes of the IP-Adapters: an image, or a face, as part of the prompt."""

from ..kolors_core.host import model_files
from ..kolors_core.host.ip_adapter import adapter, attention, face, image_prompt

SHARE = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}


CLIP_VISION = {
    "clip_vision": (
        "CLIP_VISION",
        {"tooltip": "Load CLIP Vision with clip-vit-large-patch14-336, the one that takes 336 pixels."},
    ),
}
IMAGE = "The image, or a batch. It is cropped to a square around its center: keep the subject there."
NEGATIVE = {
    "image_negative": (
        "IMAGE",
        {"tooltip": "What the result should not look like. Without one, a uniform gray, as in diffusers."},
    )
}


def apply_inputs(weight: float, images: dict) -> dict:
    """The inputs that all Apply nodes have, in the order of the interface; `images` are those that give the images."""
    return {
        "required": {
            "model": ("MODEL", {"tooltip": "The Kolors model; the one that comes out is a copy."}),
            "ipadapter": ("KOLORS_IPADAPTER", {"tooltip": "The adapter of Load Kolors IP-Adapter."}),
            **images,
            "weight": (
                "FLOAT",
                {
                    "default": weight,
                    "min": -1.0,
                    "max": 3.0,
                    "step": 0.05,
                    "tooltip": f"How strong the image is compared with the text. {weight:g} is the original code's, "
                    "1 is strong, 0 leaves the model as it is.",
                },
            ),
            "start_at": (
                "FLOAT",
                SHARE
                | {
                    "default": 0.0,
                    "tooltip": "Where in the noise schedule the adapter starts (0 to 1). 0 is from the first step.",
                },
            ),
            "end_at": (
                "FLOAT",
                SHARE
                | {
                    "default": 1.0,
                    "tooltip": "Where in the noise schedule the adapter stops (0 to 1). "
                    "0.7 leaves fine detail to the text.",
                },
            ),
        },
        "optional": {
            "weight_type": (
                list(attention.WEIGHT_TYPES),
                {
                    "default": "linear",
                    "tooltip": "Which attention layers see the image. linear: all equally; ease in or out: mostly the "
                    "first or the last; style, composition: only the layer that carries it (start at weight 1).",
                },
            ),
        },
    }


BATCH = {
    "image_batch": (
        ["combine", "one per latent"],
        {
            "default": "combine",
            "advanced": True,
            "tooltip": "With several images: combine gives all of them to every latent; one per latent gives the "
            "first to the first latent of a batch, and so on.",
        },
    ),
}
MASK = {
    "attn_mask": (
        "MASK",
        {
            "tooltip": "Where in the result the adapter has an effect: white fully, black not at all. "
            "Stretched over the whole image, or over the area of an area condition."
        },
    ),
}


class KolorsIPAdapterLoader:
    TITLE = "Load Kolors IP-Adapter"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads an IP-Adapter Plus or a FaceID Plus of Kolors, .safetensors or .bin. The format is detected from the "
        "file's contents; for an adapter of another model family, the error names the family."
    )
    SEARCH_ALIASES = [
        "kolors",
        "ipadapter",
        "ip adapter",
        "image prompt",
        "faceid",
        "可图",
        "加载IP-Adapter",
        "图像提示",
    ]
    RETURN_TYPES = ("KOLORS_IPADAPTER",)
    RETURN_NAMES = ("ipadapter",)
    OUTPUT_TOOLTIPS = ("The adapter, for Apply Kolors IP-Adapter or Apply Kolors FaceID.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "ipadapter_name": (
                    model_files.list_files("ipadapter"),
                    {
                        "tooltip": "The adapter in models/ipadapter, for example ip_adapter_plus_general.safetensors "
                        "(1.0 GB) or ipa-faceid-plus.bin (2.4 GB). Those in models/diffusers, models/LLM and "
                        "models/checkpoints are listed with their folder."
                    },
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, ipadapter_name):
        return model_files.validate("ipadapter", ipadapter_name)

    @classmethod
    def IS_CHANGED(cls, ipadapter_name):
        return model_files.fingerprint("ipadapter", ipadapter_name)

    def load(self, ipadapter_name):
        return (adapter.load_ip_adapter(model_files.resolve("ipadapter", ipadapter_name)),)


class KolorsIPAdapterApply:
    TITLE = "Apply Kolors IP-Adapter"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Uses an image as a prompt beside the text: its style, its subject, or both. Several of these nodes in a row "
        "add up, and everything else of ComfyUI works with the model that comes out."
    )
    SEARCH_ALIASES = [
        "kolors",
        "ipadapter",
        "ip adapter",
        "image prompt",
        "style reference",
        "可图",
        "参考图",
        "风格参考",
    ]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model with the adapter.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        inputs = apply_inputs(0.5, CLIP_VISION | {"image": ("IMAGE", {"tooltip": IMAGE})})
        inputs["optional"] |= NEGATIVE | MASK | BATCH
        return inputs

    def apply(
        self,
        model,
        ipadapter,
        clip_vision,
        image,
        weight,
        start_at,
        end_at,
        weight_type="linear",
        image_negative=None,
        attn_mask=None,
        image_batch="combine",
    ):
        one_per_latent = image_batch == "one per latent"
        influence = adapter.Influence(weight, start_at, end_at, weight_type, attn_mask, one_per_latent)
        if not influence.has_effect:
            return (model,)
        prompt = image_prompt.encode(clip_vision, image, image_negative)
        return (adapter.apply_image_prompt(model, ipadapter, prompt, influence),)


class KolorsFaceIDApply:
    TITLE = "Apply Kolors FaceID"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Gives the people in the result the face in a photo. insightface (antelopev2) finds the face, or connect a "
        "ready embedding and a crop of the face as the image."
    )
    SEARCH_ALIASES = [
        "kolors",
        "faceid",
        "face id",
        "ipadapter",
        "portrait",
        "可图",
        "应用FaceID",
        "人脸",
        "换脸",
        "肖像",
    ]
    RETURN_TYPES = ("MODEL", "FACE_EMBEDDING", "IMAGE")
    RETURN_NAMES = ("model", "face_embedding", "face")
    OUTPUT_TOOLTIPS = (
        "The model with the face.",
        "The embedding of the face, to reuse without searching for the face again.",
        "The face that was found, 336 x 336 pixels.",
    )
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        photo = {
            "image": (
                "IMAGE",
                {
                    "tooltip": "A photo, or a batch of photos of the same person; the largest face in each is used. "
                    "With face_embedding: the face itself."
                },
            )
        }
        inputs = apply_inputs(0.8, CLIP_VISION | photo)
        faces = {
            "face_analysis": (
                "INSIGHTFACE,FACEANALYSIS",
                {
                    "tooltip": "An insightface with antelopev2 that another node loaded. Without one it is loaded from "
                    "models/insightface/models/antelopev2."
                },
            ),
            "face_embedding": (
                "FACE_EMBEDDING",
                {"tooltip": "A ready embedding of the face; no face is searched for in the image then."},
            ),
        }
        negative = {
            "image_negative": (
                "IMAGE",
                {
                    "tooltip": "A photo of a face that the people should not have; the largest face in it is used. "
                    "Without one, zeros, as in the original code."
                },
            )
        }
        inputs["optional"] |= negative | MASK | faces | BATCH
        return inputs

    def apply(
        self,
        model,
        ipadapter,
        clip_vision,
        image,
        weight,
        start_at,
        end_at,
        weight_type="linear",
        image_negative=None,
        attn_mask=None,
        face_analysis=None,
        face_embedding=None,
        image_batch="combine",
    ):
        face.check_adapter(ipadapter)
        if face_embedding is None:
            face_embedding, image = face.find_faces(image, face_analysis)
        one_per_latent = image_batch == "one per latent"
        influence = adapter.Influence(weight, start_at, end_at, weight_type, attn_mask, one_per_latent)
        if not influence.has_effect:
            return (model, face_embedding, image)
        negative = None if image_negative is None else face.find_faces(image_negative, face_analysis)
        tokens = face.encode_faces(ipadapter, clip_vision, (face_embedding, image), negative)
        model = adapter.apply(model, ipadapter, tokens, influence)
        return (model, face_embedding, image)
