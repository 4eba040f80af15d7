"""What a Kolors UNet cannot take: other channels on loading, other models' inputs on sampling, each in a sentence."""

import types

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_control_net, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from safetensors.torch import save_file
from sampling_runs import conditioning

pytestmark = pytest.mark.host

WIDTH = TINY.hidden
VISION = types.SimpleNamespace(image_embeds=torch.zeros(1, 1024))


@pytest.fixture(scope="module")
def sampling():
    from comfyui_kolors.kolors_core.host import sampling, unet

    unet.register()
    return sampling


@pytest.fixture(scope="module")
def model(sampling, tmp_path_factory):
    return load(tmp_path_factory.mktemp("unet"), 4)


@pytest.fixture(scope="module")
def inpainting(sampling, tmp_path_factory):
    return load(tmp_path_factory.mktemp("unet"), 9)


def load(folder, channels: int):
    import loaders

    save_file(random_unet(TINY, channels).state_dict(), folder / "unet.safetensors")
    return loaders.load_unet(folder / "unet.safetensors")


@pytest.fixture(params=["Kolors KSampler", "KSampler"])
def draw(request, sampling, model):
    """Two steps of our sampler and of the host's own, with other inputs."""
    import comfy.sample

    def ours(samples, positive, model):
        negative = conditioning()[1]
        return sampling.sample(model, 1, 2, 5.0, "euler", positive, negative, {"samples": samples}, 1.0)["samples"]

    def theirs(samples, positive, model):
        samples = comfy.sample.fix_empty_latent_channels(model, samples)
        noise, negative = comfy.sample.prepare_noise(samples, 1), conditioning()[1]
        return comfy.sample.sample(model, noise, 2, 5.0, "euler", "normal", positive, negative, samples, seed=1)

    chosen = ours if request.param == "Kolors KSampler" else theirs

    def draw(samples=None, model=model, context=None, **extra):
        ((kept, options),) = conditioning()[0]
        samples = torch.zeros(1, 4, 8, 8) if samples is None else samples
        return chosen(samples, [[kept if context is None else context, options | extra]], model)

    return draw


# ---- channels -------------------------------------------------------------------------------------------------------


def written(folder, reader: str, channels: int, out_channels: int = 4) -> str:
    """A UNet of other channels as the file that `reader` reads."""
    from comfyui_kolors.kolors_core.host.unet_file import extract_unet

    tensors, path = random_unet(TINY, channels).state_dict(), str(folder / "unet.safetensors")
    if reader != "diffusers":
        tensors = extract_unet(tensors)[0]
        for name in ("out.2.weight", "out.2.bias"):
            tensors[name] = tensors[name][:1].repeat(out_channels, *[1] * (tensors[name].ndim - 1))
    if "heckpoint" in reader:
        tensors = {f"model.diffusion_model.{key}": tensor for key, tensor in tensors.items()}
    save_file(tensors, path)
    return path


def read(reader: str, path: str):
    import comfy.sd
    import loaders

    if reader == "UNETLoader":
        return comfy.sd.load_diffusion_model(path)
    if reader == "CheckpointLoaderSimple":
        return comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)
    return loaders.load_checkpoint(path) if reader == "checkpoint" else loaders.load_unet(path)


READERS = ("diffusers", "SD", "checkpoint", "UNETLoader", "CheckpointLoaderSimple")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("channels", [1, 5, 8, 13])
def test_a_unet_with_an_input_of_another_task_is_refused_on_loading(sampling, tmp_path, reader, channels):
    path = written(tmp_path, reader, channels)
    with pytest.raises(
        KolorsError, match=rf"a Kolors UNet of {channels} input and 4 output .* Expected 4 of each, or 9"
    ):
        read(reader, path)


@pytest.mark.parametrize("reader", READERS[1:])
@pytest.mark.parametrize("channels", [1, 8])
def test_a_unet_with_another_output_is_refused_on_loading(sampling, tmp_path, reader, channels):
    path = written(tmp_path, reader, 4, channels)
    with pytest.raises(KolorsError, match=rf"a Kolors UNet of 4 input and {channels} output channels"):
        read(reader, path)


@pytest.mark.parametrize("key", ["conv_in.weight", "controlnet_cond_embedding.conv_in.weight"])
@pytest.mark.parametrize("label_width", [None, 2816])
def test_a_control_net_that_sees_something_else_is_refused(model, tmp_path, key, label_width):
    from comfyui_kolors.kolors_core.host.control_net import load_control_net

    tensors = random_control_net(TINY, label_width=label_width).state_dict()
    tensors[key] = tensors[key].repeat(1, 3, 1, 1)[:, :9].contiguous()
    save_file(tensors, tmp_path / "control.safetensors")
    with pytest.raises(KolorsError, match=r"control.safetensors in .* of 9 .*Expected 4 and 3"):
        load_control_net(str(tmp_path / "control.safetensors"), model)


# ---- latents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples",
    [
        torch.ones(1, 16, 8, 8), torch.ones(1, 1, 8, 8), torch.zeros(1, 16, 3, 8, 8), torch.ones(1, 4, 1, 8, 8),
        torch.zeros(1, 64, 100), torch.ones(4, 8, 8), torch.zeros(1, 4, 8, 0),
    ],
    ids=lambda samples: str(tuple(samples.shape)),
)  # fmt: skip
def test_a_latent_of_another_model_is_named(draw, samples):
    with pytest.raises(KolorsError, match=r"needs latents of the shape \(images, 4, .*the LATENT has \("):
        draw(samples)


def test_an_empty_latent_of_another_model_is_taken(draw):
    assert draw(torch.zeros(1, 16, 8, 8)).shape == (1, 4, 8, 8)


def test_a_video_with_sound_is_named(draw):
    nested = pytest.importorskip("comfy.nested_tensor", reason="a host without nested latents")
    with pytest.raises(KolorsError, match=r"the LATENT has|a video with its sound"):
        draw(nested.NestedTensor((torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 100))))


def test_an_empty_latent_of_other_cells_gets_the_size_of_the_hosts_sampler(sampling, model):
    import inspect

    import comfy.sample

    latent = {"samples": torch.zeros(1, 128, 4, 4), "downscale_ratio_spacial": 16}
    found = sampling.sample(model, 1, 1, 1.0, "euler", *conditioning(), latent, 1.0)
    told = "downscale_ratio_spacial" in inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
    assert found["samples"].shape == ((1, 4, 8, 8) if told else (1, 4, 4, 4))  # told since 0.16
    assert set(found) == {"samples"}


def test_a_masked_latent_of_another_model_is_named(draw, model, inpainting):
    concat = {"concat_latent_image": torch.zeros(1, 16, 8, 8), "concat_mask": torch.ones(1, 1, 64, 64)}
    with pytest.raises(KolorsError, match=r"the latent in the conditioning has \(1, 16, 8, 8\)"):
        draw(model=inpainting, **concat)
    assert draw(model=model, **concat).isfinite().all()  # which does not look at it


# ---- conditioning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 0, WIDTH), (77, WIDTH), (1, 1, 77, WIDTH)], ids=str)
def test_text_embeddings_of_another_shape_are_named(draw, shape):
    with pytest.raises(KolorsError, match=r"needs text embeddings of width 64; the conditioning has the shape \("):
        draw(context=torch.zeros(shape))


@pytest.mark.parametrize("shape", [(WIDTH,), (1, 1, WIDTH), (0, WIDTH)], ids=str)
def test_a_pooled_embedding_of_another_shape_is_named(draw, shape):
    with pytest.raises(KolorsError, match=r"needs a pooled embedding of width 64; the conditioning has the shape \("):
        draw(pooled_output=torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_text_embeddings_that_are_not_finite_are_named(draw, value):
    context, pooled = torch.zeros(1, 77, WIDTH), torch.zeros(1, WIDTH)
    context[0, 3, 3] = pooled[0, 3] = value
    with pytest.raises(KolorsError, match="text embeddings with values that are not finite"):
        draw(context=context)
    with pytest.raises(KolorsError, match="a pooled embedding with values that are not finite"):
        draw(pooled_output=pooled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
def test_text_embeddings_of_fewer_bits_and_in_batches_are_taken(draw, dtype, batch):
    ((context, options),) = conditioning()[0]
    context, pooled = context.repeat(batch, 1, 1), options["pooled_output"].repeat(batch, 1)
    assert draw(context=context.to(dtype), pooled_output=pooled.to(dtype)).isfinite().all()


@pytest.mark.parametrize("node", ["unCLIPConditioning", "GLIGENTextBoxApply"])
def test_conditioning_that_needs_weights_of_its_own_is_named(draw, model, node):
    if node == "unCLIPConditioning":
        image = {"clip_vision_output": VISION, "strength": 1.0, "noise_augmentation": 0.0}
        extra = {"unclip_conditioning": [image]}
    else:
        extra = {"gligen": ("position", model, [])}  # any MODEL will do: nothing of it is called
    with pytest.raises(KolorsError, match=f"comes from {node}, for which Kolors has no weights"):
        draw(**extra)


def test_a_control_net_of_another_architecture_is_named(draw):
    import comfy.cldm.mmdit
    import comfy.controlnet
    import comfy.model_management

    network = comfy.cldm.mmdit.ControlNet.__new__(comfy.cldm.mmdit.ControlNet)
    torch.nn.Module.__init__(network)
    control = comfy.controlnet.ControlNet(network, load_device=comfy.model_management.get_torch_device())
    with pytest.raises(KolorsError, match="A ControlNet of another model is applied to Kolors"):
        draw(control=control)
