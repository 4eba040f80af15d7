"""ControlNets in the host: Kolors' own, and SDXL's made to read what a Kolors model reads.

A ControlNet of Kolors is one of SDXL with an ``encoder_hid_proj`` of its own and a wider label input. So one of SDXL
becomes one of Kolors by the text projection and the label embedding of a Kolors UNet.

Sources: ``pipeline_controlnet_xl_kolors.py`` of diffusers' community pipelines; the technical report of Kolors (2024).
"""

from __future__ import annotations

import time
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_detection
import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from torch import Tensor

from ..errors import BadFile, KolorsError, naming
from ..files.control_net_keys import (
    DIFFERENCE_MARK,
    UNION_MARK,
    describe_family,
    extract_control_net,
    is_control_lora,
    is_t2i_adapter,
    sd_name,
    text_width,
)
from ..files.families import SDXL, TEXT_WIDTHS
from ..files.identify import describe, diffusers_unet_layout
from ..files.weights import check_tensors, open_weights
from .expected import expected_tensors
from .messages import blame_file, log_load
from .model_files import where_to_get
from .patched import patched_tensors
from .unet import Kolors, KolorsConfig, TextProjection
from .unet_inputs import LATENT_CHANNELS

#: What a ControlNet of SDXL takes from the Kolors UNet.
TAKEN = ("label_emb.", "encoder_hid_proj.")
HINT_CHANNELS = 3  # of an image


class KolorsControlNet(TextProjection, comfy.cldm.cldm.ControlNet):
    """The host's ControlNet, fed with ChatGLM3 states (batch, tokens, encoder_hid_dim)."""

    def forward(self, x, hint, timesteps, context, y=None, **kwargs):
        expected, found = self.encoder_hid_proj.in_features, context.shape[-1]
        if found != expected:
            raise KolorsError(
                f"This ControlNet needs text embeddings of width {expected}; the conditioning has width {found}. "
                "Use it with a Kolors model and its text encoder; for other models take 'Load ControlNet Model'."
            )
        if hint.shape[1] != HINT_CHANNELS:
            raise KolorsError(
                f"The image of the ControlNet has {hint.shape[1]} channels. Expected {HINT_CHANNELS}. Take an alpha "
                "channel away with 'Split Image with Alpha'."
            )
        return super().forward(x, hint, timesteps, self.encoder_hid_proj(context), y, **kwargs)


class KolorsControlLora(comfy.controlnet.ControlLora):
    """The host's Control-LoRA, which takes the weights of the model it runs beside; of Kolors also the projection."""

    def __init__(self, control_weights, path: str, global_average_pooling=False):
        super().__init__(control_weights, global_average_pooling)
        self.path = path
        self.control_model: Any = None  # the host deletes it after a run, one that failed before it was built too

    def pre_run(self, model, percent_to_timestep_function):
        """Build the network for one run. Raises KolorsError where the file is damaged, or for another UNet."""
        weights, channels = self.control_weights, model.model_config.unet_config.get("in_channels")
        if channels != LATENT_CHANNELS:
            raise KolorsError(
                f"A Control-LoRA changes the weights of the UNet that it runs beside, which has {channels} input "
                f"channels here. Expected {LATENT_CHANNELS}. Take the text-to-image UNet, or a whole ControlNet."
            )
        projection = getattr(model.diffusion_model, "encoder_hid_proj", None)
        if projection is not None:  # its label input is another; SDXL's differences to it do not fit
            self.control_weights = {key: weights[key] for key in weights if not key.startswith("label_emb.0.0.")}
        fault = "is a damaged Control-LoRA, or one of another model than SDXL"
        try:
            with naming(self.path), blame_file(fault):
                super().pre_run(model, percent_to_timestep_function)
                self._check(model)
                self._take_patches(model)
        except Exception:
            self.control_model = None  # half-built, and looked at when the prompt is queued again
            raise
        finally:
            self.control_weights = weights
        if projection is not None:
            self.control_model = ProjectedControl(self.control_model, projection)

    def _check(self, model) -> None:
        """Whether the network is whole, and every low-rank difference has the shape of its weight."""
        config = {key: value for key, value in model.model_config.unet_config.items() if key != "out_channels"}
        config["hint_channels"] = self.control_weights["input_hint_block.0.weight"].shape[1]
        expected = expected_tensors(comfy.cldm.cldm.ControlNet, **config)
        found = self.control_model.state_dict()
        check_tensors(expected, found, "Control-LoRA")
        for name in {key.rpartition(".")[0] for key in found if key.endswith((".up", ".down"))}:
            up, down = found.get(f"{name}.up"), found.get(f"{name}.down")
            if up is not None and down is not None and up.ndim >= 2 and down.ndim >= 2:
                shape = expected[f"{name}.weight"].flatten(1).shape
                if (up.shape[0], down.flatten(1).shape[1]) == shape and up.flatten(1).shape[1] == down.shape[0]:
                    continue
            raise BadFile(
                f"is a damaged Control-LoRA: the two matrices of {name} do not fit each other or "
                "the weight that they change. Download it again."
            )

    def _take_patches(self, model) -> None:
        """Apply the model's LoRAs and merges where they wait to be applied; the host hands over the weights alone."""
        patcher, prefix = model.current_patcher, "diffusion_model."
        applied = patcher.backup.keys() | patcher.hook_backup.keys()
        own = {prefix + key for key in self.control_weights}
        taken = {prefix + key: weight for key, weight in self.control_model.state_dict().items()}
        waiting = taken.keys() & patcher.patches.keys() - applied - own
        for key, weight in patched_tensors(patcher, prefix, patcher.load_device, waiting).items():
            comfy.utils.set_attr_param(self.control_model, key, weight.to(taken[prefix + key]))

    def copy(self):
        """A Control-LoRA with settings of its own; called by the nodes that apply it."""
        copy = KolorsControlLora(self.control_weights, self.path, self.global_average_pooling)
        self.copy_to(copy)
        return copy


class ProjectedControl(torch.nn.Module):
    """A control model behind the text projection of the UNet that it runs beside."""

    def __init__(self, control_model: torch.nn.Module, projection: torch.nn.Module):
        super().__init__()
        self.control_model, self.projection = control_model, projection
        self.dtype = control_model.dtype

    def forward(self, context, **inputs):
        return self.control_model(context=self.projection(context), **inputs)


def load_control_net(path: str, model=None):
    """Load a ControlNet of Kolors as a CONTROL_NET, or one of SDXL, adapted with weights of the MODEL `model`.

    By content: Kolors' own, SDXL's with diffusers' or SD names, unions, Control-LoRAs, and SDXL's T2I-Adapters, which
    read no text.
    Raises KolorsError where the file is something else, of another model family, incomplete, or `model` is missing.
    """
    started = time.perf_counter()
    state_dict = open_weights(path).tensors
    with naming(path):
        if is_control_lora(state_dict):
            _check_family(state_dict, model)
            size = sum(tensor.nbytes for tensor in state_dict.values())
            log_load("Control-LoRA", path, comfy.utils.weight_dtype(state_dict), size, started)
            return KolorsControlLora(state_dict, path)
        if is_t2i_adapter(state_dict):
            return _load_t2i_adapter(state_dict)
        weights, kind = _identify(state_dict, model)
        layout, expected = _check(weights, kind)
        control_net, network = _build({key: weights[key] for key in expected}, layout)
    patcher = control_net.control_model_wrapped
    log_load(kind, path, network.dtype, patcher.model_size(), started)
    return control_net


def _identify(state_dict: dict[str, Tensor], model) -> tuple[dict[str, Tensor], str]:
    """The weights of a ControlNet of Kolors under SD names, and whose it was. Raises BadFile."""
    weights = extract_control_net(state_dict)
    if weights is None:
        raise BadFile(
            f"is {describe(state_dict)}. Expected a ControlNet of Kolors or of SDXL. {where_to_get('controlnet')}"
        )
    if DIFFERENCE_MARK in state_dict:
        raise BadFile(
            "holds a ControlNet as differences from the UNet it was trained on. Expected the whole weights. Get the "
            f"full version of it. {where_to_get('controlnet')}"
        )
    weights = to_sd_names(weights)
    if "encoder_hid_proj.weight" in weights:
        return weights, "Kolors ControlNet"
    return _adapt(weights, model), "SDXL ControlNet"


def to_sd_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename diffusers' keys as SD checkpoints have them, those of a UNet by the host's own table."""
    if "conv_in.weight" not in weights:
        return weights
    names = comfy.utils.unet_to_diffusers(diffusers_unet_layout(weights))
    return {names.get(key) or sd_name(key): tensor for key, tensor in weights.items()}


def _load_t2i_adapter(state_dict: dict[str, Tensor]):
    """The host's own loading; an adapter of SDXL fits the blocks of a Kolors UNet as it is."""
    with blame_file("is an incomplete T2I-Adapter"):
        adapter = comfy.controlnet.load_controlnet_state_dict(state_dict)
    if not getattr(adapter.t2i_model, "xl", False):
        raise BadFile("is a T2I-Adapter of SD1.5. Expected one of SDXL, or a ControlNet of Kolors or of SDXL.")
    return adapter


def _check_family(weights: dict[str, Tensor], model) -> None:
    """Refuse a ControlNet whose cross attention reads text of another width than a Kolors UNet's."""
    width = text_width(weights)
    if model is not None and not isinstance(model.model, Kolors):
        raise KolorsError("The model input of this node expects a Kolors MODEL. Connect that of 'Load Kolors UNet'.")
    if model is None:
        fits = width is None or TEXT_WIDTHS.get(width, SDXL) == SDXL
    else:
        fits = width in (None, model.model.model_config.unet_config["context_dim"])
    if not fits:
        raise BadFile(
            f"is a ControlNet of {describe_family(weights)}. Expected one of Kolors or of SDXL. "
            f"{where_to_get('controlnet')}"
        )


def _adapt(weights: dict[str, Tensor], model) -> dict[str, Tensor]:
    """An SDXL ControlNet with the parts of a Kolors UNet that make it read ChatGLM3's states."""
    _check_family(weights, model)
    label = weights.get("label_emb.0.0.weight")
    if label is None:
        raise BadFile(
            f"is a ControlNet without a label input. Expected one of Kolors or of SDXL. {where_to_get('controlnet')}"
        )
    if model is None:
        raise BadFile(
            "is an SDXL ControlNet. To adapt it to Kolors, connect the MODEL of 'Load Kolors UNet' to "
            "the model input of this node."
        )
    taken = {}
    for prefix in TAKEN:
        found = patched_tensors(model, f"diffusion_model.{prefix}", comfy.model_management.unet_offload_device())
        taken |= {prefix + key: tensor for key, tensor in found.items()}
    rest = {key: tensor for key, tensor in weights.items() if not key.startswith(TAKEN)}
    return rest | {key: tensor.to(label.dtype) for key, tensor in taken.items()}


def _check(weights: dict[str, Tensor], kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of the `KolorsControlNet` that these tensors describe, and its tensors by name, without memory.

    Raises BadFile where some are missing or of another shape, or where the host has not what it is to see.
    """
    layout = _read_layout(weights, kind)
    found = layout["in_channels"], layout["hint_channels"]
    if found != (LATENT_CHANNELS, HINT_CHANNELS):
        raise BadFile(
            f"is a ControlNet that sees a latent of {found[0]} and an image of {found[1]} channels. Expected "
            f"{LATENT_CHANNELS} and {HINT_CHANNELS}. {where_to_get('controlnet')}"
        )
    expected = expected_tensors(KolorsControlNet, **layout)
    check_tensors(expected, weights, kind)
    return layout, expected


def _build(weights: dict[str, Tensor], layout: dict[str, Any]) -> tuple[comfy.controlnet.ControlNet, KolorsControlNet]:
    """The host's CONTROL_NET around a network, and that, in the dtype that the host gives an SDXL model of its own."""
    load_device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=-1,
        supported_dtypes=KolorsConfig.supported_inference_dtypes,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    manual_cast_dtype = comfy.model_management.unet_manual_cast(dtype, load_device)
    network = KolorsControlNet(
        **layout,
        dtype=dtype,
        device=comfy.model_management.unet_offload_device(),
        operations=comfy.ops.pick_operations(dtype, manual_cast_dtype),
    )
    network.load_state_dict(weights)
    control_net = comfy.controlnet.ControlNet(network, load_device=load_device, manual_cast_dtype=manual_cast_dtype)
    return control_net, network


def _read_layout(weights: dict[str, Tensor], kind: str) -> dict[str, Any]:
    try:
        layout = comfy.model_detection.detect_unet_config(weights, "")
        layout |= KolorsConfig.unet_extra_config
        layout["hint_channels"] = weights["input_hint_block.0.weight"].shape[1]
        layout["context_dim"], layout["encoder_hid_dim"] = weights["encoder_hid_proj.weight"].shape
        if "middle_block.1.proj_in.weight" in weights:  # the only attention that the smallest ones have
            layout["use_linear_in_transformer"] = weights["middle_block.1.proj_in.weight"].ndim == 2
    except Exception as error:  # the host's reading of an incomplete network fails in any way
        missing = f", without {error.args[0]}" if isinstance(error, KeyError) else ""
        raise BadFile(
            f"is an incomplete {kind}: its block structure is inconsistent{missing}. Download it again."
        ) from error
    layout.pop("out_channels")
    if UNION_MARK in weights:
        layout["union_controlnet_num_control_type"] = weights["task_embedding"].shape[0]
    return layout
