"""Nodes that only tests need: they interrupt or unload in the middle of a prompt, and make what no stock node makes.

conftest.py copies this file into the custom_nodes of the tests' server.
"""

from __future__ import annotations

import copy
import time
import urllib.request
from collections.abc import Callable

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from server import PromptServer

CATEGORY = "Kolors/tests"


class AnyType(str):
    """A type that every link fits."""

    def __ne__(self, other):
        return False


ANY = AnyType("*")


def post(path: str, body: bytes = b"{}") -> None:
    """A POST to this very server, whose prompt goes on meanwhile."""
    url = f"http://127.0.0.1:{PromptServer.instance.port}{path}"
    message = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(message, timeout=30).read()


def calling(before: Callable[[], None], function: Callable) -> Callable:
    def call(*args, **kwargs):
        before()
        return function(*args, **kwargs)

    return call


class KolorsTestPostDuring:
    """Passes a CLIP, MODEL or VAE on; while that one works for the first time, a POST is sent to the server."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "wrap", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,), "path": ("STRING", {"default": "/interrupt"})}}

    def wrap(self, value, path):
        sent = []

        def send():
            if not sent:
                sent.append(path)
                body = b'{"unload_models": true, "free_memory": true}' if path == "/free" else b"{}"
                post(path, body)

        if hasattr(value, "tokenizer"):
            value = copy.copy(value)
            value.tokenizer = copy.copy(value.tokenizer)
            value.tokenizer.tokenize_with_weights = calling(send, value.tokenizer.tokenize_with_weights)
        elif hasattr(value, "first_stage_model"):
            value = copy.copy(value)
            value.decode = calling(send, value.decode)
        else:
            value = value.clone()
            value.set_model_unet_function_wrapper(
                calling(send, lambda apply, inputs: apply(inputs["input"], inputs["timestep"], **inputs["c"]))
            )
        return (value,)


class KolorsTestUnload:
    """Passes anything on, and takes all models out of memory first, as another pack's node would."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "unload", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,)}}

    def unload(self, value):
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
        return (value,)


class KolorsTestSleep:
    """Passes anything on after a while."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "sleep", (ANY,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY,), "seconds": ("FLOAT", {"default": 1.0})}}

    def sleep(self, value, seconds):
        time.sleep(seconds)
        return (value,)


class KolorsTestConditioning:
    """A conditioning of any width, such as SDXL's 2048 and 1280; a width of 0 leaves that part out."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 2048}), "pooled_width": ("INT", {"default": 1280})}}

    def make(self, width, pooled_width):
        generator = torch.Generator().manual_seed(0)
        extra = {"pooled_output": torch.randn(1, pooled_width, generator=generator)} if pooled_width else {}
        return ([[torch.randn(1, 77, width, generator=generator), extra]],)


class KolorsTestSDXL:
    """The host's own SDXL of random weights: its widths of text and label, small elsewhere."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "make", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        torch.manual_seed(0)
        settings = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "dtype": torch.float32}
        settings |= {"num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 2], "num_head_channels": 32}
        settings |= {"transformer_depth": [0, 0, 1, 1, 1, 1], "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1]}
        settings |= {"transformer_depth_middle": 1, "context_dim": 2048, "use_linear_in_transformer": True}
        settings |= {"use_spatial_transformer": True, "legacy": False, "num_classes": "sequential"}
        settings |= {"adm_in_channels": 2816}
        config = comfy.supported_models.SDXL(settings)
        model = config.get_model({}, "", device=torch.device("cpu"))
        for parameter in model.diffusion_model.parameters():  # the host leaves them as the memory was
            torch.nn.init.normal_(parameter, std=0.05)
        devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        return (comfy.model_patcher.ModelPatcher(model, *devices),)


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (KolorsTestPostDuring, KolorsTestUnload, KolorsTestSleep, KolorsTestConditioning, KolorsTestSDXL)
}
