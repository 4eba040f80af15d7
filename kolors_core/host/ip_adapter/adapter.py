"""IP-Adapters in the host: read, encode pictures, and add their attention to a clone of the model.

The adapter itself is needed only when it is applied: keys and values of the image tokens are projected then, once, for
every cross attention, and sampling only attends to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...errors import KolorsError, check_numbers
from ...files import check_tensors, locate, read_state_dict
from ...files.identify import describe
from ...networks.ip_adapter import IPAdapter, IPAdapterConfig, extract_ip_adapter
from ...networks.linear import linear
from ...networks.vision import IMAGE_SIZE, pixel_values
from .. import compat, model_files
from ..cpu import CASTING
from ..expected import expected_tensors
from ..messages import count_steps
from ..patched import patched_weights
from ..unet_file import log_load
from .attention import IMAGE, NEGATIVE, ImageAttention, ImagePrompt, Place, SigmaRange, find_places, place_weights

OWN_ATTENTION = "kolors_ip_adapter"  # under which the host keeps our callback
#: States of the reference's negative image by vision tower, which never change.
NEGATIVE_STATES: WeakKeyDictionary = WeakKeyDictionary()
TOWER = "Load CLIP Vision with clip-vit-large-patch14-336 of Kolors-IP-Adapter-Plus/image_encoder"


class HostIPAdapter:
    """What the graph calls KOLORS_IPADAPTER: an adapter whose place the host decides."""

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
    state_dict, _ = read_state_dict(path)
    adapter = extract_ip_adapter(state_dict)
    if not adapter:
        raise KolorsError(
            f"{locate(path)} is {describe(state_dict)}. Expected an IP-Adapter of Kolors. "
            f"Get {model_files.SOURCES['ipadapter']} ({model_files.MIRRORS})."
        )
    try:
        config = IPAdapterConfig.from_state_dict(adapter)
    except KolorsError as error:
        raise KolorsError(
            f"{locate(path)} {error} Get {model_files.SOURCES['ipadapter']} ({model_files.MIRRORS})."
        ) from None
    expected = expected_tensors(IPAdapter, config)
    check_tensors(expected, adapter, "IP-Adapter", path)
    model = IPAdapter(config, device="meta", operations=CASTING)
    model.load_state_dict({key: adapter[key] for key in expected}, assign=True)
    model.requires_grad_(False).eval()
    loaded = HostIPAdapter(model, path)
    kind = "FaceID Plus adapter" if config.is_face else "IP-Adapter Plus"
    log_load(kind, path, next(model.parameters()).dtype, loaded.patcher.model_size(), started)
    return loaded


def vision_states(clip_vision, images: Tensor | None) -> Tensor:
    """Penultimate hidden states (i, s, width), float32, of pictures (i, height, width, 3) under the reference's resize.

    Without pictures: of one that is all zero after the normalisation, the reference's negative image.
    Raises KolorsError where the tower does not see 336 pixels.
    """
    size = getattr(clip_vision, "image_size", None)
    if size != IMAGE_SIZE:
        raise KolorsError(
            f"This CLIP vision model sees {size} pixels along a side. Kolors' IP-Adapters expect {IMAGE_SIZE}. "
            f"Use {TOWER}."
        )
    if images is None:
        if clip_vision not in NEGATIVE_STATES:
            NEGATIVE_STATES[clip_vision] = _run_tower(clip_vision, torch.zeros(1, 3, size, size))
        return NEGATIVE_STATES[clip_vision]
    return _run_tower(clip_vision, pixel_values(images))


def _run_tower(clip_vision, pixels: Tensor) -> Tensor:
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    states = []
    step = count_steps(len(pixels))
    for picture in pixels:
        output = clip_vision.model(pixel_values=picture[None].to(clip_vision.load_device), intermediate_output=-2)
        states.append(output[1].float().cpu())
        step()
    return torch.cat(states)


@torch.no_grad()
def encode_images(adapter: HostIPAdapter, clip_vision, images: Tensor, negative: Tensor | None = None) -> Tensor:
    """Image tokens (2, i, t, width), float32: of the pictures, and of the negative ones, repeated to their number."""
    if adapter.config.is_face:
        raise KolorsError(f"{locate(adapter.path)} is a FaceID adapter. Use 'Apply Kolors FaceID' with it.")
    states = [vision_states(clip_vision, images), vision_states(clip_vision, negative)]
    return encode_states(adapter, states)


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
    if states.shape[-1] != adapter.config.image_width:
        raise KolorsError(
            f"{locate(adapter.path)} reads CLIP states {adapter.config.image_width} wide; this CLIP vision model gives "
            f"{states.shape[-1]}. Use {TOWER}."
        )


@torch.no_grad()
def apply(
    model,
    adapter: HostIPAdapter,
    tokens: Tensor,
    weight: float,
    start_at: float,
    end_at: float,
    weight_type: str = "linear",
    mask: Tensor | None = None,
    one_per_latent: bool = False,
):
    """A clone of `model` whose cross attentions also attend to image tokens (2, i, t, width).

    start_at, end_at: shares of the schedule. mask: (m, height, width) of 0..1, or (height, width).
    one_per_latent: the n-th picture for the n-th latent of a batch; otherwise every latent attends to all pictures.
    Raises KolorsError where the model has other cross attentions than the adapter was made for.
    """
    clone = model.clone()
    if not counts(weight, start_at, end_at, mask):
        return clone
    places = find_places(model.get_model_object("diffusion_model"))
    _check_places(adapter, places)
    module, device = adapter.load()
    if not one_per_latent:
        tokens = tokens.flatten(1, 2)[:, None]  # (2, i, t, width) -> (2, 1, i * t, width)
    projection = text_projection(model, device) if adapter.config.is_face else None
    pairs = iter(module.keys_values(tokens.to(device), projection))
    sampling = model.get_model_object("model_sampling")
    sigmas = SigmaRange(sampling.percent_to_sigma(start_at), sampling.percent_to_sigma(end_at))
    prompt = ImagePrompt(sigmas, mask if mask is None else mask.reshape(-1, *mask.shape[-2:]))
    shares = place_weights(places, weight_type)
    inner = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for place in (*places["input"], *places["output"], *places["middle"]):
        for index in range(len(place.widths)):
            key, value = next(pairs)
            if share := shares.get(place):
                before = inner.get((place.block, place.number, index), inner.get((place.block, place.number)))
                attention = ImageAttention(prompt, key.cpu(), (value * weight * share).cpu(), before)
                clone.set_model_attn2_replace(attention, place.block, place.number, index)
    clone.remove_callbacks_with_key(CallbacksMP.ON_CLONE, OWN_ATTENTION)
    clone.add_callback_with_key(CallbacksMP.ON_CLONE, OWN_ATTENTION, own_attention)
    return clone


def counts(weight: float, start_at: float, end_at: float, mask: Tensor | None) -> bool:
    """Whether an adapter with these settings counts anywhere."""
    check_numbers(weight=weight, start_at=start_at, end_at=end_at)
    return weight != 0 and start_at < end_at and (mask is None or bool(mask.any()))


def own_attention(model, clone) -> None:
    """Give a clone replacements of its own, for IPAdapter_plus adds to those that it finds; called by the host."""
    replaced = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    replaced.update({key: deepcopy(patch) for key, patch in replaced.items() if isinstance(patch, ImageAttention)})


def _check_places(adapter: HostIPAdapter, places: dict[str, list[Place]]) -> None:
    order = [*places["input"], *places["output"], *places["middle"]]
    widths = tuple(width for place in order for width in place.widths)
    found, expected = adapter.config.projections, widths
    if found != expected:
        raise KolorsError(
            f"{locate(adapter.path)} was made for a UNet with {_describe_widths(found)}; this model has "
            f"{_describe_widths(expected)}. Use the IP-Adapter that belongs to this model."
        )
    context = order[0].context_width
    if adapter.config.context_width != context:
        raise KolorsError(
            f"{locate(adapter.path)} gives tokens {adapter.config.context_width} wide; the cross attention of this "
            f"model reads {context}. Use the IP-Adapter that belongs to this model."
        )


def _describe_widths(widths: tuple[int, ...]) -> str:
    return f"{len(widths)} cross attentions ({min(widths)} to {max(widths)} wide)" if widths else "no cross attention"


def text_projection(model, device) -> Callable[[Tensor], Tensor]:
    """The UNet's encoder_hid_proj in float32, with the patches that `model` has, wherever its weights are now.

    Raises KolorsError where the model has none.
    """
    weights = patched_weights(model, "diffusion_model.encoder_hid_proj.", device)
    if "weight" not in weights:
        raise KolorsError(
            "FaceID needs the text projection of a Kolors model, encoder_hid_proj, which this model does not have. "
            "Connect the MODEL of 'Load Kolors UNet'."
        )
    return lambda tokens: linear(tokens, weights["weight"], weights.get("bias"))
