"""What an IP-Adapter file is, by its keys and shapes, and its tensors under our names.

Sources: ``ip_adapter_plus_general`` and ``ipa-faceid-plus`` of Kwai-Kolors; h94/IP-Adapter for those of SD and SDXL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from ..errors import BadFile
from ..keys import strip_prefix
from .families import SD2, SD15, TEXT_WIDTHS, VISION_WIDTHS
from .identify import Shaped

ADAPTER_PREFIXES = ("ip_adapter.", "adapter_modules.")  # of the projections: Plus' and FaceID Plus' files

Value = TypeVar("Value")


def extract_ip_adapter(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors of either published layout under our module names, ``image_proj.*`` and ``ip_adapter.*``."""
    adapter = {key: tensor for key, tensor in state_dict.items() if key.startswith("image_proj.")}
    for prefix in ADAPTER_PREFIXES:
        adapter |= {f"ip_adapter.{key}": tensor for key, tensor in strip_prefix(state_dict, prefix).items()}
    return adapter


def check_family(adapter: Mapping[str, Tensor]) -> None:
    """Raises BadFile where an adapter is not Kolors', by its parts and widths."""
    foreign = describe_foreign(adapter)
    integers = [key for key, tensor in adapter.items() if not tensor.is_floating_point()]
    if integers and not foreign:
        foreign = f"an IP-Adapter with {len(integers)} tensors that are not floats ({integers[0]})"
    if foreign:
        raise BadFile(f"is {foreign}. Expected an IP-Adapter Plus or FaceID Plus of Kolors.")


def describe_foreign(adapter: Mapping[str, Shaped]) -> str | None:
    """What an adapter is that is not one of Kolors, by its parts and widths; None for one that may be."""
    projection = next((key for key in adapter if key.endswith("to_k_ip.weight")), None)
    if projection is None or not any(key.startswith("image_proj.") for key in adapter):
        return "not an IP-Adapter: it has no image_proj or no to_k_ip"
    width = adapter[projection].shape[-1] if adapter[projection].shape else 0
    if (family := TEXT_WIDTHS.get(width)) in (SD15, SD2):
        return f"an IP-Adapter for {family} (text width {width})"
    if any("to_q_lora" in key for key in adapter):
        return "a FaceID adapter for SDXL, with a LoRA in it"
    if "image_proj.proj.weight" in adapter or "image_proj.proj.3.weight" in adapter:
        return "an IP-Adapter for SDXL without a resampler, which is not the Plus kind"
    resampler = next((tensor for key, tensor in adapter.items() if key.endswith("proj_in.weight")), None)
    if resampler is not None and resampler.shape and (encoder := VISION_WIDTHS.get(resampler.shape[-1])):
        return f"an IP-Adapter for SDXL (its images come from CLIP {encoder}, of width {resampler.shape[-1]})"
    return None
