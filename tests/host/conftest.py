"""What several files of this folder sample with: the bridge, diffusers' tiny UNet, and the same UNet as a MODEL."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from comfyui_kolors.demo.random_models import TINY, random_unet
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def sampling():
    from comfyui_kolors.kolors_core.host import sampling, unet

    unet.register()
    return sampling


@pytest.fixture(scope="module")
def unet():
    return random_unet(TINY)


@pytest.fixture(scope="module")
def model(sampling, unet, tmp_path_factory):
    import loaders

    path = tmp_path_factory.mktemp("unet") / "unet.safetensors"
    save_file(unet.state_dict(), path)
    return loaders.load_unet(path)


@pytest.fixture
def short_collections() -> Iterator[None]:
    """A collection of garbage looks only at what a test makes, not at the half million objects of the libraries."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
