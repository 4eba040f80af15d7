"""A file's UNet as the host's MODEL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import comfy.model_detection
import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ..errors import BadFile, KolorsError, naming
from ..files.identify import OTHER_UNET_NAMES, describe, diffusers_unet_layout, find_kolors_unet
from ..files.weights import check_tensors, open_weights
from ..keys import strip_prefix
from . import compat
from .expected import expected_tensors
from .messages import log_load
from .model_files import where_to_get
from .model_sampling import round_by_solver
from .text_encoder.storage import WEIGHT_DTYPES as STORED_DTYPES
from .unet import CHECK, KolorsUNet, read_layout
from .unet_inputs import check_layout

FAST = "fp8_e4m3fn_fast"
#: What a user may choose to store a UNet in; "default" leaves it to the host and the file.
WEIGHT_DTYPES = {**STORED_DTYPES, FAST: torch.float8_e4m3fn}
HEAD_SIZE = 64  # of SDXL's attention; no shape shows it


def load_unet(path: str, weight_dtype: str = "default", **reload_options):
    """Load a Kolors UNet from a file in diffusers' or in SD layout as a MODEL.

    reload_options: given by the host alone, see `compat.allow_reloading`.
    Raises KolorsError where the file is something else or incomplete.
    """
    started = time.perf_counter()
    weights = open_weights(path)
    with naming(path):
        unet, _ = extract_unet(weights.tensors)
        with checking(unet):
            model = compat.load_diffusion_model_state_dict(
                dict(unet), model_options(weight_dtype), weights.metadata, **reload_options
            )
        if model is None:  # the host knows no network of such tensors
            raise inconsistent()
    give_schedule(model)
    compat.allow_reloading(model, load_unet, path, weight_dtype)
    log_load("UNet", path, model.model.get_dtype(), model.model_size(), started)
    return model


def give_schedule(model) -> None:
    """What a MODEL needs beside its weights to sample as the reference does."""
    model.add_callback(CallbacksMP.ON_LOAD, compat.forget_schedule)
    model.add_wrapper(WrappersMP.SAMPLER_SAMPLE, round_by_solver)


def model_options(weight_dtype: str) -> dict[str, object]:
    """What a user chose to store a UNet in, as the host takes it."""
    if weight_dtype == "default":
        return {}
    dtype = WEIGHT_DTYPES[weight_dtype]
    return {"dtype": dtype, "fp8_optimizations": True} if weight_dtype == FAST else {"dtype": dtype}


def extract_unet(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The Kolors UNet of a file under SD names without a prefix, complete or not, and the prefix that it had.

    Raises BadFile where the file holds something else.
    """
    prefix = find_kolors_unet(state_dict)
    if prefix is None:
        raise BadFile(
            f"is {describe(state_dict)}. Expected a Kolors UNet, which has encoder_hid_proj.weight. "
            f"{where_to_get('diffusion_models')}"
        )
    unet = {OTHER_UNET_NAMES.get(key, key): tensor for key, tensor in strip_prefix(state_dict, prefix).items()}
    if "conv_in.weight" not in unet:
        return unet, prefix
    try:  # diffusers' names: renamed by the host's own table, in which encoder_hid_proj keeps its name
        names = comfy.utils.unet_to_diffusers(diffusers_unet_layout(unet))
    except Exception as error:
        raise inconsistent(error) from error
    return {names.get(key, key): tensor for key, tensor in unet.items()}, prefix


@contextmanager
def checking(unet: Mapping[str, Tensor]) -> Iterator[None]:
    """Check a UNet's tensors while the host loads it, against the network that it builds, before that takes them over.

    A network that has no tensors yet is no list of what is missing, and a host that cannot build one does not say why:
    another network is built then, and tells.
    Raises BadFile with what is missing, of another shape, or left over, or where it has an input of another task.
    """
    if compat.builds_without_tensors():
        check_unet(unet)
        yield
        return
    token = CHECK.set(compare)
    try:
        yield
    except (KolorsError, BadFile, comfy.model_management.InterruptProcessingException):
        raise
    except Exception as error:
        if not compat.is_out_of_memory(error):
            check_unet(unet)
        raise
    finally:
        CHECK.reset(token)


def check_unet(unet: Mapping[str, Tensor]) -> None:
    """The same before there is memory for the network. Raises BadFile."""
    try:
        layout = (
            comfy.model_detection.detect_unet_config(unet, "") | read_layout(unet) | {"num_head_channels": HEAD_SIZE}
        )
        expected = expected_tensors(KolorsUNet, **layout)
    except Exception as error:
        raise inconsistent(error) from error
    check_layout(layout)
    compare(expected, unet)


def compare(expected: Mapping[str, Tensor], unet: Mapping[str, Tensor]) -> None:
    """Whether a UNet has all `expected` tensors in their shapes, and none of a block that is not among them."""
    check_tensors(expected, unet, "Kolors UNet")
    blocks = ("input_blocks.", "middle_block.", "output_blocks.")
    stray = [
        key for key in unet if key.startswith(blocks) and key.endswith((".weight", ".bias")) and key not in expected
    ]
    if stray:
        raise BadFile(
            f"is an incomplete Kolors UNet: {len(stray)} tensors are of a block that lacks others ({stray[0]}). "
            "Download it again."
        )


def inconsistent(error: Exception | None = None) -> BadFile:
    """The error for a UNet whose blocks do not fit together, by the one that the host gave, if any."""
    missing = f", without {error.args[0]}" if isinstance(error, KeyError) else ""
    return BadFile(f"is an incomplete Kolors UNet: its block structure is inconsistent{missing}. Download it again.")
