"""ControlNets in the host: Kolors' own equal to diffusers, SDXL's adapted, and none where nothing may change."""

import gc
import logging
from types import SimpleNamespace

import psutil
import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, Sizes, random_control_net, random_ip_adapter, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from control_nets import Control, random_control_lora, theirs, theirs_by_community_pipeline
from image_prompts import TOWER, host_tower, picture
from reference import COMMUNITY, LATENT_TOLERANCE, NO_COMMUNITY, relative_error
from safetensors.torch import save_file
from sampling_runs import SCALE, SEED, conditioning

pytestmark = pytest.mark.host

UNION = Sizes(channels=(320, 320, 320), depth=(1, 1))  # the host's union layers are 320 wide


@pytest.fixture(scope="module")
def host():
    """The host side of the pack, by module."""
    import loaders
    from comfyui_kolors.kolors_core.host import control_net, sampling, unet
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
    from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt

    unet.register()
    return SimpleNamespace(
        control_net=control_net, image_prompt=image_prompt, ip_adapter=ip_adapter, loaders=loaders, sampling=sampling
    )


@pytest.fixture(scope="module")
def unet():
    return random_unet(TINY)


@pytest.fixture(scope="module")
def networks():
    return [random_control_net(TINY, seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, unet, networks):
    folder = tmp_path_factory.mktemp("models")
    save_file(unet.state_dict(), folder / "unet.safetensors")
    for index, network in enumerate(networks):
        save_file(network.state_dict(), folder / f"canny-{index}.safetensors")
    save_file(random_control_net(TINY, label_width=2816).state_dict(), folder / "sdxl.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(host, folder):
    return host.loaders.load_unet(folder / "unet.safetensors")


@pytest.fixture(scope="module")
def canny(host, folder):
    return host.control_net.load_control_net(folder / "canny-0.safetensors")


@pytest.fixture(scope="module")
def depth(host, folder):
    return host.control_net.load_control_net(folder / "canny-1.safetensors")


def controlled(*controls, **settings):
    """(positive, negative) as the stock Apply ControlNet node gives them, for each control in turn."""
    import nodes

    pair = conditioning()
    for control_net, image in controls:
        values = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0} | settings
        pair = nodes.ControlNetApplyAdvanced().apply_controlnet(*pair, control_net, image, **values)
    return pair


def sample(host, model, pair, cfg=5.0, batch=1, steps=10):
    latent = {"samples": torch.zeros(batch, 4, 16, 16)}
    return host.sampling.sample(model, SEED, steps, cfg, "euler", *pair, latent, 1.0)["samples"] * SCALE


@pytest.fixture(scope="module")
def plain(host, model):
    return sample(host, model, conditioning())


def hint(seed=1):
    """A picture (1, height, width, 3) of the image's size, as nodes hand it on."""
    return picture(128, 128, seed)


def control(network, strength=1.0, start=0.0, end=1.0, seed=1):
    """The same for the reference."""
    return Control(network, hint(seed).movedim(-1, 1), strength, start, end)


# ---- equal to the reference -----------------------------------------------------------------------------------------

SETTINGS = [(1.0, 0.0, 1.0), (0.7, 0.0, 1.0), (1.0, 0.0, 0.9), (0.7, 0.3, 0.9)]


@pytest.mark.beyond_loading
@pytest.mark.parametrize("cfg", [5.0, 1.0])
@pytest.mark.parametrize(("strength", "start", "end"), SETTINGS)
def test_latents_equal_the_reference(host, unet, networks, model, canny, plain, strength, start, end, cfg):
    settings = {"strength": strength, "start_percent": start, "end_percent": end}
    found = sample(host, model, controlled((canny, hint()), **settings), cfg)
    expected = theirs(unet, [control(networks[0], strength, start, end)], cfg)
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(plain, expected) > 10 * LATENT_TOLERANCE


@pytest.mark.skipif(not COMMUNITY, reason=NO_COMMUNITY)
@pytest.mark.parametrize(("strength", "start", "end"), SETTINGS)
def test_latents_equal_the_community_pipeline(host, unet, networks, model, canny, strength, start, end):
    settings = {"strength": strength, "start_percent": start, "end_percent": end}
    found = sample(host, model, controlled((canny, hint()), **settings))
    expected = theirs_by_community_pipeline(unet, control(networks[0], strength, start, end))
    assert relative_error(found, expected) <= LATENT_TOLERANCE


def test_two_at_once_equal_the_reference(host, unet, networks, model, canny, depth):
    found = sample(host, model, controlled((canny, hint()), (depth, hint(2)), strength=0.7))
    expected = theirs(unet, [control(networks[0], 0.7), control(networks[1], 0.7, seed=2)])
    assert relative_error(found, expected) <= LATENT_TOLERANCE


def test_a_batch_equals_the_reference(host, unet, networks, model, canny):
    found = sample(host, model, controlled((canny, hint())), batch=2)
    assert relative_error(found, theirs(unet, [control(networks[0])], batch=2)) <= LATENT_TOLERANCE


def test_beside_an_ip_adapter_equals_the_reference(host, unet, networks, model, canny, tmp_path):
    weights = random_ip_adapter(TINY, TOWER["hidden_size"])
    save_file(weights, tmp_path / "plus.safetensors")
    adapter = host.ip_adapter.load_ip_adapter(tmp_path / "plus.safetensors")
    prompt = host.image_prompt.encode(host_tower(tmp_path), picture())
    both = host.ip_adapter.apply_image_prompt(model, adapter, prompt, host.ip_adapter.Influence(0.6, 0.0, 1.0))
    found = sample(host, both, controlled((canny, hint())))
    expected = theirs(unet, [control(networks[0])], adapter=weights, image=picture(), scale=0.6)
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(sample(host, model, controlled((canny, hint()))), expected) > 10 * LATENT_TOLERANCE


# ---- of SDXL --------------------------------------------------------------------------------------------------------


def test_an_sdxl_one_is_the_reference_with_the_unets_own_projection_and_label(host, unet, model, folder):
    found = sample(
        host, model, controlled((host.control_net.load_control_net(folder / "sdxl.safetensors", model), hint()))
    )
    network = random_control_net(TINY, label_width=2816)
    network.encoder_hid_proj, network.add_embedding = unet.encoder_hid_proj, unet.add_embedding
    assert relative_error(found, theirs(unet, [control(network)])) <= LATENT_TOLERANCE


def sd_names(host, network) -> dict[str, torch.Tensor]:
    """A diffusers ControlNet as SD checkpoints name it, by the way it is loaded."""
    return host.control_net.to_sd_names(network.state_dict())


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_sd_names_load_the_same(host, networks, model, canny, tmp_path, prefix):
    weights = {prefix + key: tensor for key, tensor in sd_names(host, networks[0]).items()}
    save_file(weights, tmp_path / "sd.safetensors")
    found = host.control_net.load_control_net(tmp_path / "sd.safetensors")
    pairs = [controlled((control_net, hint())) for control_net in (canny, found)]
    assert torch.equal(*(sample(host, model, pair) for pair in pairs))


def test_one_without_cross_attention_runs(host, model, plain, tmp_path):
    """The small SDXL ControlNets have no attention in their levels."""
    flat = Sizes(channels=TINY.channels, depth=(0, 0), context=TINY.context)
    save_file(random_control_net(flat, label_width=2816).state_dict(), tmp_path / "small.safetensors")
    small = host.control_net.load_control_net(tmp_path / "small.safetensors", model)
    assert relative_error(sample(host, model, controlled((small, hint()))), plain) > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(host, networks, model, canny, tmp_path, dtype):
    weights = {key: tensor.to(dtype) for key, tensor in networks[0].state_dict().items()}
    save_file(weights, tmp_path / "half.safetensors")
    half = host.control_net.load_control_net(tmp_path / "half.safetensors")
    near, exact = (sample(host, model, controlled((one, hint()))) for one in (half, canny))
    assert 0 < relative_error(near, exact) < 0.02


@pytest.fixture(scope="module")
def union(host, tmp_path_factory):
    """A MODEL wide enough for a union, and a union adapted to it."""
    folder = tmp_path_factory.mktemp("union")
    save_file(random_unet(UNION).state_dict(), folder / "unet.safetensors")
    save_file(random_control_net(UNION, label_width=2816, union_types=6).state_dict(), folder / "union.safetensors")
    model = host.loaders.load_unet(folder / "unet.safetensors")
    return model, host.control_net.load_control_net(folder / "union.safetensors", model)


def test_a_union_follows_its_type(host, union):
    from comfy_extras.nodes_controlnet import SetUnionControlNetType

    model, control_net = union
    latents = [sample(host, model, conditioning(), steps=2)]
    for kind in ("auto", "depth", "canny/lineart/anime_lineart/mlsd"):
        # a V3 node in newer hosts, whose method is named otherwise
        set_type = getattr(SetUnionControlNetType, "execute", None) or SetUnionControlNetType().set_controlnet_type
        (typed,) = tuple(getattr(set_type(control_net, kind), "result", set_type(control_net, kind)))
        latents.append(sample(host, model, controlled((typed, hint())), steps=2))
    for index, latent in enumerate(latents):
        for other in latents[:index]:
            assert relative_error(latent, other) > 1e-4


def test_a_control_lora_is_the_unet_with_its_differences(host, unet, model, tmp_path):
    """The same as a ControlNet whose weights are those of the UNet plus the products."""
    weights = sd_names(host, random_control_net(TINY, label_width=2816))
    lora = random_control_lora(weights)
    save_file(lora, tmp_path / "lora.safetensors")
    whole = dict(weights)
    base = {key: tensor.cpu() for key, tensor in model.model.diffusion_model.state_dict().items()}
    for key in weights:
        name = key.removesuffix(".weight")
        if f"{name}.up" in lora and not key.startswith("label_emb.0.0."):
            whole[key] = base[key] + (lora[f"{name}.up"] @ lora[f"{name}.down"].flatten(1)).view_as(base[key])
    whole |= {key: base[key] for key in base if key.startswith(("label_emb.0.0.weight", "encoder_hid_proj."))}
    whole["label_emb.0.0.bias"] = base["label_emb.0.0.bias"]
    save_file(whole, tmp_path / "whole.safetensors")
    pairs = [
        controlled((host.control_net.load_control_net(tmp_path / f"{name}.safetensors"), hint()))
        for name in ("lora", "whole")
    ]
    found, expected = (sample(host, model, pair) for pair in pairs)
    assert relative_error(found, expected) <= 1e-5


def test_a_control_lora_reads_the_weights_with_the_models_lora(host, model, tmp_path):
    """The same whether it was applied to them or waits, as with little VRAM; the host hands over what lies there."""
    from comfy.model_patcher import LowVramPatch
    from comfy.patcher_extension import CallbacksMP

    key = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
    layer = model.model.get_submodule(key.removesuffix(".weight"))
    delta = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(2)) * layer.weight.std()
    applied = model.clone()
    applied.add_patches({key: ("diff", (delta,))})

    def let_it_wait(patcher, *options):
        """As the host leaves a layer that it does not load."""
        layer.weight = torch.nn.Parameter(patcher.backup.pop(key).weight, requires_grad=False)
        layer.weight_function, layer.comfy_cast_weights = [LowVramPatch(key, patcher.patches)], True

    waiting = applied.clone()
    waiting.add_callback(CallbacksMP.ON_LOAD, let_it_wait)
    lora = random_control_lora(sd_names(host, random_control_net(TINY, label_width=2816)))
    save_file(lora, tmp_path / "lora.safetensors")
    pair = controlled((host.control_net.load_control_net(tmp_path / "lora.safetensors"), hint()))
    plain, expected = (sample(host, patcher, pair, steps=2) for patcher in (model, applied))
    applied.detach()
    try:
        found = sample(host, waiting, pair, steps=2)
    finally:
        waiting.detach()
        layer.weight_function, layer.comfy_cast_weights = [], False
    assert relative_error(found, expected) <= 1e-5
    assert relative_error(plain, expected) > 1e-3


def lack_half(lora):
    del lora["input_blocks.1.0.in_layers.2.down"]


def lose_shape(lora):
    lora["input_blocks.1.0.in_layers.2.up"] = torch.zeros(3, 4)


def lose_a_bias(lora):
    del lora["zero_convs.0.0.bias"]


def gain_a_block(lora):
    lora["input_blocks.99.0.in_layers.2.up"] = torch.zeros(4, 4)


@pytest.mark.parametrize("damage", [lack_half, lose_shape, lose_a_bias, gain_a_block])
def test_a_damaged_control_lora_is_named_when_it_runs(host, model, tmp_path, damage):
    """The host built what it could of it, and failed in the middle of the first step."""
    lora = random_control_lora(sd_names(host, random_control_net(TINY, label_width=2816)))
    damage(lora)
    save_file(lora, tmp_path / "lora.safetensors")
    control_net = host.control_net.load_control_net(tmp_path / "lora.safetensors")
    pair = controlled((control_net, hint()))
    for _ in range(2):  # the host keeps the conditioning for the next prompt
        with pytest.raises(KolorsError, match=r"lora.safetensors in .* (damaged|incomplete) Control-LoRA"):
            sample(host, model, pair)
    assert sample(host, model, conditioning(), steps=2).isfinite().all()


def test_a_control_lora_beside_an_inpainting_unet_is_named(host, tmp_path):
    """Its differences are to the weights of a UNet that sees the latent alone."""
    save_file(random_unet(TINY, 9).state_dict(), tmp_path / "inpainting.safetensors")
    save_file(
        random_control_lora(sd_names(host, random_control_net(TINY, label_width=2816))), tmp_path / "lora.safetensors"
    )
    pair = controlled((host.control_net.load_control_net(tmp_path / "lora.safetensors"), hint()))
    with pytest.raises(KolorsError, match=r"has 9 input channels here\. Expected 4"):
        sample(host, host.loaders.load_unet(tmp_path / "inpainting.safetensors"), pair)


@pytest.mark.parametrize("channels", [1, 4])
def test_an_image_of_other_channels_is_named(host, model, canny, channels):
    image = hint()[..., :1].repeat(1, 1, 1, channels)
    with pytest.raises(KolorsError, match=f"image of the ControlNet has {channels} channels. Expected 3"):
        sample(host, model, controlled((canny, image)))


def test_a_t2i_adapter_of_sdxl_runs(host, tmp_path):
    from diffusers import T2IAdapter

    torch.manual_seed(0)
    for name, factor in (("full_adapter_xl", 16), ("full_adapter", 8)):
        adapter = T2IAdapter(channels=[32, 64, 128, 128], downscale_factor=factor, adapter_type=name)
        save_file(adapter.state_dict(), tmp_path / f"{name}.safetensors")
    save_file(random_unet(Sizes(channels=(32, 64, 128), depth=(1, 1))).state_dict(), tmp_path / "unet.safetensors")
    model = host.loaders.load_unet(tmp_path / "unet.safetensors")
    control_net = host.control_net.load_control_net(tmp_path / "full_adapter_xl.safetensors")
    pairs = conditioning(), controlled((control_net, hint()))
    plain, found = (sample(host, model, pair, steps=2) for pair in pairs)
    assert relative_error(found, plain) > 1e-3
    with pytest.raises(KolorsError, match=r"is a T2I-Adapter of SD1\.5\. Expected one of SDXL"):
        host.control_net.load_control_net(tmp_path / "full_adapter.safetensors")
    broken = {key: tensor for key, tensor in adapter.state_dict().items() if "body.2" not in key}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(KolorsError, match="is an incomplete T2I-Adapter"):
        host.control_net.load_control_net(tmp_path / "broken.safetensors")


# ---- nothing changes ------------------------------------------------------------------------------------------------


def test_without_strength_or_range_it_is_bit_equal_to_none(host, model, canny, plain):
    for settings in ({"strength": 0.0}, {"end_percent": 0.0}, {"start_percent": 0.6, "end_percent": 0.6}):
        assert torch.equal(sample(host, model, controlled((canny, hint()), **settings)), plain)


@pytest.mark.beyond_loading
def test_the_model_is_as_before_fifty_times(short_collections, host, model, canny):
    """With and without the ControlNet in turn; the resident memory stays where it is after the first ten."""
    process, sizes = psutil.Process(), []
    pairs = [controlled((canny, hint())), conditioning()]
    expected = [sample(host, model, pair, steps=1) for pair in pairs]
    for _ in range(50):
        for pair, latent in zip(pairs, expected):
            assert torch.equal(sample(host, model, pair, steps=1), latent)
        gc.collect()
        sizes.append(process.memory_info().rss)
    assert max(sizes[10:]) <= 1.02 * sizes[10]


# ---- messages -------------------------------------------------------------------------------------------------------


def test_an_sdxl_one_asks_for_the_model(host, folder):
    with pytest.raises(KolorsError, match=r"sdxl\.safetensors in .* is an SDXL ControlNet\. .* connect the MODEL"):
        host.control_net.load_control_net(folder / "sdxl.safetensors")


def test_one_of_another_family_is_named(host, model, folder, tmp_path):
    sd15 = random_control_net(Sizes(context=768), label_width=2816).state_dict()
    save_file(sd15, tmp_path / "sd15.safetensors")
    for given in (None, model):
        with pytest.raises(KolorsError, match=r"is a ControlNet of SD1.5 \(text width 768\)"):
            host.control_net.load_control_net(tmp_path / "sd15.safetensors", given)
    save_file(
        {key: sd15[key] for key in sd15 if "attn2" not in key and "add_emb" not in key}, tmp_path / "no.safetensors"
    )
    with pytest.raises(KolorsError, match="without a label input"):
        host.control_net.load_control_net(tmp_path / "no.safetensors", model)


@pytest.mark.parametrize("missing", ["controlnet_mid_block.weight", "down_blocks.1.resnets.0.conv1.weight"])
def test_a_missing_tensor_is_named(host, networks, tmp_path, missing):
    weights = networks[0].state_dict()
    del weights[missing]
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(KolorsError, match=r"broken\.safetensors in .* is an incomplete Kolors ControlNet"):
        host.control_net.load_control_net(tmp_path / "broken.safetensors")


def test_other_models_are_named(host, folder, tmp_path):
    save_file(random_ip_adapter(TINY, 64), tmp_path / "adapter.safetensors")
    for file, name in (
        (tmp_path / "adapter.safetensors", "an IP-Adapter"),
        (folder / "unet.safetensors", "a Kolors UNet"),
    ):
        with pytest.raises(KolorsError, match=f"{file.name} in .* is {name}. Expected a ControlNet"):
            host.control_net.load_control_net(file)


def test_one_of_another_model_is_named_before_it_runs(host, model, folder):
    """A ControlNet by the stock loader reads SDXL's text, which would end as a matrix product that does not fit."""
    import comfy.controlnet

    network = host.control_net.load_control_net(folder / "sdxl.safetensors", model).control_model
    plain = comfy.controlnet.ControlNet(comfy.cldm.cldm.ControlNet(
        image_size=32, in_channels=4, model_channels=32, hint_channels=3, num_res_blocks=[1], channel_mult=[1],
        num_head_channels=16, transformer_depth=[0], transformer_depth_middle=-1, use_spatial_transformer=True,
        context_dim=16,
    ), load_device=torch.device("cpu"))  # fmt: skip
    for control_net in (plain, comfy.controlnet.ControlLora({})):
        with pytest.raises(KolorsError, match="Load it with 'Load Kolors ControlNet'"):
            sample(host, model, controlled((control_net, hint())))
    with pytest.raises(KolorsError, match="needs text embeddings of width 64; the conditioning has width 2048"):
        network(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), torch.zeros(1), torch.zeros(1, 77, 2048))


def test_a_load_is_logged_once(host, folder, model, caplog):
    for name in ("canny-0", "sdxl"):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="ComfyUI-Kolors"):
            host.control_net.load_control_net(folder / f"{name}.safetensors", model)
        (record,) = [record for record in caplog.records if record.name == "ComfyUI-Kolors"]
        kind = "Kolors" if name == "canny-0" else "SDXL"
        assert record.getMessage().startswith(f"[Kolors] {kind} ControlNet {name}.safetensors: float32, ")
