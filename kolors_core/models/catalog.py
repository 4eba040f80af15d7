"""Every model file of every feature: what it is called, how large it is, where it belongs, and under which licence.

Sizes and hashes are those of the published files. Where a hash is not known (`sha256` is None), the server's own is
taken when the file is fetched, and a file that is there is judged by its structure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KOLORS = "Kuaishou's Kolors licence"
CHATGLM = "ChatGLM3's model licence"
MIT = "MIT"
FACES = "insightface: non-commercial research only"
OPENRAIL = "OpenRAIL++"
APACHE = "Apache-2.0"


@dataclass(frozen=True)
class ModelFile:
    """One file.

    name: what the commands call it. file: its name on this machine, in `folder` below models/. size: bytes; rounded
    where `exact` is False. repo, path, revision: where it is on the hub; modelscope: its repository there, if any.
    """

    name: str
    folder: str
    file: str
    size: int
    sha256: str | None
    repo: str
    path: str
    licence: str
    modelscope: str | None = None
    revision: str = "main"
    exact: bool = True

    @property
    def place(self) -> str:
        """Folder and name below models/."""
        return f"{self.folder}/{self.file}"


TOKENIZER = ModelFile(
    "tokenizer", "text_encoders", "tokenizer.model", 1_018_370,
    "e7dc4c393423b76e4373e5157ddc34803a0189ba96b21ddbb40269d31468a6f2",
    "Kwai-Kolors/Kolors", "text_encoder/tokenizer.model", CHATGLM, "Kwai-Kolors/Kolors",
)  # fmt: skip


def _encoder(name: str, file: str, size: int, sha256: str) -> ModelFile:
    repo = "Kijai/ChatGLM3-safetensors"
    return ModelFile(name, "text_encoders", file, size, sha256, repo, file, CHATGLM, repo, exact=False)


def _control_net(kind: str, sha256: str) -> ModelFile:
    repo = f"Kwai-Kolors/Kolors-ControlNet-{kind}"
    file, path = f"Kolors-ControlNet-{kind}.safetensors", "diffusion_pytorch_model.safetensors"
    return ModelFile(f"controlnet-{kind.lower()}", "controlnet", file, 2_526_129_624, sha256, repo, path, KOLORS, repo)


def _face_model(file: str, size: int, sha256: str) -> ModelFile:
    folder = "insightface/models/antelopev2"
    return ModelFile(
        f"antelopev2-{file.removesuffix('.onnx')}", folder, file, size, sha256, "DIAMONIK7777/antelopev2", file, FACES
    )


#: What is installed.
FILES = (
    ModelFile(
        "unet", "diffusion_models", "Kolors-UNet-fp16.safetensors", 5_159_140_240,
        "425ff1dcbe3a70ac13d3afdd69bd4e3176b0c3260722527c80b210f11d2d966c",
        "Kwai-Kolors/Kolors", "unet/diffusion_pytorch_model.fp16.safetensors", KOLORS, "Kwai-Kolors/Kolors",
    ),
    _encoder(
        "encoder", "chatglm3-fp16.safetensors", 12_520_000_000,
        "9b626ddb4bd485c3c62adb3858b9fbcabb16dc17b425ae680f881fe7220ff8e4",
    ),
    _encoder(
        "encoder-8bit", "chatglm3-8bit.safetensors", 6_780_000_000,
        "4f6f640d88417ffca32b46d6c3560f408b14d01990fe6e4ec545bd902c02a855",
    ),
    _encoder(
        "encoder-4bit", "chatglm3-4bit.safetensors", 3_920_000_000,
        "c33db9167e647d3e3b7f4943518bedcc72aa65d8830f6990a8fe9817692d5c6b",
    ),
    TOKENIZER,
    ModelFile(
        "vae", "vae", "sdxl.vae.safetensors", 334_641_162,
        "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1",
        "madebyollin/sdxl-vae-fp16-fix", "sdxl.vae.safetensors", MIT, "AI-ModelScope/sdxl-vae-fp16-fix",
    ),
    ModelFile(
        "ip-adapter-plus", "ipadapter", "ip_adapter_plus_general.safetensors", 1_010_000_000, None,
        "Kwai-Kolors/Kolors-IP-Adapter-Plus", "ip_adapter_plus_general.safetensors", KOLORS,
        revision="refs/pr/4", exact=False,
    ),
    ModelFile(
        "vision-encoder", "clip_vision", "clip-vit-large-patch14-336.safetensors", 1_710_000_000, None,
        "Kwai-Kolors/Kolors-IP-Adapter-Plus", "image_encoder/model.safetensors", KOLORS,
        revision="refs/pr/4", exact=False,
    ),
    ModelFile(
        "faceid-plus", "ipadapter", "ipa-faceid-plus.bin", 2_390_000_000, None,
        "Kwai-Kolors/Kolors-IP-Adapter-FaceID-Plus", "ipa-faceid-plus.bin", KOLORS,
        "Kwai-Kolors/Kolors-IP-Adapter-FaceID-Plus", exact=False,
    ),
    _face_model("1k3d68.onnx", 143_607_619, "df5c06b8a0c12e422b2ed8947b8869faa4105387f199c477af038aa01f9a45cc"),
    _face_model("2d106det.onnx", 5_030_888, "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf"),
    _face_model("genderage.onnx", 1_322_532, "4fde69b1c810857b88c64a335084f1c3fe8f01246c9a191b48c7bb756d6652fb"),
    _face_model("glintr100.onnx", 260_665_334, "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"),
    _face_model("scrfd_10g_bnkps.onnx", 16_923_827, "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91"),
    _control_net("Canny", "ab34969b4ee57a182deb6e52e15d06c81c5285739caf4db2d8774135fd2b99e7"),
    _control_net("Depth", "b2e9f9ff67c6c8e3b3fbe833f9596d9d16d456b1911633af9aeb4b80949ee60b"),
    _control_net("Pose", "2d21bbb821c903166c7c79f8a3435b51a39fd449cd227f74ac1d345bbc4eb153"),
    ModelFile(
        "inpainting", "diffusion_models", "Kolors-Inpainting.safetensors", 5_159_169_040,
        "235db024626d7291e5d8af6776e8f49fa719c90221da9a54b553bb746101a787",
        "Kwai-Kolors/Kolors-Inpainting", "unet/diffusion_pytorch_model.safetensors", KOLORS,
        "Kwai-Kolors/Kolors-Inpainting",
    ),
    ModelFile(
        "lcm-lora", "loras", "lcm-lora-sdxl.safetensors", 393_855_224,
        "a764e6859b6e04047cd761c08ff0cee96413a8e004c9f07707530cd776b19141",
        "latent-consistency/lcm-lora-sdxl", "pytorch_lora_weights.safetensors", OPENRAIL,
    ),
    ModelFile(
        "hyper-lora", "loras", "Hyper-SDXL-8steps-lora.safetensors", 787_359_648,
        "ca689190e8c46038550384b5675488526cfe5a40d35f82b27acb75c100f417c1",
        "ByteDance/Hyper-SD", "Hyper-SDXL-8steps-lora.safetensors", OPENRAIL,
    ),
    ModelFile(
        "controlnet-union", "controlnet", "controlnet-union-sdxl-promax.safetensors", 2_513_342_408,
        "9fae2e50cb431bfcbe05822b59ec2228df545ef27f711dea8949e9f4ed9f7cdc",
        "xinsir/controlnet-union-sdxl-1.0", "diffusion_pytorch_model_promax.safetensors", APACHE,
    ),
    ModelFile(
        "preview-decoder", "vae_approx", "taesdxl_decoder.safetensors", 4_895_612,
        "f6013131e7eb412ef20113f1acc2ea7d3e47e53196ca0530fa65d9b61d814b61",
        "madebyollin/taesdxl", "taesdxl_decoder.safetensors", MIT,
    ),
)  # fmt: skip


def _shard(number: int, size: int, sha256: str) -> ModelFile:
    file, repo = f"pytorch_model-{number:05}-of-00007.bin", "Kwai-Kolors/Kolors"
    return ModelFile(f"shard-{number}", "", file, size, sha256, repo, f"text_encoder/{file}", CHATGLM, repo)


#: The text encoder in fp16 as Kolors publishes it, which int8 and int4 are made from.
SHARDS = (
    _shard(1, 1_827_781_090, "b6a6388dae55b598efe76c704e7f017bd84e6f6213466b7686a8f8326f78ab05"),
    _shard(2, 1_968_299_480, "2f96bef324acb5c3fe06b7a80f84272fe064d0327cbf14eddfae7af0d665a6ac"),
    _shard(3, 1_927_415_036, "2400101255213250d9df716f778b7d2325f2fa4a8acaedee788338fceee5b27e"),
    _shard(4, 1_815_225_998, "472567c1b0e448a19171fbb5b3dab5670426d0a5dfdfd2c3a87a60bb1f96037d"),
    _shard(5, 1_968_299_544, "ef2aea78fa386168958e5ba42ecf09cbb567ed3e77ce2be990d556b84081e2b9"),
    _shard(6, 1_927_415_036, "35191adf21a1ab632c2b175fcbb6c27601150026cb1ed5d602938d825954526f"),
    _shard(7, 1_052_808_542, "b7cdaa9b8ed183284905c49d19bf42360037fdf2f95acb3093039d3c3a459261"),
)

#: What a user wants to do, and the files that it takes beside those of text-to-image.
FEATURES = {
    "text-to-image": ("unet", "encoder", "tokenizer", "vae"),
    "ip-adapter": ("ip-adapter-plus", "vision-encoder"),
    "faceid": ("faceid-plus", "vision-encoder", *(f.name for f in FILES if f.name.startswith("antelopev2-"))),
    "controlnet": ("controlnet-canny", "controlnet-depth", "controlnet-pose"),
    "controlnet-union": ("controlnet-union",),
    "inpainting": ("inpainting",),
    "few-steps": ("lcm-lora",),
    "hyper-lora": ("hyper-lora",),
    "previews": ("preview-decoder",),
}


BY_NAME = {file.name: file for file in FILES}


def files_of(names: Iterable[str]) -> list[ModelFile]:
    """The files behind names of files and of features, each once. Raises KeyError with the name that is neither."""
    expanded = [each for name in names for each in FEATURES.get(name, (name,))]
    return [BY_NAME[name] for name in dict.fromkeys(expanded)]
