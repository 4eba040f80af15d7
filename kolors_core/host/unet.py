"""The Kolors UNet as the host's SDXL model, recognised beside every other model the host knows.

Kolors is SDXL with four changes: a Linear ``encoder_hid_proj`` before the cross attention (4096 -> 2048), a label input
of 4096 + 1536, 1100 training steps, and a steeper end of the noise schedule. A UNet that was distilled with guidance
has a fifth: it takes the guidance scale beside the time step.

Sources: the Kolors technical report (2024); ``unet/config.json`` and ``scheduler/scheduler_config.json`` of
Kwai-Kolors/Kolors-diffusers; diffusers' ``pipeline_kolors.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep, UNetModel
from comfy.supported_models_base import ClipTarget
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import naming
from ..files.identify import GUIDANCE_KEY, OTHER_UNET_NAMES, find_chatglm3, find_kolors_unet
from ..networks.guidance import guidance_embedding
from ..sampling.schedule import BETA_END, BETA_START, TRAIN_STEPS
from . import cpu
from .messages import warn_once
from .model_sampling import KolorsSampling
from .run_context import RunContext
from .text_encoder import load as text_encoder
from .unet_inputs import check_inputs, check_latent, check_layout

#: "linear" is the host's word for betas that are linear in their square root: diffusers' scaled_linear.
SAMPLING_SETTINGS = {
    "beta_schedule": "linear",
    "linear_start": BETA_START,
    "linear_end": BETA_END,
    "timesteps": TRAIN_STEPS,
}
#: What looks at the tensors that a network has, and at those that it is to take over; set while a loader of ours loads.
CHECK: ContextVar[Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None] | None] = ContextVar(
    "kolors_check", default=None
)
LATENT_CELL = 8  # pixels per latent cell
GUIDANCE = 5.0  # of a conditioning that names none: the reference's default


class TextProjection(nn.Module):
    """Mixin for the host's networks: a Linear ``encoder_hid_proj`` from ChatGLM3's width to that of the attention."""

    encoder_hid_proj: nn.Linear
    label_emb: Any  # the host's label input, of which the first layer is replaced

    def __init__(
        self,
        *args,
        encoder_hid_dim,
        context_dim,
        dtype=torch.float32,
        device=None,
        operations=comfy.ops.disable_weight_init,
        **kwargs,
    ):
        options = {"dtype": dtype, "device": device}
        super().__init__(*args, context_dim=context_dim, operations=cpu.operations(operations), **options, **kwargs)
        exact = cpu.operations(without_fp8_products(operations))
        self.encoder_hid_proj = exact.Linear(encoder_hid_dim, context_dim, **options)
        if without_fp8_products(operations) is not operations:
            label = self.label_emb[0]
            label[0] = exact.Linear(label[0].in_features, label[0].out_features, **options)


def without_fp8_products(operations):
    """The host's `operations`, or those that cast where these multiply in fp8, with their input cut at 448.

    For what reads ChatGLM3's states, which reach beyond: with one value of 2000, the product was 0.78 off.
    """
    is_fp8 = isinstance(operations, type) and issubclass(operations, comfy.ops.fp8_ops)
    return comfy.ops.manual_cast if is_fp8 else operations


class TimeEmbed(nn.Sequential):
    """The host's layers, with what an embedded guidance adds to their input, (b, model channels), in a forward."""

    guidance: Tensor | None = None

    def forward(self, input):
        return super().forward(input if self.guidance is None else input + self.guidance)


class KolorsUNet(TextProjection, UNetModel):
    """The host's UNet, fed with ChatGLM3 states (batch, tokens, encoder_hid_dim) of any number of tokens.

    Other packages bring more prompts straight to the cross attentions, as CONDITIONING holds them. So the keys and
    values of these project what has ChatGLM3's width first, unless that is their own as well.

    time_cond_proj_dim: width of the guidance embedding that it takes, if any.
    """

    time_embed: Any
    time_embedding: Any  # so its part for the guidance is called in a file

    def __init__(
        self,
        *args,
        time_cond_proj_dim=None,
        operations=comfy.ops.disable_weight_init,
        dtype=None,
        device=None,
        **kwargs,
    ):
        options = {"dtype": dtype, "device": device}
        super().__init__(*args, operations=operations, **options, **kwargs)
        if time_cond_proj_dim is not None:
            projection = cpu.operations(operations).Linear
            self.time_embed = TimeEmbed(*self.time_embed)
            self.time_embedding = nn.Module()
            self.time_embedding.cond_proj = projection(time_cond_proj_dim, self.model_channels, bias=False, **options)
        self.time_cond_proj_dim = time_cond_proj_dim
        self.tells_widths = self.encoder_hid_proj.in_features != self.encoder_hid_proj.out_features
        for name, layer in self.named_modules() if self.tells_widths else ():
            if name.endswith((".attn2.to_k", ".attn2.to_v")):
                layer.register_forward_pre_hook(partial(_project_states, self.encoder_hid_proj))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y=None,
        control=None,
        transformer_options=None,
        guidance=None,
        **kwargs,
    ):
        """What `extra_conds` adds: guidance (b, time_cond_proj_dim), embedded, None for none."""
        context, transformer_options = cpu.prepare(context, transformer_options or {})
        if not (self.tells_widths and "attn2_patch" in transformer_options.get("patches", {})):  # patches join prompts
            context = self.encoder_hid_proj(context)
        if guidance is None:
            return super().forward(x, timesteps, context, y, control, transformer_options, **kwargs)
        self.time_embed.guidance = self.time_embedding.cond_proj(guidance)
        try:
            return super().forward(x, timesteps, context, y, control, transformer_options, **kwargs)
        finally:
            self.time_embed.guidance = None

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Take over what fits as it is: the tensors of a mapped file stay mapped, and are read where they are used."""
        if (check := CHECK.get()) is not None:
            check(dict(self.named_parameters()), state_dict)  # it has no buffers
        if assign or comfy.model_management.force_channels_last():  # no copy, as newer hosts ask; a copy in any case
            return super().load_state_dict(state_dict, strict, assign)
        like = next(self.parameters())  # in its dtype and place are all, the layers that have no tensors yet as well
        fitting = {
            key: tensor.to(like) if type(tensor) is Tensor else tensor  # GGUF's classes know
            for key, tensor in state_dict.items()
        }
        return super().load_state_dict(fitting, strict, assign=True)


KolorsUNet.__name__ = "UNetModel"  # by which Comfy-WaveSpeed's first-block cache knows the UNets that it can patch


def _project_states(projection, layer, inputs):
    """Hook before a layer of width context_dim: ChatGLM3 states (b, tokens, encoder_hid_dim) are projected first."""
    context, *_ = inputs
    return projection(context) if context.shape[-1] == projection.in_features else None


class Kolors(comfy.model_base.SDXL):
    """Kolors as a host model: SDXL's size embedding, our UNet and schedule, and checks of what it is given."""

    diffusion_model: KolorsUNet

    def __init__(self, model_config, model_type=comfy.model_base.ModelType.EPS, device=None):
        # SDXL's own constructor knows no other UNet class, so its base is called; what it adds stands below.
        comfy.model_base.BaseModel.__init__(self, model_config, model_type, device=device, unet_model=KolorsUNet)
        self.embedder = Timestep(256)
        self.noise_augmentor = None  # unCLIP conditioning, which Kolors has no weights for
        self.model_sampling = KolorsSampling(model_config)

    def extra_conds(self, **kwargs):
        check_inputs(kwargs, self.diffusion_model.encoder_hid_proj.in_features)
        conds = super().extra_conds(**kwargs)
        if kwargs.get("hooks") is None:  # which change the weights from step to step
            conds["c_crossattn"] = RunContext(kwargs["cross_attn"], self, kwargs["device"])
        return conds | {name: comfy.conds.CONDRegular(tensor) for name, tensor in self.embed_guidance(kwargs).items()}

    @property
    def takes_guidance(self) -> bool:
        """Whether the UNet was distilled with guidance: the scale is an input, and one call a step is enough."""
        return self.diffusion_model.time_cond_proj_dim is not None

    def embed_guidance(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the UNet takes of a conditioning's `guidance`, which FluxGuidance writes; None is for none at all."""
        guidance = inputs.get("guidance", GUIDANCE if self.takes_guidance else None)
        if guidance is None:
            return {}
        if self.takes_guidance:
            return {"guidance": guidance_embedding(guidance, self.diffusion_model.time_cond_proj_dim)}
        warn_once(
            f"[Kolors] The conditioning has a guidance of {guidance:g}, which has no effect: this UNet has no guidance "
            "embedding. Set the sampler's cfg instead."
        )
        return {}

    def concat_cond(self, **kwargs):
        """Mask and masked latent of an inpainting UNet; the mask (m, 1, height, width) is sampled as in the reference.

        The reference takes the nearest pixel for a latent cell, the host the mean of several.
        """
        if (mask := kwargs.get("concat_mask")) is not None:
            cells = kwargs["noise"].shape[-2:]
            kwargs["concat_mask"] = interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), size=cells)
        if self.concat_keys and (latent := kwargs.get("concat_latent_image")) is not None:
            check_latent(latent, "latent in the conditioning")
        return super().concat_cond(**kwargs)

    def encode_adm(self, **kwargs):
        """Label input; a target size that nobody set is that of the latent, as in the reference."""
        if (noise := kwargs.get("noise")) is not None:
            kwargs.setdefault("target_height", noise.shape[2] * LATENT_CELL)
            kwargs.setdefault("target_width", noise.shape[3] * LATENT_CELL)
        return super().encode_adm(**kwargs)


def read_layout(unet: Mapping[str, Tensor], prefix: str = "") -> dict[str, int]:
    """The arguments of `KolorsUNet` that the host does not read from a UNet's tensors, whose names have `prefix`."""
    layout = {"encoder_hid_dim": unet[prefix + "encoder_hid_proj.weight"].shape[1]}
    for name in (GUIDANCE_KEY, *OTHER_UNET_NAMES):
        if (projection := unet.get(prefix + name)) is not None:
            layout["time_cond_proj_dim"] = projection.shape[1]
    return layout


class KolorsConfig(comfy.supported_models.SDXL):
    """How the host recognises, builds and saves a Kolors UNet; `unet_config` is what it read from the tensors."""

    unet_config = {}
    sampling_settings = SAMPLING_SETTINGS
    text_encoder_key_prefix = ["text_encoders."]

    @classmethod
    def matches(cls, unet_config, state_dict=None, unet_key_prefix=""):
        """Whether the host's reading of a file is a Kolors UNet; newer hosts pass its prefix as well."""
        if state_dict is None or unet_config.get("context_dim") is None:
            return False
        return find_kolors_unet(state_dict) is not None

    def get_model(self, state_dict, prefix="", device=None):
        self.unet_config |= read_layout(state_dict, prefix)
        with naming(None) if CHECK.get() is None else nullcontext():  # a loader of ours names the file
            check_layout(self.unet_config)
        model = Kolors(self, device=device)
        if self.inpaint_model():
            model.set_inpaint()
        return model

    def process_unet_state_dict(self, state_dict):
        return super().process_unet_state_dict({OTHER_UNET_NAMES.get(key, key): state_dict[key] for key in state_dict})

    def clip_target(self, state_dict=None):
        """The text encoder inside a checkpoint, or None where there is none."""
        prefix = find_chatglm3(state_dict or {})
        if state_dict is None or prefix is None:
            return None
        return ClipTarget(*text_encoder.build_target(state_dict, prefix))

    def process_clip_state_dict(self, state_dict):
        return text_encoder.from_checkpoint_keys(state_dict)

    def process_clip_state_dict_for_saving(self, state_dict):
        return text_encoder.to_checkpoint_keys(state_dict)


def register() -> None:
    """Let the stock loaders recognise Kolors. Additive: appended last, so every other model is found before it."""
    models = comfy.supported_models.models
    if not any(config.__module__ == __name__ for config in models):
        models.append(KolorsConfig)
