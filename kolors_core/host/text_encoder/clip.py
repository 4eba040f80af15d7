"""The ChatGLM3 encoder as the host's CLIP: loaded, offloaded, patched and saved by the host's own machinery."""

from __future__ import annotations

from functools import partial
from itertools import dropwhile

import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.patcher_extension import CallbacksMP
from comfy.supported_models_base import ClipTarget
from torch import Tensor

from ...errors import KolorsError, log
from ...networks.chatglm3 import ChatGLM3Config, encode_prompts
from ...networks.tokenizer import PAD_ID, PROMPT_ROWS, TOKENIZER_KEY, ChatGLM3Tokenizer, pad_left, prompt_rows
from ..messages import count_steps
from .packed import keep_patches
from .storage import Storage

NAME = "chatglm3"
MAX_TOKENS_OPTION = "kolors_max_tokens"


class KolorsTokenizer:
    """The host's tokenizer interface: prompts with ``(word:1.2)`` weights to padded lists of (id, weight)."""

    def __init__(self, tokenizer: ChatGLM3Tokenizer, embedding_directory=None, tokenizer_data=None):
        self.tokenizer = tokenizer

    def tokenize_with_weights(
        self, text: str, return_word_ids=False, tokenizer_options=None, disable_weights=False, **kwargs
    ):
        """One list of `prompt_rows` entries under the name ``chatglm3``."""
        limit = (tokenizer_options or {}).get(MAX_TOKENS_OPTION, PROMPT_ROWS)
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
        return {TOKENIZER_KEY: torch.frombuffer(bytearray(self.tokenizer.model), dtype=torch.uint8)}


def parse_weights(text: str) -> list[tuple[str, float]]:
    """Split a prompt by the host's ``(word:1.2)`` syntax into (text, weight); ``\\(`` is a plain parenthesis."""
    segments = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
    return [(comfy.sd1_clip.unescape_important(segment), weight) for segment, weight in segments]


class KolorsTextEncoder(torch.nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """The host's text encoder interface around `ChatGLM3Encoder`, which stands under the key ``transformer``.

    state_dict: of `storage.convert_weights`; its tensors are taken over as they are. storage: what they are stored in;
    it takes precedence over the host's `dtype`, which knows nothing of the file.
    """

    device: torch.device  # set by the host

    def __init__(
        self, config: ChatGLM3Config, state_dict, prefix, storage: Storage, device, dtype=None, model_options=None
    ):
        super().__init__()
        self.dtypes = {storage.norm_dtype if storage.bits else storage.dtype}
        self.storage = storage
        self.prefix = prefix
        self.special_tokens = {}  # read by the host's weighting, for `gen_empty_tokens`
        self.execution_device = None
        self.transformer = storage.build(
            config,
            operations=(model_options or {}).get("custom_operations"),
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
        # The padding of `tokenize_with_weights`, which the host needs to find weights by token, goes here: one padded
        # token stands for all of it.
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
    **reload_options,
):
    """A ``comfy.sd.CLIP`` of the state dict of `storage.convert_weights`.

    reload_options: see `compat.allow_reloading`.
    """
    target = ClipTarget(*build_target(state_dict, tokenizer, config, storage))
    parameters = sum(tensor.nbytes for tensor in state_dict.values()) // storage.norm_dtype.itemsize
    options = {**model_options, "dtype": storage.norm_dtype}
    clip = comfy.sd.CLIP(target, parameters=parameters, model_options=options, **reload_options)
    clip.patcher.add_callback(CallbacksMP.ON_LOAD, keep_patches)
    return clip


def build_target(state_dict, tokenizer, config, storage):
    """Tokenizer and encoder as the host's ClipTarget takes them, which makes both itself."""
    encoder = partial(KolorsTextEncoder, config, state_dict, tokenizer.prefix, storage)
    return partial(KolorsTokenizer, tokenizer), encoder
