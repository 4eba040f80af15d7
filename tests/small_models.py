"""Small files under the names of the published ones, with the tensors that tell what they are, and a catalog of them.

Headers tell the shapes of the released models; behind them there are a few bytes. Nothing of this can be loaded.
"""

import hashlib
import io
import json
import struct
import zipfile
from dataclasses import replace

import pytest
from comfyui_kolors.kolors_core.models import catalog

HIDDEN, WIDTH = 4096, 2048


def safetensors(tensors, fill=b"\1", each=64, metadata=None):
    """A file whose header names `tensors` (shape, or dtype and shape, by key), with `each` bytes of values for each."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for key, what in tensors.items():
        dtype, shape = what if isinstance(what, tuple) else ("F16", what)
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + each]}
        end += each
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + fill * end


def unet(channels=4, dtype="F16", prefix="", hidden=HIDDEN, fill=b"\1"):
    tensors = {"conv_in.weight": [320, channels, 3, 3], "conv_out.weight": [4, 320, 3, 3]}
    tensors |= {"encoder_hid_proj.weight": [WIDTH, hidden], "add_embedding.linear_1.weight": [1280, hidden + 1536]}
    tensors["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"] = [640, WIDTH]
    return safetensors({prefix + key: (dtype, shape) for key, shape in tensors.items()}, fill)


def sdxl_unet():
    to_k = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    return safetensors({"model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3], to_k: [640, WIDTH]})


def encoder(storage="fp16", tokenizer=b"", hidden=HIDDEN):
    layer = "encoder.layers.0.self_attention.query_key_value.weight"
    width, dtype = {"fp16": (hidden, "F16"), "int8": (hidden, "I8"), "int4": (hidden // 2, "I8")}[storage]
    tensors = {layer: (dtype, [4608, width]), "encoder.layers.0.input_layernorm.weight": [hidden]}
    if storage != "fp16":
        tensors[f"{layer}_scale"] = [4608]
    if tokenizer:
        tensors["spiece_model"] = ("U8", [1018370])
    return safetensors(tensors, each=4096)


def vae(channels=4, fill=b"\1"):
    return safetensors(
        {"decoder.conv_in.weight": [512, channels, 3, 3], "encoder.conv_out.weight": [8, 512, 3, 3]}, fill
    )


def control_net(fill):
    tensors = {"conv_in.weight": [320, 4, 3, 3], "encoder_hid_proj.weight": [WIDTH, HIDDEN]}
    return safetensors(tensors | {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3]}, fill)


def sdxl_control_net():
    tensors = {"conv_in.weight": [320, 4, 3, 3], "add_embedding.linear_1.weight": [1280, 2816]}
    return safetensors(tensors | {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3]})


def adapter():
    tensors = {"image_proj.proj_in.weight": [WIDTH, 1024], "ip_adapter.1.to_k_ip.weight": [640, WIDTH]}
    return safetensors(tensors, each=4096)


def vision_encoder():
    return safetensors({"vision_model.embeddings.position_embedding.weight": [577, 1024]}, each=4096)


def taesd_decoder(fill=b"\1"):
    return safetensors({"1.weight": [64, 4, 3, 3], "3.conv.0.weight": [64, 64, 3, 3]}, fill)


def torch_file(size=6000, compress=zipfile.ZIP_STORED):
    """A ZIP archive as torch writes it, without a pickle that anybody could read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", bytes(size))
    return file.getvalue()


def pointer(sha256):
    """What a checkout without Git LFS has in the place of a file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 5159140240\n".encode()


TOKENIZER = b"\n\x0e" + bytes(range(256)) * 4
LORA = safetensors({"unet.down.lora_A.weight": [64, 640]})
SHARDS = {file.file: torch_file(1000 + number) for number, file in enumerate(catalog.SHARDS)}
INDEX = json.dumps(
    {"weight_map": {f"transformer.encoder.layers.{4 * number}.self_attention.query_key_value.weight": name
                    for number, name in enumerate(SHARDS)}}
).encode()  # fmt: skip
LARGE = {
    "unet": unet(),
    "encoder": encoder(),
    "encoder-8bit": encoder("int8"),
    "encoder-4bit": encoder("int4"),
    "tokenizer": TOKENIZER,
    "vae": vae(),
    "ip-adapter-plus": adapter(),
    "vision-encoder": vision_encoder(),
    "faceid-plus": torch_file(),
    "controlnet-canny": control_net(b"\1"),
    "controlnet-depth": control_net(b"\2"),
    "controlnet-pose": control_net(b"\3"),
    "inpainting": unet(9),
    "controlnet-union": sdxl_control_net(),
    "lcm-lora": LORA,
    "hyper-lora": safetensors({"unet.down.lora_A.weight": [64, 640]}, fill=b"\2"),
    "preview-decoder": taesd_decoder(),
}
CONTENTS = {file.name: LARGE.get(file.name, b"\x08" + file.name.encode() * 9) for file in catalog.FILES}


def describe(file, content):
    """An entry of the catalog with the size and the hash of a small file, as exact and as known as they were."""
    return replace(file, size=len(content), sha256=file.sha256 and hashlib.sha256(content).hexdigest())


def use_small_catalog(monkeypatch):
    """Let the catalog be one of the small files."""
    files = tuple(describe(file, CONTENTS[file.name]) for file in catalog.FILES)
    monkeypatch.setattr(catalog, "FILES", files)
    monkeypatch.setattr(catalog, "SHARDS", tuple(describe(file, SHARDS[file.file]) for file in catalog.SHARDS))
    monkeypatch.setattr(catalog, "BY_NAME", {file.name: file for file in files})
    monkeypatch.setattr(catalog, "TOKENIZER", next(file for file in files if file.name == "tokenizer"))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(path, target):
    """A link to a folder; where the system makes none, the test is skipped."""
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


def install(root, *names, **changed):
    """Put files of the catalog where they belong; `changed` gives one other content, or None to leave it out."""
    for name in names or catalog.FEATURES["text-to-image"]:
        content = changed.get(name, CONTENTS[name])
        if content is not None:
            put(root / "models" / catalog.BY_NAME[name].place, content)
    (root / "models").mkdir(parents=True, exist_ok=True)
    return root
