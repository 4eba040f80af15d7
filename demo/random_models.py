"""Write a tiny Kolors with random weights: the published layouts and every real code path, but no picture to recognise.

    python demo/random_models.py MODELS_DIR

makes diffusion_models/, text_encoders/ and vae/ under MODELS_DIR, and leaves what is there and complete. The tests
build their models from the same functions. diffusers gives the UNet and the autoencoder, so that their key names are
the published ones by construction.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

if __package__ and "." in __package__:  # in the pack, whatever its folder is called
    from ..kolors_core.networks.tokenizer import TOKENIZER_KEY
else:  # a script, or a module of the scripts in train/
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from kolors_core.networks.tokenizer import TOKENIZER_KEY

UNET_FILE = "diffusion_models/kolors-random-unet.safetensors"
TEXT_ENCODER_FILE = "text_encoders/kolors-random-chatglm3.safetensors"
VAE_FILE = "vae/kolors-random-vae.safetensors"


@dataclass(frozen=True)
class Sizes:
    """A Kolors of any size. The UNet keeps its topology: three levels, no attention in the first, heads of 64."""

    hidden: int = 64  # width of the text encoder
    head_dim: int = 16
    groups: int = 2
    layers: int = 3
    ffn: int = 96
    channels: tuple[int, int, int] = (32, 64, 64)
    depth: tuple[int, int] = (1, 2)  # transformer layers in the second and third level
    context: int = 128  # width of the cross attention


TINY = Sizes()
MID = Sizes(hidden=256, head_dim=64, layers=4, ffn=688, channels=(64, 128, 256), depth=(1, 3), context=256)

SENTENCES = """
a red apple on a yellow background, a photo of a cat in the snow, a small blue bird in a green tree
the sun over the sea at dawn, a portrait of an old man, a girl with a red umbrella in the rain, high quality, detailed
一只红苹果，黄色背景，一张猫在雪地里的照片，一只小蓝鸟站在绿树上
清晨海上的太阳，一位老人的肖像，雨中打着红伞的女孩，高质量，细节丰富
"""


def random_tokenizer() -> bytes:
    """A SentencePiece model of a few hundred bilingual pieces."""
    return train_tokenizer(SENTENCES.strip().splitlines(), 480)


def train_tokenizer(sentences: list[str], pieces: int) -> bytes:
    """A SentencePiece model of at most `pieces`: BPE with byte fallback and nothing normalised, as ChatGLM3's own."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=pieces,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return model.getvalue()


def tokenizer_tensors(model: bytes) -> dict[str, Tensor]:
    """A tokenizer as an encoder's file has it among the tensors."""
    return {TOKENIZER_KEY: torch.frombuffer(bytearray(model), dtype=torch.uint8)}


def random_chatglm3(sizes: Sizes, pieces: int, seed: int = 0) -> dict[str, Tensor]:
    """A ChatGLM3 state dict under its published names, float32; `pieces` is the size of the tokenizer's vocabulary."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 0.08) -> Tensor:
        return torch.randn(shape, generator=generator) * std

    rows = -(-(pieces + 9) // 256) * 256
    state_dict = {
        "embedding.word_embeddings.weight": normal(rows, sizes.hidden, std=0.5),
        "rotary_pos_emb.inv_freq": 10000.0 ** -(torch.arange(0, sizes.head_dim // 2, 2) / (sizes.head_dim // 2)),
        "encoder.final_layernorm.weight": torch.ones(sizes.hidden),
        "output_layer.weight": normal(rows, sizes.hidden),
    }
    qkv = sizes.hidden + 2 * sizes.groups * sizes.head_dim
    for layer in range(sizes.layers):
        state_dict |= {
            f"encoder.layers.{layer}.{name}": tensor
            for name, tensor in {
                "input_layernorm.weight": 1 + normal(sizes.hidden),
                "self_attention.query_key_value.weight": normal(qkv, sizes.hidden),
                "self_attention.query_key_value.bias": normal(qkv),
                "self_attention.dense.weight": normal(sizes.hidden, sizes.hidden),
                "post_attention_layernorm.weight": 1 + normal(sizes.hidden),
                "mlp.dense_h_to_4h.weight": normal(2 * sizes.ffn, sizes.hidden),
                "mlp.dense_4h_to_h.weight": normal(sizes.hidden, sizes.ffn),
            }.items()
        }
    return state_dict


def random_unet(sizes: Sizes, in_channels: int = 4, seed: int = 0, guidance_width: int | None = None):
    """A diffusers UNet2DConditionModel of Kolors' topology, float32, in evaluation mode.

    guidance_width: of the guidance embedding that it takes, if any.
    """
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    heads = tuple(max(1, channels // 64) for channels in sizes.channels)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=in_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=sizes.channels,
        layers_per_block=2,
        transformer_layers_per_block=(1, *sizes.depth),
        attention_head_dim=heads,
        cross_attention_dim=sizes.context,
        encoder_hid_dim=sizes.hidden,
        encoder_hid_dim_type="text_proj",
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=sizes.hidden + 6 * 256,
        time_cond_proj_dim=guidance_width,
    )
    return unet.eval()


def random_control_net(sizes: Sizes, label_width: int | None = None, union_types: int = 0, seed: int = 0):
    """A diffusers ControlNetModel of Kolors, or of SDXL where `label_width` is given, float32, in evaluation mode.

    union_types: as many kinds of control as a ControlNetUnionModel knows, which has 320 channels in its first level.
    """
    from diffusers import ControlNetModel, ControlNetUnionModel

    torch.manual_seed(seed)
    options = {"encoder_hid_dim": sizes.hidden, "encoder_hid_dim_type": "text_proj"} if label_width is None else {}
    options |= {"num_control_type": union_types, "num_proj_channel": sizes.channels[0]} if union_types else {}
    control_net = (ControlNetUnionModel if union_types else ControlNetModel)(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        block_out_channels=sizes.channels,
        layers_per_block=2,
        transformer_layers_per_block=(1, *sizes.depth),
        attention_head_dim=tuple(max(1, channels // 64) for channels in sizes.channels),
        cross_attention_dim=sizes.context,
        conditioning_embedding_out_channels=(16, 32, 96, 256),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=label_width or sizes.hidden + 6 * 256,
        **options,
    )
    zero = (control_net.controlnet_down_blocks, control_net.controlnet_mid_block)
    for parameter in (
        *zero[0].parameters(),
        *zero[1].parameters(),
        *control_net.controlnet_cond_embedding.parameters(),
    ):
        if not parameter.any():  # as training starts
            torch.nn.init.normal_(parameter, std=0.1)
    return control_net.eval()


def attention_widths(sizes: Sizes) -> list[int]:
    """Width of each cross attention of the UNet in diffusers' order: down, up, middle."""
    _, second, third = sizes.channels
    down = 2 * sizes.depth[0] * [second] + 2 * sizes.depth[1] * [third]
    up = 3 * sizes.depth[1] * [third] + 3 * sizes.depth[0] * [second]
    return down + up + sizes.depth[1] * [third]


def random_ip_adapter(
    sizes: Sizes, image_width: int, width: int = 128, depth: int = 4, tokens: int = 16, heads: int = 2, seed: int = 0
) -> dict[str, Tensor]:
    """An IP-Adapter Plus as ip_adapter_plus_general.safetensors has it, float32; `width` is the resampler's."""
    tensor = _normal(seed)
    state_dict = _resampler("image_proj.", tensor, image_width, width, sizes.context, depth, heads)
    state_dict["image_proj.latents"] = tensor(1, tokens, width, std=1.0)
    return state_dict | _projections("ip_adapter.", tensor, sizes)


def random_face_adapter(
    sizes: Sizes, image_width: int, depth: int = 4, tokens: int = 6, face_width: int = 512, seed: int = 0
) -> dict[str, Tensor]:
    """A FaceID Plus as ipa-faceid-plus.bin has it, flat, float32; its resampler is as wide as the text encoder."""
    tensor, width = _normal(seed), sizes.hidden
    state_dict = _resampler(
        "image_proj.perceiver_resampler.", tensor, image_width, width, width, depth, heads=width // 64
    )
    state_dict |= {
        "image_proj.proj.0.weight": tensor(2 * face_width, face_width),
        "image_proj.proj.0.bias": tensor(2 * face_width),
        "image_proj.proj.2.weight": tensor(width * tokens, 2 * face_width),
        "image_proj.proj.2.bias": tensor(width * tokens),
        "image_proj.norm.weight": 1 + tensor(width),
        "image_proj.norm.bias": tensor(width),
    }
    return state_dict | _projections("adapter_modules.", tensor, sizes)


def _normal(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, std=0.08: torch.randn(shape, generator=generator) * std


def _resampler(prefix: str, tensor, image_width: int, width: int, token_width: int, depth: int, heads: int):
    state_dict = {
        "proj_in.weight": tensor(width, image_width),
        "proj_in.bias": tensor(width),
        "proj_out.weight": tensor(token_width, width),
        "proj_out.bias": tensor(token_width),
        "norm_out.weight": 1 + tensor(token_width),
        "norm_out.bias": tensor(token_width),
    }
    for layer in range(depth):
        state_dict |= {
            f"layers.{layer}.{name}": value
            for name, value in {
                "0.norm1.weight": 1 + tensor(width),
                "0.norm1.bias": tensor(width),
                "0.norm2.weight": 1 + tensor(width),
                "0.norm2.bias": tensor(width),
                "0.to_q.weight": tensor(64 * heads, width),
                "0.to_kv.weight": tensor(128 * heads, width),
                "0.to_out.weight": tensor(width, 64 * heads),
                "1.0.weight": 1 + tensor(width),
                "1.0.bias": tensor(width),
                "1.1.weight": tensor(4 * width, width),
                "1.3.weight": tensor(width, 4 * width),
            }.items()
        }
    return {prefix + key: value for key, value in state_dict.items()}


def _projections(prefix: str, tensor, sizes: Sizes) -> dict[str, Tensor]:
    return {
        f"{prefix}{2 * index + 1}.{name}.weight": tensor(width, sizes.context)
        for index, width in enumerate(attention_widths(sizes))
        for name in ("to_k_ip", "to_v_ip")
    }


def random_vae(seed: int = 0) -> dict[str, Tensor]:
    """A TAESD-shaped autoencoder under the names that the stock VAE loader reads."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(seed)
    state_dict = taesd_names(AutoencoderTiny().state_dict())
    *_, weight, bias = (key for key in state_dict if key.startswith("taesd_decoder."))
    state_dict[weight] = state_dict[weight] * 12  # the picture would be all but black
    state_dict[bias] = torch.full_like(state_dict[bias], 0.5)
    return state_dict


def random_kl_vae(seed: int = 0) -> dict[str, Tensor]:
    """SDXL's autoencoder in its size, by which ComfyUI knows it, fp16, 84 million weights."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )
    return vae.half().state_dict()


def taesd_names(autoencoder: dict[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """diffusers' AutoencoderTiny under the names that the stock VAE loader reads, which divides latents by `scale`."""
    state_dict = {"vae_scale": torch.tensor(scale), "vae_shift": torch.tensor(0.0)}
    return state_dict | {taesd_name(key): tensor for key, tensor in autoencoder.items()}


def taesd_name(key: str) -> str:
    part, _, index, rest = key.split(".", 3)
    offset = 1 if part == "decoder" else 0  # the decoder's clamp, a module without weights, is counted there
    return f"taesd_{part}.{int(index) + offset}.{rest}"


def write(models: Path, sizes: Sizes = TINY) -> None:
    """Write the three files under `models`; each appears whole or not at all."""
    tokenizer = random_tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).vocab_size()
    makers = {
        UNET_FILE: lambda: random_unet(sizes).state_dict(),
        TEXT_ENCODER_FILE: lambda: random_chatglm3(sizes, pieces) | tokenizer_tensors(tokenizer),
        VAE_FILE: random_vae,
    }
    for name, make in makers.items():
        path = models / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            save_file(make(), partial)
            partial.replace(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
