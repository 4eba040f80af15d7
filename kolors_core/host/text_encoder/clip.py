"""The ChatGLM3 encoder as the host's CLIP: loaded, offloaded, patched and saved by the host's own machinery."""

from __future__ import annotations

from functools import partial
from itertools import dropwhile
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.patcher_extension import CallbacksMP
from comfy.supported_models_base import ClipTarget
from torch import Tensor

from ...errors import KolorsError, log
from ...files import check_tensors, locate
from ...files.identify import extract_chatglm3, find_chatglm3
from ...networks.chatglm3 import ChatGLM3Config, RotaryEmbedding, encode_prompts
from ...networks.tokenizer import PAD_ID, PROMPT_ROWS, ChatGLM3Tokenizer, pad_left, prompt_rows
from .. import model_files
from ..messages import count_steps
from . import storage as encoder_weights
from .packed import keep_patches
from .storage import Storage

NAME = "chatglm3"
MAX_TOKENS_OPTION = "kolors_max_tokens"
CHECKPOINT_PREFIX = "text_encoders."


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
        return {model_files.TOKENIZER_KEY: torch.frombuffer(bytearray(self.tokenizer.model), dtype=torch.uint8)}


def parse_weights(text: str) -> list[tuple[str, float]]:
    """Split a prompt by the host's ``(word:1.2)`` syntax into (text, weight); ``\\(`` is a plain parenthesis."""
    segments = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
    return [(comfy.sd1_clip.unescape_important(segment), weight) for segment, weight in segments]


class KolorsTextEncoder(torch.nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """The host's text encoder interface around `ChatGLM3Encoder`, which stands under the key ``transformer``.

    state_dict: of `encoder_weights.convert`; its tensors are taken over as they are. storage: what they are stored in;
    it takes precedence over the host's `dtype`, which knows nothing of the file.
    """

    def __init__(
        self, config: ChatGLM3Config, state_dict, prefix, storage: Storage, device="cpu", dtype=None, model_options={}
    ):
        super().__init__()
        self.dtypes = {storage.plain if storage.bits else storage.dtype}
        self.storage = storage
        self.prefix = prefix
        self.special_tokens = {}  # read by the host's weighting, for `gen_empty_tokens`
        self.execution_device = None
        self.transformer = storage.build(
            config,
            operations=model_options.get("custom_operations"),
            attention=partial(_attend, optimized_attention_for_device(device, mask=True, small_input=True)),
        )
        self.load_sd(state_dict)
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
        """Padded token lists of equal length -> context (p, rows, hidden) and pooled (p, hidden), float32.

        Raises KolorsError where a value is not finite.
        """
        rows = len(tokens[0])
        prompts = [list(dropwhile(PAD_ID.__eq__, prompt)) or [PAD_ID] for prompt in tokens]
        device = self.execution_device or self.device  # set by the host: newest hosts tell it, others move the model
        step = count_steps(self.transformer.config.num_layers)
        context, pooled = encode_prompts(self.transformer, prompts, rows, device, after_layer=step)
        if not (context.isfinite().all() and pooled.isfinite().all()):
            raise KolorsError(
                f"The ChatGLM3 text encoder, stored in {self.storage} on {device}, gave values that are not finite, "
                "which would make the image black. Set weight_dtype of 'Load Kolors ChatGLM3 Text Encoder' to bf16 "
                "(12 GB) or fp32 (24 GB); where that does not help, the file is damaged or a LoRA on it too strong."
            )
        return context, pooled


def _attend(attention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """The host's attention in our signature: (1, a, q, d) in and out."""
    return attention(query, key, value, query.shape[1], mask=bias, skip_reshape=True, skip_output_reshape=True)


def build_clip(
    state_dict: dict[str, Tensor],
    tokenizer: ChatGLM3Tokenizer,
    config: ChatGLM3Config,
    storage: Storage,
    model_options,
    **dynamic,
):
    """A ``comfy.sd.CLIP`` of the state dict of `encoder_weights.convert`. dynamic: see `compat.allow_reloading`."""
    target = ClipTarget(*_target(state_dict, tokenizer, config, storage))
    parameters = sum(tensor.nbytes for tensor in state_dict.values()) // storage.plain.itemsize
    options = {**model_options, "dtype": storage.plain}
    clip = comfy.sd.CLIP(target, parameters=parameters, model_options=options, **dynamic)
    clip.patcher.add_callback(CallbacksMP.ON_LOAD, keep_patches)
    return clip


def _target(state_dict, tokenizer, config, storage):
    encoder = partial(KolorsTextEncoder, config, state_dict, tokenizer.prefix, storage)
    return partial(KolorsTokenizer, tokenizer), encoder


def prepare(state_dict: dict[str, Tensor], prefix: str, settings: dict[str, Any], path: str):
    """The encoder's tensors under `prefix`, checked to be complete, the configuration they tell, and their storage.

    Raises KolorsError where tensors are missing, of the wrong shape, or stored in more than one way.
    """
    encoder = extract_chatglm3(state_dict, prefix)
    try:
        config = ChatGLM3Config.from_state_dict(encoder, settings)
    except KolorsError as error:
        raise KolorsError(f"{locate(path)} {error}") from None
    encoder.setdefault("rotary_pos_emb.inv_freq", RotaryEmbedding(config.rotary_dim).inv_freq)
    source = encoder_weights.stored(encoder, path)
    what = f"ChatGLM3 text encoder{f' in {source}' if source.bits else ''}"
    check_tensors(source.expected(config), encoder, what, path)
    return encoder, config, source


def checkpoint_target(state_dict: dict[str, Tensor], prefix: str):
    """Tokenizer and encoder of a checkpoint that carries the encoder, as the host's ClipTarget takes them."""
    path = "the checkpoint"
    encoder, config, source = prepare(state_dict, prefix, {}, path)
    model = state_dict.get(CHECKPOINT_PREFIX + model_files.TOKENIZER_KEY)
    tokenizer = model_files.find_tokenizer(path, config.vocab_size, model)
    storage = encoder_weights.choose("default", source, comfy.model_management.text_encoder_device())
    converted = encoder_weights.convert(config, encoder, source, storage, lambda key, rows: encoder[key][rows])
    return _target(converted, tokenizer, config, storage)


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
    tokenizer_key = CHECKPOINT_PREFIX + model_files.TOKENIZER_KEY
    return encoder | ({model_files.TOKENIZER_KEY: state_dict[tokenizer_key]} if tokenizer_key in state_dict else {})
