"""What the network makes of a prompt is computed once in a run, and the images are the same to the bit."""

import copy
import gc
import weakref

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_control_net, random_ip_adapter
from comfyui_kolors.kolors_core.networks.marks import MARK
from image_prompts import TOWER
from loras import random_pairs
from reference import relative_error
from safetensors.torch import save_file
from sampling_runs import conditioning

pytestmark = pytest.mark.host

STEPS = 4


@pytest.fixture(scope="module")
def run_context():
    from comfyui_kolors.kolors_core.host import run_context

    return run_context


@pytest.fixture
def computed(model, monkeypatch):
    """How often each key or value of a cross attention is computed, by the layer's name."""
    counts = {}
    for name, layer in model.model.diffusion_model.named_modules():
        if name.endswith((".attn2.to_k", ".attn2.to_v", "encoder_hid_proj")):

            def multiply(x, *args, name=name, own=layer._multiply, **kwargs):
                counts[name] = counts.get(name, 0) + 1
                return own(x, *args, **kwargs)

            monkeypatch.setattr(layer, "_multiply", multiply)
    return counts


@pytest.fixture
def nothing_kept(run_context, monkeypatch):
    """A function that runs another one with no room for anything."""

    def run(function, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(run_context, "SHARE", 10**18)
            return function(*args, **options)

    return run


@torch.inference_mode()
def sample(sampling, model, prompts=None, steps=STEPS, shape=(1, 4, 16, 16)):
    positive, negative = prompts or conditioning()
    latent = {"samples": torch.zeros(shape)}
    return sampling.sample(model, 7, steps, 5.0, "euler", positive, negative, latent, 1.0)["samples"]


def other_prompts():
    return [[[state * 0.5, {"pooled_output": options["pooled_output"]}]] for [[state, options]] in conditioning()]


@pytest.mark.parametrize("count", [1, 2])
def test_keys_and_values_are_computed_once_in_a_run(sampling, model, computed, nothing_kept, count):
    shape = (count, 4, 16, 16)
    found = sample(sampling, model, shape=shape)
    assert len(computed) > 20 and set(computed.values()) == {1}
    computed.clear()
    assert torch.equal(nothing_kept(sample, sampling, model, shape=shape), found)
    assert set(computed.values()) == {STEPS}


def areas(nodes):
    one, other = conditioning()
    left = nodes.ConditioningSetArea().append(one, 64, 128, 0, 0, 1.0)[0]
    right = nodes.ConditioningSetArea().append(other_prompts()[0], 64, 128, 64, 0, 0.7)[0]
    return left + right, other


def ranges(nodes):
    one, other = conditioning()
    first = nodes.ConditioningSetTimestepRange().set_range(one, 0.0, 0.5)[0]
    return first + nodes.ConditioningSetTimestepRange().set_range(other_prompts()[0], 0.5, 1.0)[0], other


def control_net(nodes, folder):
    from comfyui_kolors.kolors_core.host.control_net import load_control_net

    save_file(random_control_net(TINY).state_dict(), folder / "control.safetensors")
    net = load_control_net(str(folder / "control.safetensors"))
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(1))
    return nodes.ControlNetApplyAdvanced().apply_controlnet(*conditioning(), net, hint, 1.0, 0.0, 1.0)


def with_adapter(model, folder):
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter

    save_file(random_ip_adapter(TINY, TOWER["hidden_size"]), folder / "plus.safetensors")
    plus = adapter.load_ip_adapter(str(folder / "plus.safetensors"))
    tokens = torch.randn(2, 1, 16, TINY.context, generator=torch.Generator().manual_seed(4))
    return adapter.apply(model, plus, tokens, adapter.Influence(1.0, 0.0, 1.0))


@pytest.mark.parametrize("kind", ["areas", "ranges", "ControlNet", "IP-Adapter"])
def test_whatever_else_there_is_the_image_is_the_same(sampling, model, computed, nothing_kept, tmp_path, kind):
    import nodes

    prompts = {"areas": areas, "ranges": ranges}.get(kind, lambda _: None)(nodes)
    if kind == "ControlNet":
        prompts = control_net(nodes, tmp_path)
    patched = with_adapter(model, tmp_path) if kind == "IP-Adapter" else model
    found = sample(sampling, patched, prompts)
    assert max(computed.values()) <= 2 < STEPS
    assert torch.equal(nothing_kept(sample, sampling, patched, prompts), found)
    assert relative_error(found, sample(sampling, model)) > 1e-5


def test_a_control_net_keeps_its_own_keys_and_values(sampling, model, tmp_path, monkeypatch):
    import nodes

    prompts = control_net(nodes, tmp_path)
    network = prompts[0][0][1]["control"].control_model
    layers = [m for name, m in network.named_modules() if name.endswith((".attn2.to_k", ".attn2.to_v"))]
    calls = []
    for layer in layers:
        own = layer._multiply
        monkeypatch.setattr(layer, "_multiply", lambda x, own=own: calls.append(1) or own(x))
    sample(sampling, model, prompts)
    assert len(calls) == len(layers) > 5


def test_two_prompts_in_turn(sampling, model, nothing_kept):
    prompts = conditioning(), other_prompts()
    one, other = (nothing_kept(sample, sampling, model, prompt) for prompt in prompts)
    for prompt, expected in zip([*prompts, *prompts], [one, other, one, other]):
        assert torch.equal(sample(sampling, model, prompt), expected)
    assert not torch.equal(one, other)


def test_a_lora_that_is_switched_between_runs(sampling, model, unet, nothing_kept, tmp_path):
    from comfyui_kolors.kolors_core.host import lora

    path = tmp_path / "lora.safetensors"
    save_file({f"unet.{name}.lora_{part}.weight": value for name, pair in random_pairs(unet).items()
               for part, value in zip("AB", pair)}, path)  # fmt: skip
    models = [model, lora.apply_lora(model, None, str(path), 1.0, 0.0).model,
              lora.apply_lora(model, None, str(path), 0.5, 0.0).model]  # fmt: skip
    expected = [nothing_kept(sample, sampling, one) for one in models]
    assert relative_error(expected[0], expected[1]) > 1e-3 < relative_error(expected[1], expected[2])
    for index in (0, 1, 2, 1, 0, 2):
        assert torch.equal(sample(sampling, models[index]), expected[index])


def test_what_was_kept_ends_with_the_run(sampling, model, run_context, monkeypatch):
    kept, own = [], run_context.RunContext._join

    def watched(self, states):
        joined = own(self, states)
        kept.append(weakref.ref(joined))
        return joined

    monkeypatch.setattr(run_context.RunContext, "_join", watched)
    gc.disable()
    try:
        sample(sampling, model)
        assert kept and not any(one() is not None for one in kept)
    finally:
        gc.enable()


def texts(run_context, model, *states):
    return [run_context.RunContext(state, model.model, model.load_device) for state in states]


@torch.inference_mode()
def test_the_same_prompts_are_the_same_tensor_in_each_step(run_context, model):
    one, other = texts(run_context, model, *torch.randn(2, 1, 9, TINY.hidden))
    for size in (1, 3):
        first, second = (text.process_cond(batch_size=size, area=None) for text in (one, other))
        assert one.process_cond(batch_size=size, area=None) is first and first.can_concat(second)
        joined = first.concat([second])
        assert first.concat([second]) is joined and second.concat([first]) is not joined
        assert joined.shape == (2 * size, 9, TINY.hidden) and joined.device.type == model.load_device.type
        assert torch.equal(joined.cpu(), torch.cat((one.cond.expand(size, -1, -1), other.cond.expand(size, -1, -1))))
        assert first.concat([]) is first.concat([])


@torch.inference_mode()
def test_two_areas_share_the_negative_prompt(run_context, model):
    """The host puts the same object beside each of them."""
    negative, left, right = texts(run_context, model, *torch.randn(3, 1, 9, TINY.hidden))
    joined = [negative.concat([area]) for area in (left, right)]
    again = [negative.concat([area]) for area in (left, right)]
    assert all(one is other for one, other in zip(again, joined)) and joined[0] is not joined[1]
    left.cond = left.cond + 1  # as another package might
    changed = negative.concat([left])
    assert torch.equal(changed[1:].cpu(), left.cond) and len(negative._joined) == 2  # what cannot come again has gone
    batch = left.process_cond(batch_size=2, area=None)
    left.cond = left.cond + 1
    assert torch.equal(left.process_cond(batch_size=2, area=None).cond, batch.cond + 1)


@torch.inference_mode()
def test_what_another_package_changes_is_made_anew(run_context, model):
    import comfy.conds

    one, other = texts(run_context, model, *torch.randn(2, 1, 9, TINY.hidden))
    joined = one.concat([other])
    before = joined.clone()
    joined[0] = 0  # in place, as a wrapper of a step might
    again = one.concat([other])
    assert again is not joined and torch.equal(again, before)
    mixed = one.concat([comfy.conds.CONDCrossAttn(other.cond)])
    assert torch.equal(mixed, before.cpu()) and not hasattr(mixed, MARK)
    model.model.current_weight_patches_uuid, uuid = "others", model.model.current_weight_patches_uuid
    assert one.concat([other]) is not again
    model.model.current_weight_patches_uuid = uuid


def test_a_copy_in_depth_leaves_the_model_where_it_is(run_context, model):
    (text,) = texts(run_context, model, torch.zeros(1, 9, TINY.hidden))
    assert copy.deepcopy(text).model() is model.model


def test_a_hook_gets_what_it_changes_computed(sampling, model, computed, unet):
    """Hooks change weights from step to step."""
    import comfy.hooks

    group = comfy.hooks.HookGroup()
    weights = {"diffusion_model." + name: (value,) for name, value in model.model.diffusion_model.state_dict().items()
               if name.endswith("attn2.to_k.weight")}  # fmt: skip
    hook = comfy.hooks.WeightHook(strength_model=1.0)
    hook.weights, hook.need_weight_init = weights, False
    group.add(hook)
    hooked = [[[state, options | {"hooks": group}]] for [[state, options]] in conditioning()]
    found = sample(sampling, model, hooked)
    assert set(computed.values()) == {STEPS}
    assert relative_error(found, sample(sampling, model)) > 1e-3
