"""The ChatGLM3 encoder as the host's CLIP: loaded, offloaded, patched and saved by the host's own machinery."""

from __future__ import annotations

from functools import partial
from itertools import dropwhile
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.supported_models_base import ClipTarget
from torch import Tensor

from ..chatglm3 import ChatGLM3Config, ChatGLM3Encoder, RotaryEmbedding, encode_prompts
from ..detect import extract_chatglm3, find_chatglm3, is_quantized
from ..errors import KolorsError, log
from ..files import check_tensors, locate
from ..tokenizer import PAD_ID, PROMPT_ROWS, ChatGLM3Tokenizer, pad_left, prompt_rows
from . import paths

NAME = "chatglm3"
MAX_TOKENS_OPTION = "kolors_max_tokens"
CHECKPOINT_PREFIX = "text_encoders."
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class KolorsTokenizer:
    """The host's tokenizer interface: prompts with ``(word:1.2)`` weights to padded lists of (id, weight)."""

    def __init__(self, tokenizer: ChatGLM3Tokenizer, embedding_directory=None, tokenizer_data={}):
        self.tokenizer = tokenizer

    def tokenize_with_weights(
        self, text: str, return_word_ids=False, tokenizer_options={}, disable_weights=False, **kwargs
    ):
        """One list of `prompt_rows` entries under the name ``chatglm3``."""
        limit = tokenizer_options.get(MAX_TOKENS_OPTION, PROMPT_ROWS)
        tokens = self.tokenizer.encode_weighted([(text, 1.0)] if disable_weights else parse_weights(text), limit)
        if tokens.dropped:
            log.warning(
                "[Kolors] The last %d tokens of a prompt of %d were dropped: the limit is %d. "
                "'Kolors Prompt Encode' has max_tokens to raise it.",
                tokens.dropped, len(tokens.ids) + tokens.dropped, limit,
            )  # fmt: skip
        rows = prompt_rows(len(tokens.ids))
        columns = [pad_left(tokens.ids, rows), pad_left(tokens.weights, rows, 1.0)]
        if return_word_ids:
            columns.append(pad_left(list(range(1, len(tokens.ids) + 1)), rows))
        return {NAME: [list(zip(*columns))]}

    def untokenize(self, token_weight_pair):
        return [(pair, self.tokenizer.describe(pair[0])) for pair in token_weight_pair]

    def decode(self, token_ids, skip_special_tokens=True):
        return self.tokenizer.decode(token_ids)

    def state_dict(self) -> dict[str, Tensor]:
        """The tokenizer model itself, so that a saved encoder needs no second file."""
        return {paths.TOKENIZER_KEY: torch.frombuffer(bytearray(self.tokenizer.model), dtype=torch.uint8)}


def parse_weights(text: str) -> list[tuple[str, float]]:
    """Split a prompt by the host's ``(word:1.2)`` syntax into (text, weight); ``\\(`` is a plain parenthesis."""
    segments = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
    return [(comfy.sd1_clip.unescape_important(segment), weight) for segment, weight in segments]


class KolorsTextEncoder(torch.nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """The host's text encoder interface around `ChatGLM3Encoder`, which stands under the key ``transformer``.

    state_dict: from `prepare`; its tensors are taken over where dtype and place allow. weight_dtype: what the matrices
    are stored in; it takes precedence over the host's `dtype`, which knows nothing of the file.
    """

    def __init__(
        self, config: ChatGLM3Config, state_dict, prefix, weight_dtype, device="cpu", dtype=None, model_options={}
    ):
        super().__init__()
        self.dtypes = {weight_dtype}
        self.prefix = prefix
        self.special_tokens = {}  # read by the host's weighting, for `gen_empty_tokens`
        self.execution_device = None
        self.transformer = ChatGLM3Encoder(
            config,
            dtype=weight_dtype,
            norm_dtype=torch.float16 if weight_dtype in FLOAT8 else weight_dtype,
            device="meta",
            operations=model_options.get("custom_operations") or comfy.ops.manual_cast,
            attention=partial(_attend, optimized_attention_for_device(device, mask=True, small_input=True)),
        )
        self.load_sd({key: _own(state_dict[key], meta.dtype) for key, meta in self.transformer.state_dict().items()})
        self.requires_grad_(False).eval()

    def load_sd(self, state_dict):
        return self.transformer.load_state_dict(state_dict, strict=False, assign=True)

    def set_clip_options(self, options):
        self.execution_device = options.get("execution_device", self.execution_device)
        if options.get("layer") is not None:
            log.warning("[Kolors] 'CLIP Set Last Layer' has no effect: Kolors always reads the last layer but one.")

    def reset_clip_options(self):
        self.execution_device = None

    def gen_empty_tokens(self, special_tokens, length):
        """The empty prompt in `length` rows: the host scales a weighted token's distance from its state there."""
        return pad_left(self.prefix, length)

    def encode_token_weights(self, token_weight_pairs):
        return super().encode_token_weights(token_weight_pairs[NAME])

    def encode(self, tokens):
        """Padded token lists of equal length -> context (p, rows, hidden) and pooled (p, hidden), float32."""
        rows = len(tokens[0])
        prompts = [list(dropwhile(PAD_ID.__eq__, prompt)) or [PAD_ID] for prompt in tokens]
        device = self.execution_device or self.device  # set by the host: newest hosts tell it, others move the model
        return encode_prompts(self.transformer, prompts, rows, device)


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in `dtype`; in float32 on a 64-byte boundary.

    A mapped file starts anywhere, and float32 weights are computed with in place, where the last digit follows that.
    """
    tensor = tensor.to(dtype)
    return tensor.clone() if dtype == torch.float32 and tensor.data_ptr() % 64 else tensor


def _attend(attention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """The host's attention in our signature: (1, a, q, d) in and out."""
    return attention(query, key, value, query.shape[1], mask=bias, skip_reshape=True, skip_output_reshape=True)


def build_clip(
    state_dict: dict[str, Tensor], tokenizer: ChatGLM3Tokenizer, config: ChatGLM3Config, weight_dtype, model_options
):
    """A ``comfy.sd.CLIP`` of a prepared state dict."""
    target = ClipTarget(*_target(state_dict, tokenizer, config, weight_dtype))
    parameters = sum(tensor.numel() for tensor in state_dict.values())
    return comfy.sd.CLIP(target, parameters=parameters, model_options={**model_options, "dtype": weight_dtype})


def _target(state_dict, tokenizer, config, weight_dtype):
    encoder = partial(KolorsTextEncoder, config, state_dict, tokenizer.prefix, weight_dtype)
    return partial(KolorsTokenizer, tokenizer), encoder


def prepare(state_dict: dict[str, Tensor], prefix: str, settings: dict[str, Any], path: str):
    """The encoder's tensors under `prefix`, checked to be complete, and the configuration they tell.

    Raises KolorsError where tensors are missing, of the wrong shape, or stored as integers.
    """
    encoder = extract_chatglm3(state_dict, prefix)
    if is_quantized(encoder):
        raise KolorsError(
            f"{locate(path)} is a ChatGLM3 text encoder with integer weights (8-bit or 4-bit), which this version does "
            "not read. Use the fp16 file, and set weight_dtype to fp8_e4m3fn where memory is short."
        )
    try:
        config = ChatGLM3Config.from_state_dict(encoder, settings)
    except KolorsError as error:
        raise KolorsError(f"{locate(path)} {error}") from None
    encoder.setdefault("rotary_pos_emb.inv_freq", RotaryEmbedding(config.rotary_dim).inv_freq)
    check_tensors(ChatGLM3Encoder(config, device="meta").state_dict(), encoder, "ChatGLM3 text encoder", path)
    return encoder, config


def default_dtype(state_dict: dict[str, Tensor], device) -> torch.dtype:
    """What to store the matrices in when nobody chose: what the host's flags say, else what the file has.

    A float32 file goes to half precision on an accelerator, as the host does with every text encoder.
    """
    host_dtype = comfy.model_management.text_encoder_dtype(device)
    if host_dtype != torch.float16:  # --fp32-text-enc, --bf16-text-enc, --fp8_...-text-enc
        return host_dtype
    stored = state_dict["encoder.layers.0.self_attention.query_key_value.weight"].dtype
    if stored == torch.float32 and not comfy.model_management.is_device_cpu(device):
        return host_dtype
    return stored


def checkpoint_target(state_dict: dict[str, Tensor], prefix: str):
    """Tokenizer and encoder of a checkpoint that carries the encoder, as the host's ClipTarget takes them."""
    path = "the checkpoint"
    encoder, config = prepare(state_dict, prefix, {}, path)
    model = state_dict.get(CHECKPOINT_PREFIX + paths.TOKENIZER_KEY)
    tokenizer = paths.find_tokenizer(path, config.vocab_size, model)
    dtype = default_dtype(encoder, comfy.model_management.text_encoder_device())
    return _target(encoder, tokenizer, config, dtype)


def to_checkpoint_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of `KolorsTextEncoder` to those inside a checkpoint, after the host's custom for its newer encoders."""
    return {
        f"{CHECKPOINT_PREFIX}{NAME}.{key}" if key.startswith("transformer.") else CHECKPOINT_PREFIX + key: value
        for key, value in state_dict.items()
    }


def from_checkpoint_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_checkpoint_keys`; an encoder under another prefix is found by its own names."""
    prefix = find_chatglm3(state_dict)
    encoder = {f"transformer.{key}": value for key, value in extract_chatglm3(state_dict, prefix).items()}
    tokenizer_key = CHECKPOINT_PREFIX + paths.TOKENIZER_KEY
    return encoder | ({paths.TOKENIZER_KEY: state_dict[tokenizer_key]} if tokenizer_key in state_dict else {})
