"""Nodes of the IP-Adapters: a picture, or a face, as part of the prompt."""

from ..kolors_core.host import model_files
from ..kolors_core.host.ip_adapter import adapter, attention, face

SHARE = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}


def _apply_inputs(weight: float, image: str) -> dict:
    """The inputs that both Apply nodes have, in the order of the interface."""
    return {
        "required": {
            "model": ("MODEL", {"tooltip": "The Kolors model; the one that comes out is a copy."}),
            "ipadapter": ("KOLORS_IPADAPTER", {"tooltip": "The adapter of Load Kolors IP-Adapter."}),
            "clip_vision": (
                "CLIP_VISION",
                {"tooltip": "Load CLIP Vision with clip-vit-large-patch14-336, the tower that sees 336 pixels."},
            ),
            "image": ("IMAGE", {"tooltip": image}),
            "weight": (
                "FLOAT",
                {
                    "default": weight,
                    "min": -1.0,
                    "max": 3.0,
                    "step": 0.05,
                    "tooltip": f"How much the picture counts beside the text. {weight:g} is the reference's value, "
                    "1 is strong, 0 leaves the model as it is.",
                },
            ),
            "start_at": (
                "FLOAT",
                SHARE
                | {
                    "default": 0.0,
                    "tooltip": "Share of the noise schedule after which it begins to count; 0 is from the start.",
                },
            ),
            "end_at": (
                "FLOAT",
                SHARE
                | {
                    "default": 1.0,
                    "tooltip": "Share of the noise schedule after which it counts no more. "
                    "0.7 leaves the details to the text.",
                },
            ),
        },
        "optional": {
            "weight_type": (
                list(attention.WEIGHT_TYPES),
                {
                    "default": "linear",
                    "tooltip": "Which parts of the model see the picture: linear all alike; ease in the first ones "
                    "more, ease out the last ones; style or composition only the one that carries it, at weight 1.",
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
            "tooltip": "With several pictures: combine shows all of them to every latent; one per latent shows the "
            "first to the first latent of a batch, and so on.",
        },
    ),
}
MASK = {
    "attn_mask": (
        "MASK",
        {
            "tooltip": "Where in the image it counts: white fully, black not at all. "
            "Stretched over the whole image, or over the area of an area condition."
        },
    ),
}


class KolorsIPAdapterLoader:
    TITLE = "Load Kolors IP-Adapter"
    CATEGORY = "Kolors/loaders"
    DESCRIPTION = (
        "Loads an IP-Adapter Plus or a FaceID Plus of Kolors. Both published layouts (.safetensors and .bin) are told "
        "apart by their content; an adapter of another model family is named."
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
                        "tooltip": "The adapter in models/ipadapter, for example ip_adapter_plus_general.bin "
                        "(1.0 GB) or ipa-faceid-plus.bin (2.4 GB)."
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, ipadapter_name):
        return model_files.fingerprint("ipadapter", ipadapter_name)

    def load(self, ipadapter_name):
        return (adapter.load_ip_adapter(model_files.resolve("ipadapter", ipadapter_name)),)


class KolorsIPAdapterApply:
    TITLE = "Apply Kolors IP-Adapter"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Shows the model a picture beside the text: its style, its subject, or both. Several of these nodes in a row "
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
    OUTPUT_TOOLTIPS = ("The model that sees the picture.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        inputs = _apply_inputs(
            0.5, "The picture, or a batch. It is made square by cutting off what is longer: keep the subject central."
        )
        negative = {
            "image_negative": (
                "IMAGE",
                {"tooltip": "What the picture should not look like. Without one, the reference's: an even grey."},
            )
        }
        inputs["optional"] |= negative | MASK | BATCH
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
        if not adapter.counts(weight, start_at, end_at, attn_mask):
            return (model,)
        tokens = adapter.encode_images(ipadapter, clip_vision, image, image_negative)
        one_each = image_batch == "one per latent"
        return (adapter.apply(model, ipadapter, tokens, weight, start_at, end_at, weight_type, attn_mask, one_each),)


class KolorsFaceIDApply:
    TITLE = "Apply Kolors FaceID"
    CATEGORY = "Kolors/ip-adapter"
    DESCRIPTION = (
        "Gives the people in the image the face of a photo. The face is found by insightface (antelopev2), or comes as "
        "a ready embedding with the face itself as image."
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
        "The model that knows the face.",
        "The embedding of the face, to use it again without finding it again.",
        "The face that was found, 336 x 336 pixels.",
    )
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        inputs = _apply_inputs(
            0.8,
            "A photo, or a batch of the same person; the largest face of each is used. "
            "With face_embedding: the face itself.",
        )
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
                {"tooltip": "A ready embedding of the face, then nothing is searched in the image."},
            ),
        }
        negative = {
            "image_negative": (
                "IMAGE",
                {
                    "tooltip": "A photo of a face that the people should not have; the face is searched in it. "
                    "Without one, the reference's: zeros."
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
        if not adapter.counts(weight, start_at, end_at, attn_mask):
            return (model, face_embedding, image)
        negative = None if image_negative is None else face.find_faces(image_negative, face_analysis)
        tokens = face.encode_faces(ipadapter, clip_vision, (face_embedding, image), negative)
        one_each = image_batch == "one per latent"
        model = adapter.apply(model, ipadapter, tokens, weight, start_at, end_at, weight_type, attn_mask, one_each)
        return (model, face_embedding, image)
