"""The ChatGLM3 encoder's weights: from what a file has to what memory is to hold, one tensor at a time.

What the file has already stays mapped. Everything else is read, converted and let go tensor by tensor, so that loading
takes little more memory than what it leaves behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...errors import BadFile
from ...files.identify import is_quantized
from ...files.weights import ALL, Weights
from ...networks.chatglm3 import ChatGLM3Config, ChatGLM3Encoder
from ...networks.quantization import BITS, dequantize, packed_linear, quantize_parts
from ..cpu import NATIVE
from ..expected import Plain, expected_tensors
from ..messages import count_steps
from .packed import packed_operations

#: What a user may choose to store the encoder in; "default" leaves it to the host and the file.
WEIGHT_DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
WEIGHT_NAMES = (*WEIGHT_DTYPES, *BITS)
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
MATRIX = ".self_attention.query_key_value.weight"  # its width is that of the hidden states
EMBEDDING = "embedding.word_embeddings.weight"


@dataclass(frozen=True)
class Storage:
    """What memory holds: the layers' matrices in `dtype` or packed in `bits`, norms and embedding in `norm_dtype`."""

    dtype: torch.dtype
    norm_dtype: torch.dtype
    bits: int | None = None

    def __str__(self) -> str:
        return f"int{self.bits}" if self.bits else str(self.dtype).removeprefix("torch.")

    def build(self, config: ChatGLM3Config, operations: Any = None, **options) -> ChatGLM3Encoder:
        """The encoder without weights, on the meta device."""
        if self.bits:
            operations = packed_operations(self.bits)
        return ChatGLM3Encoder(
            config,
            dtype=self.dtype,
            norm_dtype=self.norm_dtype,
            device="meta",
            operations=operations or NATIVE,
            **options,
        )

    def expected(self, config: ChatGLM3Config) -> dict[str, Tensor]:
        """The encoder's tensors by name, in shape and dtype, without memory."""
        layers = type("PackedPlain", (Plain,), {"Linear": packed_linear(self.bits)}) if self.bits else Plain
        return expected_tensors(
            ChatGLM3Encoder, config, dtype=self.dtype, norm_dtype=self.norm_dtype, operations=layers
        )


def detect_storage(encoder: Mapping[str, Tensor]) -> Storage:
    """What a file's tensors are stored in.

    Raises BadFile where a tensor is stored in another way than its part of the encoder can be.
    """
    norm_dtype, hidden = encoder[EMBEDDING].dtype, encoder[EMBEDDING].shape[1]
    matrix = next(tensor for key, tensor in encoder.items() if key.endswith(MATRIX))
    storage = Storage(matrix.dtype, norm_dtype)
    if is_quantized(encoder):
        storage = Storage(torch.int8, norm_dtype, 8 if matrix.shape[-1] == hidden else 4)
    for key, tensor in encoder.items():
        is_matrix = key.startswith("encoder.layers.") and tensor.ndim == 2
        integers = bool(storage.bits) and is_matrix and tensor.dtype in (torch.int8, torch.uint8)
        wrong = None if integers or tensor.is_floating_point() else f"{key} is {tensor.dtype}"
        if f"{key}_scale" in encoder:
            wrong = None if integers else f"{key}_scale belongs to a matrix of int8, but {key} is {tensor.dtype}"
        elif key.endswith("_scale") and key.removesuffix("_scale") not in encoder:
            wrong = f"{key} belongs to a matrix of int8, but {key.removesuffix('_scale')} is missing"
        if wrong:
            raise BadFile(f"is a damaged ChatGLM3 text encoder in {storage}: {wrong}. Download it again.")
    return storage


def choose_storage(name: str, source: Storage, device) -> Storage:
    """What to store the weights in by the name that a user chose; by default what the host's flags or the file say.

    A float32 file goes to half precision on an accelerator, as the host does with every text encoder.
    """
    half = source.norm_dtype if source.norm_dtype in (torch.float16, torch.bfloat16) else torch.float16
    if name in BITS:
        return Storage(torch.int8, half, BITS[name])
    if name != "default":
        dtype = WEIGHT_DTYPES[name]
        return Storage(dtype, half if dtype in FLOAT8 else dtype)
    if source.bits:
        return Storage(torch.int8, half, source.bits)
    dtype = comfy.model_management.text_encoder_dtype(device)
    if dtype == torch.float16:  # no --fp32-text-enc, --bf16-text-enc, --fp8_...-text-enc
        on_accelerator = not comfy.model_management.is_device_cpu(device)
        dtype = torch.float16 if source.dtype == torch.float32 and on_accelerator else source.dtype
    return Storage(dtype, half if dtype in FLOAT8 else dtype)


def convert_weights(config: ChatGLM3Config, encoder: Weights, source: Storage, target: Storage) -> dict[str, Tensor]:
    """The state dict of `target` from the tensors of `source`; one that is converted is read and let go in between.

    Shows progress, and ends where the prompt is interrupted.
    """
    expected = target.expected(config)
    result: dict[str, Tensor] = {}
    step = count_steps(len(expected))
    for key, meta in expected.items():
        scale = f"{key}_scale"
        if key in result:  # a scale, made with its matrix
            pass
        elif target.bits and scale in expected:
            if source.bits == target.bits:
                result[key] = encoder.tensors[key].view(torch.int8)
                result[scale] = encoder.read(scale).to(torch.float32, copy=True)
            else:
                shape = (meta.shape[0], meta.shape[1] * 8 // target.bits)
                result[key], result[scale] = quantize_parts(shape, target.bits, partial(_values, key, encoder, source))
        elif scale in encoder.tensors:
            result[key] = _values(key, encoder, source).to(meta.dtype)
        elif encoder.tensors[key].is_meta or encoder.tensors[key].dtype != meta.dtype:
            result[key] = encoder.read(key).to(meta.dtype, copy=True)
        else:
            result[key] = encoder.tensors[key]  # stays mapped
        step()
    return result


def _values(key: str, encoder: Weights, source: Storage, rows: slice = ALL) -> Tensor:
    """Rows of a matrix, unpacked where the file has it packed."""
    scale = f"{key}_scale"
    if source.bits is None or scale not in encoder.tensors:
        return encoder.read(key, rows)
    return dequantize(encoder.read(key, rows).view(torch.int8), encoder.read(scale, rows).float(), source.bits)
