"""More prompts that other packages bring straight to the cross attentions, in the three ways that such packages have.

Attention couple: a patch joins keys, and another mixes the outputs by masks. An older one replaces the attention, and
asks its layers for keys of its own. NAG replaces the UNet's forward and joins the prompts there.
"""

from __future__ import annotations

import copy
from types import MethodType

import pytest
import torch
from comfyui_kolors.demo.random_models import MID, TINY, Sizes, random_unet
from reference import relative_error
from safetensors.torch import save_file

pytestmark = pytest.mark.host

EXACT = 1e-5  # relative L2, float32: sums in another order
WAYS = ("patch", "replacement", "forward")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unet")


def load(folder, sizes: Sizes, dtype="default"):
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    path = folder / f"{sizes.hidden}-{sizes.context}.safetensors"
    if not path.exists():
        save_file(random_unet(sizes).state_dict(), path)
    return loaders.load_unet(path, dtype)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, TINY)


def prompt(seed: int, sizes=TINY, tokens=20):
    """A CONDITIONING of 256 tokens, of which the last are not padding; the pooled embedding is that of any other."""
    states = torch.randn(1, tokens + 1, sizes.hidden, generator=torch.Generator().manual_seed(seed))
    context = torch.cat((states[:, :1].expand(-1, 256 - tokens, -1), states[:, 1:]), dim=1)
    return [[context, {"pooled_output": torch.ones(1, sizes.hidden)}]]


POSITIVE, NEGATIVE, EXTRA = prompt(1), prompt(2, tokens=5), prompt(3, tokens=40)


def sample(model, positive=POSITIVE, negative=NEGATIVE):
    from comfyui_kolors.kolors_core.host import sampling

    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return sampling.sample(model, 5, 2, 2.0, "euler", positive, negative, latent, 1.0)["samples"]


def mixed(first, second, share, tokens):
    """Two outputs of an attention (b, tokens, width): the second in the last `share` of the image's rows."""
    begin = round(tokens * (1 - share))
    return torch.cat((first[:, :begin], second[:, begin:]), dim=1)


def with_patch(model, extra, share, project=None):
    """`model` with `extra` joined to the keys of the positive prompt, by hand projected by `project`."""

    def join(query, key, value, options):
        kinds = options["cond_or_uncond"]
        states = extra[0][0].to(key)
        if project:
            key, states = project(key), project(states)
        queries, keys = query.chunk(len(kinds)), key.chunk(len(kinds))
        query = torch.cat([part for kind, part in zip(kinds, queries) for _ in range(1 if kind else 2)])
        key = torch.cat([part for kind, own in zip(kinds, keys) for part in ((own,) if kind else (own, states))])
        return query, key, key

    def mix(out, options):
        parts, mixes = list(out.chunk(sum(1 if kind else 2 for kind in options["cond_or_uncond"]))), []
        for kind in options["cond_or_uncond"]:
            first = parts.pop(0)
            mixes.append(first if kind else mixed(first, parts.pop(0), share, out.shape[1]))
        return torch.cat(mixes)

    patched = model.clone()
    patched.set_model_attn2_patch(join)
    patched.set_model_attn2_output_patch(mix)
    return patched


def with_replacement(model, extra, share):
    """`model` whose cross attentions ask their layers for keys and values of `extra`."""
    from comfy.ldm.modules.attention import optimized_attention

    def replacement(attention):
        def attend(query, key, value, options):
            kinds = options["cond_or_uncond"]
            own = optimized_attention(query, key, value, options["n_heads"])
            states = extra[0][0].to(query).expand(len(query), -1, -1)
            other = optimized_attention(query, attention.to_k(states), attention.to_v(states), options["n_heads"])
            parts = zip(kinds, own.chunk(len(kinds)), other.chunk(len(kinds)))
            return torch.cat([a if kind else mixed(a, b, share, a.shape[1]) for kind, a, b in parts])

        return attend

    patched, unet = model.clone(), model.model.diffusion_model
    blocks = [("input", i, block) for i, block in enumerate(unet.input_blocks)]
    blocks += [("output", i, block) for i, block in enumerate(unet.output_blocks)] + [("middle", 0, unet.middle_block)]
    for place, number, block in blocks:
        for layer in block:
            for index, transformer in enumerate(getattr(layer, "transformer_blocks", ())):
                patched.set_model_attn2_replace(replacement(transformer.attn2), place, number, index)
    return patched


def with_forward(model, extra, share):
    """`model` whose UNet's forward joins `extra` to the prompts, and whose cross attentions know it for that."""
    from comfy.ldm.modules.attention import CrossAttention

    def attend(attention, x, context=None, value=None, mask=None, transformer_options=None):
        out = CrossAttention.forward(attention, x, context[:-1])
        kinds = transformer_options["cond_or_uncond"]
        other = CrossAttention.forward(attention, x, context[-1:].expand(len(x), -1, -1))
        parts = zip(kinds, out.chunk(len(kinds)), other.chunk(len(kinds)))
        return torch.cat([a if kind else mixed(a, b, share, a.shape[1]) for kind, a, b in parts])

    def forward(unet, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
        context = torch.cat((context, extra[0][0].to(context)))
        return unet._forward(x, timesteps, context, y, control, transformer_options, **kwargs)

    patched, unet = model.clone(), model.model.diffusion_model
    patched.add_object_patch("diffusion_model.forward", MethodType(forward, unet))
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            patched.add_object_patch(f"diffusion_model.{name}.forward", MethodType(attend, module))
    return patched


def bring(way, model, extra, share):
    return {"patch": with_patch, "replacement": with_replacement, "forward": with_forward}[way](model, extra, share)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_prompt_once_more_changes_nothing(model, way):
    assert relative_error(sample(bring(way, model, POSITIVE, 0.5)), sample(model)) <= EXACT


@pytest.mark.parametrize("way", WAYS)
def test_an_extra_prompt_for_the_whole_image_is_that_prompt(model, way):
    found = sample(bring(way, model, EXTRA, 1.0))
    assert relative_error(found, sample(model, EXTRA)) <= EXACT
    assert relative_error(found, sample(model)) > 100 * EXACT


def test_a_mix_equals_one_that_is_projected_by_hand(model):
    projection = model.model.diffusion_model.encoder_hid_proj
    expected = sample(with_patch(model, EXTRA, 0.5, project=projection))
    for way in WAYS:
        assert relative_error(sample(bring(way, model, EXTRA, 0.5)), expected) <= EXACT
    assert min(relative_error(expected, sample(model, only)) for only in (POSITIVE, EXTRA)) > 100 * EXACT


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8_e4m3fn"])
def test_in_every_storage(folder, dtype):
    model = load(folder, TINY, dtype)
    for way in WAYS:
        assert relative_error(sample(bring(way, model, EXTRA, 1.0)), sample(model, EXTRA)) < 0.02


def test_where_the_widths_are_equal_prompts_are_projected_once(folder):
    """Then nothing tells one from the other, and patches get what the cross attention reads."""
    model = load(folder, MID)
    seen = []

    def look(query, key, value, options):
        seen.append(key)
        return query, key, value

    patched = model.clone()
    patched.set_model_attn2_patch(look)
    positive, negative = prompt(1, MID), prompt(2, MID)
    assert relative_error(sample(patched, positive, negative), sample(model, positive, negative)) <= EXACT
    expected = model.model.diffusion_model.encoder_hid_proj(positive[0][0])
    assert any(relative_error(part[None], expected) <= EXACT for part in seen[0])


def test_patches_of_the_cross_attention_see_what_conditioning_holds(model):
    seen = []

    def look(query, key, value, options):
        seen.append((key.clone(), key is value))
        return query, key, value

    patched = model.clone()
    patched.set_model_attn2_patch(look)
    assert relative_error(sample(patched), sample(model)) <= EXACT
    for key, is_value in seen:
        assert is_value and any(torch.equal(part, POSITIVE[0][0][0]) for part in key)


def test_keys_of_the_unet_and_its_copies_are_its_own(model):
    unet = model.model.diffusion_model
    keys = set(unet.state_dict())
    assert keys == set(copy.deepcopy(unet).state_dict()) and sum("encoder_hid_proj" in key for key in keys) == 2
    twin = copy.deepcopy(unet)
    with torch.no_grad():
        twin.encoder_hid_proj.weight.zero_()
        twin.encoder_hid_proj.bias.zero_()
        name = next(name for name, _ in unet.named_modules() if name.endswith("attn2.to_k"))
        states = EXTRA[0][0].to(unet.encoder_hid_proj.weight)
        assert not twin.get_submodule(name)(states).any()
        assert unet.get_submodule(name)(states).any()
