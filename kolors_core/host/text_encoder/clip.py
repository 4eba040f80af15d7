"""The ChatGLM3 encoder as the host's CLIP: loaded, offloaded, patched and saved by the host's own machinery."""

from __future__ import annotations

import math
from functools import partial
from itertools import dropwhile
from numbers import Integral

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
from ...networks.tokenizer import PAD_ID, TOKENIZER_KEY, ChatGLM3Tokenizer, pad_left
from ..messages import count_steps, warn_once
from .packed import keep_patches
from .storage import Storage
from .tokenizer import INSTEAD, NAME, SectionTokenizer

FLOAT16_MAX = torch.finfo(torch.float16).max


class NamedTokens(dict):
    """Token lists by the names of encoders; who asks for an encoder that Kolors does not have is told what to use."""

    def __missing__(self, name):
        raise KolorsError(f'This node asks for tokens of a text encoder "{name}", but Kolors has "{NAME}". {INSTEAD}')


class KolorsTokenizer:
    """The host's tokenizer interface: prompts with ``(word:1.2)`` weights to padded lists of (id, weight)."""

    clip_name = clip = NAME  # where the host and others look for the inner tokenizer, and for its tokens

    def __init__(self, tokenizer: ChatGLM3Tokenizer, embedding_directory=None, tokenizer_data=None):
        self.tokenizer = tokenizer

    @property
    def chatglm3(self) -> SectionTokenizer:
        # Not kept: packages that search this object's own attributes would put CLIP's way to tokenize in its place.
        return SectionTokenizer(self.tokenizer)

    def tokenize_with_weights(self, text: str, return_word_ids=False, **kwargs):
        """One section of `prompt_rows` entries under the name ``chatglm3``. Raises KolorsError as the inner one."""
        return NamedTokens({NAME: self.chatglm3.tokenize_with_weights(text, return_word_ids, **kwargs)})

    def untokenize(self, token_weight_pair):
        return self.chatglm3.untokenize(token_weight_pair)

    def decode(self, token_ids, skip_special_tokens=True):
        return self.tokenizer.decode(token_ids)

    def state_dict(self) -> dict[str, Tensor]:
        """The tokenizer model itself, so that a saved encoder needs no second file."""
        return {TOKENIZER_KEY: torch.frombuffer(bytearray(self.tokenizer.model), dtype=torch.uint8)}


class SectionEncoder:
    """The encoder as it is found under the name of its tokens: it takes their sections without the name.

    All else is the encoder's own. What is set here is set there: for other packages the host's patcher replaces
    ``encode_token_weights``, as it does in the parts of the host's encoders.
    """

    def __init__(self, encoder: KolorsTextEncoder):
        object.__setattr__(self, "encoder", encoder)

    def __getattr__(self, name):
        return getattr(self.encoder, self._name_there(name))

    def __setattr__(self, name, value):
        setattr(self.encoder, self._name_there(name), value)

    @staticmethod
    def _name_there(name: str) -> str:
        return "encode_sections" if name == "encode_token_weights" else name


class KolorsTextEncoder(torch.nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """The host's text encoder interface around `ChatGLM3Encoder`, which stands under the key ``transformer``.

    state_dict: of `storage.convert_weights`; its tensors are taken over as they are. storage: what they are stored in;
    it takes precedence over the host's `dtype`, which knows nothing of the file.
    """

    clip_name = clip = NAME  # where the host and others look for the part that takes sections
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

    @property
    def chatglm3(self) -> SectionEncoder:
        return SectionEncoder(self)

    def encode_token_weights(self, token_weight_pairs):
        """The token lists of `KolorsTokenizer` -> context (1, rows, hidden) and pooled (1, hidden), float32.

        Raises KolorsError where they are those of another encoder, and as `encode_sections` does.
        """
        if not isinstance(token_weight_pairs, dict) or NAME not in token_weight_pairs:
            found = ", ".join(token_weight_pairs) if isinstance(token_weight_pairs, dict) else "a list without a name"
            raise KolorsError(
                f"The Kolors text encoder got the tokens of another one ({found}). Expected {NAME}. {INSTEAD}"
            )
        return self.chatglm3.encode_token_weights(token_weight_pairs[NAME])

    def encode_sections(self, sections):
        """Sections of entries (id, weight, ...), equally long -> context, in which they follow each other, and pooled.

        Raises KolorsError where an entry is no token, a weight is not finite, or makes the context so.
        """
        for token, weight, *_ in (entry for section in sections for entry in section):
            if not isinstance(token, Integral):
                raise KolorsError(
                    "A prompt for ChatGLM3 holds an embedding, as of a textual inversion or an image, which it cannot "
                    f"read. Remove embedding: from the prompt. {INSTEAD}"
                )
            if not math.isfinite(weight):
                raise KolorsError(f"A token of the prompt has the weight {weight}. Expected a number such as 1.2.")
        context, pooled = super().encode_token_weights(sections)
        largest = max((weight for section in sections for _, weight, *_ in section), key=abs, default=1.0)
        if abs(largest) > 1.0:
            _check_range(context.abs().max().item(), largest)
        return context, pooled

    def encode(self, tokens):
        """Padded token lists of equal length -> context (p, rows, hidden) and pooled (p, hidden), float32.

        Raises KolorsError where a value is not finite.
        """
        rows = len(tokens[0])
        # The padding of `tokenize_with_weights`, which the host needs to find weights by token, goes here: one padded
        # token stands for all of it.
        prompts = [list(dropwhile(PAD_ID.__eq__, map(int, prompt))) or [PAD_ID] for prompt in tokens]
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


def _check_range(peak: float, weight: float) -> None:
    """Tell what a `weight` does that brings the largest value of the context to `peak`.

    Raises KolorsError where that is not finite.
    """
    advice = f"The weight {weight:g} in a prompt is too large"
    if not math.isfinite(peak):
        raise KolorsError(
            f"{advice}: the text embeddings are not finite, which would make the image black. Use 2 or less."
        )
    if peak > FLOAT16_MAX:
        warn_once(
            f"[Kolors] {advice}: the text embeddings reach {peak:g}, more than fp16 can hold. The image will be "
            "black where the UNet computes in fp16. Use 2 or less."
        )


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
