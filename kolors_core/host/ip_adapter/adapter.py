"""IP-Adapters in the host: read, make tokens of images, and add their attention to a clone of the model.

The adapter itself is needed only when it is applied: keys and values of the image tokens are projected then, once, for
every cross attention, and sampling only attends to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...errors import BadFile, KolorsError, check_numbers, locate, naming
from ...files.identify import describe
from ...files.image_prompt import ImagePrompt
from ...files.ip_adapter_keys import check_family, extract_ip_adapter
from ...files.weights import check_tensors, open_weights
from ...networks.ip_adapter import IPAdapter, IPAdapterConfig
from .. import compat
from ..cpu import CASTING, linear
from ..expected import expected_tensors
from ..messages import log_load
from ..model_files import where_to_get
from ..patched import patched_tensors
from .attention import (
    IMAGE,
    NEGATIVE,
    AttentionSite,
    ImageAttention,
    Scope,
    SigmaRange,
    find_sites,
    in_adapter_order,
    site_weights,
)
from .image_prompt import VISION_ENCODER_HINT

OWN_ATTENTION = "kolors_ip_adapter"  # under which the host keeps our callback
#: Tokens by image prompt and by adapter: another weight encodes nothing again.
TOKENS: WeakKeyDictionary[ImagePrompt, WeakKeyDictionary[HostIPAdapter, Tensor]] = WeakKeyDictionary()


class HostIPAdapter:
    """What the graph calls KOLORS_IPADAPTER: an adapter whose device the host decides."""

    def __init__(self, model: IPAdapter, path: str):
        self.config = model.config
        self.path = path
        self.patcher = compat.core_patcher()(
            model, comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        )

    def load(self) -> tuple[IPAdapter, torch.device]:
        """The module on the device that the host computes on, and that device."""
        comfy.model_management.load_models_gpu([self.patcher])
        return self.patcher.model, self.patcher.load_device


def load_ip_adapter(path: str) -> HostIPAdapter:
    """Load an IP-Adapter Plus or FaceID Plus of Kolors, in either published layout.

    Raises KolorsError where the file is something else, an adapter of another model family, or incomplete.
    """
    started = time.perf_counter()
    weights = open_weights(path)
    with naming(path):
        adapter = extract_ip_adapter(weights.tensors)
        if not adapter:
            raise BadFile(
                f"is {describe(weights.tensors)}. Expected an IP-Adapter of Kolors. {where_to_get('ipadapter')}"
            )
        with naming(path, hint=where_to_get("ipadapter")):
            check_family(adapter)
            config = IPAdapterConfig.from_state_dict(adapter)
        expected = expected_tensors(IPAdapter, config)
        check_tensors(expected, adapter, "IP-Adapter")
    model = IPAdapter(config, device="meta", operations=CASTING)
    model.load_state_dict({key: adapter[key] for key in expected}, assign=True)
    model.requires_grad_(False).eval()
    loaded = HostIPAdapter(model, path)
    kind = "FaceID Plus adapter" if config.is_face else "IP-Adapter Plus"
    log_load(kind, path, next(model.parameters()).dtype, loaded.patcher.model_size(), started)
    return loaded


@torch.no_grad()
def image_tokens(adapter: HostIPAdapter, prompt: ImagePrompt) -> Tensor:
    """Tokens (2, i, t, width), float32, of images and negatives, which are kept as long as adapter and prompt are.

    Raises KolorsError where the adapter is for faces or reads states of another width, or no numbers come out.
    """
    if adapter.config.is_face:
        raise KolorsError(f"{locate(adapter.path)} is a FaceID adapter. Use 'Apply Kolors FaceID' with it.")
    kept = TOKENS.setdefault(prompt, WeakKeyDictionary())
    if adapter not in kept:
        tokens = encode_states(adapter, [prompt.images, prompt.negatives])
        if not tokens.isfinite().all():
            raise KolorsError(
                "The image prompt gives image tokens that are not finite, which would make the image black. Encode "
                f"the image again, or {locate(adapter.path)} is damaged: download it again."
            )
        kept[adapter] = tokens
    return kept[adapter]


def encode_states(adapter: HostIPAdapter, states: list[Tensor], faces: list[Tensor] | None = None) -> Tensor:
    """Tokens (2, i, t, width) of [image, negative] states (i, s, image width), and faces (i, face width)."""
    _check_width(adapter, states[0])
    module, device = adapter.load()
    tokens = [
        module.encode(*(tensor.to(device) for tensor in inputs)).cpu()
        for inputs in (zip(states, faces) if faces else zip(states))
    ]
    tokens[NEGATIVE] = comfy.utils.repeat_to_batch_size(tokens[NEGATIVE], len(tokens[IMAGE]))
    return torch.stack(tokens)


def _check_width(adapter: HostIPAdapter, states: Tensor) -> None:
    found, expected = states.shape[-1], adapter.config.image_width
    if found != expected:
        raise KolorsError(
            f"{locate(adapter.path)} reads CLIP states of width {expected}; those of this image have {found}. Encode "
            f"it anew, also if it came from a file. Use {VISION_ENCODER_HINT}."
        )


@dataclass(frozen=True)
class Influence:
    """How strongly, when and where an adapter has an effect.

    start_at, end_at: shares of the schedule. mask: (m, height, width) of 0..1, or (height, width).
    one_per_latent: the n-th image for the n-th latent of a batch; otherwise every latent attends to all images.
    """

    weight: float
    start_at: float
    end_at: float
    weight_type: str = "linear"
    mask: Tensor | None = None
    one_per_latent: bool = False

    @property
    def has_effect(self) -> bool:
        """Whether there is any. Raises KolorsError where a number is none."""
        check_numbers(weight=self.weight, start_at=self.start_at, end_at=self.end_at)
        return self.weight != 0 and self.start_at < self.end_at and (self.mask is None or bool(self.mask.any()))


def apply_image_prompt(model, adapter: HostIPAdapter, prompt: ImagePrompt, influence: Influence):
    """A clone of `model` that sees the images of `prompt`, or as `influence` has it, each latent one of them.

    Raises KolorsError where adapter, image prompt and model do not belong together.
    """
    return apply(model, adapter, image_tokens(adapter, prompt), influence, prompt.weights)


@torch.no_grad()
def apply(model, adapter: HostIPAdapter, tokens: Tensor, influence: Influence, weights: Tensor | None = None):
    """A clone of `model` whose cross attentions also attend to image tokens (2, i, t, width).

    weights: (i,), of each image beside the weight of all; 1 if not given.
    Raises KolorsError where the model has other cross attentions than the adapter was made for.
    """
    clone = model.clone()
    if not influence.has_effect:
        return clone
    sites = find_sites(model.get_model_object("diffusion_model"))
    _check_sites(adapter, sites)
    module, device = adapter.load()
    weights = torch.ones(tokens.shape[1]) if weights is None else weights
    weights = weights[:, None, None].expand(-1, tokens.shape[2], 1)  # (i, t, 1)
    if not influence.one_per_latent:
        tokens = tokens.flatten(1, 2)[:, None]  # (2, i, t, width) -> (2, 1, i * t, width)
        weights = weights.flatten(0, 1)[None]
    weights = weights.to(device)
    projection = text_projection(model, device) if adapter.config.is_face else None
    pairs = iter(module.keys_values(tokens.to(device), projection))
    scope = _scope(model, influence)
    shares = site_weights(sites, influence.weight_type)
    inner = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for site in in_adapter_order(sites):
        for index in range(len(site.widths)):
            key, value = next(pairs)
            if share := shares.get(site):
                before = inner.get((site.block, site.number, index), inner.get((site.block, site.number)))
                value = value * influence.weight * share * weights
                attention = ImageAttention(scope, key.cpu(), value.cpu(), before)
                clone.set_model_attn2_replace(attention, site.block, site.number, index)
    clone.remove_callbacks_with_key(CallbacksMP.ON_CLONE, OWN_ATTENTION)
    clone.add_callback_with_key(CallbacksMP.ON_CLONE, OWN_ATTENTION, give_clone_its_own_attention)
    return clone


def _scope(model, influence: Influence) -> Scope:
    sampling = model.get_model_object("model_sampling")
    sigmas = SigmaRange(sampling.percent_to_sigma(influence.start_at), sampling.percent_to_sigma(influence.end_at))
    mask = influence.mask
    return Scope(sigmas, mask if mask is None else mask.reshape(-1, *mask.shape[-2:]))


def give_clone_its_own_attention(model, clone) -> None:
    """Give a clone replacements of its own, for IPAdapter_plus adds to those that it finds; called by the host."""
    replaced = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    replaced.update({key: deepcopy(patch) for key, patch in replaced.items() if isinstance(patch, ImageAttention)})


def _check_sites(adapter: HostIPAdapter, sites: dict[str, list[AttentionSite]]) -> None:
    order = in_adapter_order(sites)
    widths = tuple(width for site in order for width in site.widths)
    found, expected = adapter.config.projections, widths
    if found != expected:
        raise KolorsError(
            f"{locate(adapter.path)} was made for a UNet with {_describe_widths(found)}; this model has "
            f"{_describe_widths(expected)}. Use the IP-Adapter that belongs to this model."
        )
    context = order[0].context_width
    if adapter.config.context_width != context:
        raise KolorsError(
            f"{locate(adapter.path)} gives tokens of width {adapter.config.context_width}; the cross attention of this "
            f"model reads width {context}. Use the IP-Adapter that belongs to this model."
        )


def _describe_widths(widths: tuple[int, ...]) -> str:
    return f"{len(widths)} cross attentions (widths {min(widths)} to {max(widths)})" if widths else "no cross attention"


def text_projection(model, device) -> Callable[[Tensor], Tensor]:
    """The UNet's encoder_hid_proj in float32, with the patches that `model` has, wherever its weights are now.

    Raises KolorsError where the model has none.
    """
    weights = patched_tensors(model, "diffusion_model.encoder_hid_proj.", device)
    if "weight" not in weights:
        raise KolorsError(
            "FaceID needs the text projection of a Kolors model, encoder_hid_proj, which this model does not have. "
            "Connect the MODEL of 'Load Kolors UNet'."
        )
    return lambda tokens: linear(tokens, weights["weight"], weights.get("bias"))
