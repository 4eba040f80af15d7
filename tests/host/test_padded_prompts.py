"""Equal tokens of a prompt's padding are computed once, and nobody can tell."""

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_control_net, random_unet
from comfyui_kolors.kolors_core.networks.marks import equal_tokens
from reference import relative_error
from safetensors.torch import save_file

pytestmark = pytest.mark.host

EXACT = 1e-6  # relative L2, float32


@pytest.fixture(scope="module")
def cpu():
    from comfyui_kolors.kolors_core.host import cpu

    return cpu


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import loaders
    from comfyui_kolors.kolors_core.host import unet

    unet.register()
    path = tmp_path_factory.mktemp("unet") / "unet.safetensors"
    save_file(random_unet(TINY).state_dict(), path)
    return loaders.load_unet(path)


@pytest.fixture(autouse=True)
def on_this_device(cpu, model, monkeypatch):
    """It is exact everywhere, though it is only done where it is quicker."""
    monkeypatch.setattr(cpu, "is_cpu", lambda device: device.type == model.load_device.type)


def prompt(tokens, rows=256, seed=0):
    """Context as of an encoded prompt: (1, rows, hidden), its last `tokens` rows differ."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(1, tokens + 1, TINY.hidden, generator=generator)
    return torch.cat((states[:, :1].expand(-1, rows - tokens, -1), states[:, 1:]), dim=1)


def conditioning(tokens, seed=0, **options):
    return [[prompt(tokens, seed=seed), {"pooled_output": torch.full((1, TINY.hidden), float(seed)), **options}]]


def sample(model, positive, negative, **latent):
    from comfyui_kolors.kolors_core.host import sampling

    latent = {"samples": torch.zeros(1, 4, 16, 16), **latent}
    return sampling.sample(model, 5, 2, 2.0, "euler", positive, negative, latent, 1.0)["samples"]


@pytest.fixture
def computed(monkeypatch, cpu):
    """How many rows of keys reached torch's attention, call by call."""
    rows, attend, pytorch = [], cpu.attend, cpu.PYTORCH

    def record(query, key, *args, **options):
        rows.append(key.shape[1])
        return pytorch(query, key, *args, **options)

    def watched(function, *args, **options):  # torch's is the host's own choice on most accelerators
        return attend(record if function is pytorch else function, *args, **options)

    monkeypatch.setattr(cpu, "PYTORCH", record)
    monkeypatch.setattr(cpu, "attend", watched)
    return rows


@pytest.fixture
def in_full(monkeypatch, cpu):
    """A function that runs another one with every token computed."""

    def run(function, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "count_padding", lambda device, context: 1)
            return function(*args, **options)

    return run


@pytest.mark.parametrize(("positive", "negative"), [(20, 0), (3, 77), (254, 5), (0, 0), (256, 256), (7, 256)])
def test_prompts_of_any_length_give_the_same_picture(model, in_full, computed, positive, negative):
    arguments = (model, conditioning(positive, 1), conditioning(negative, 2))
    found = sample(*arguments)
    text = {rows for rows in computed if rows not in (64, 16)}  # cells of the self attentions
    longest = max(positive, negative)
    assert text == ({longest + 1} - {64, 16} if longest < 255 else {256})
    assert relative_error(found, in_full(sample, *arguments)) <= EXACT


def combined(kind):
    """Positive conditioning as a stock node makes it."""
    import nodes

    one, other = conditioning(20, 1), conditioning(9, 2)
    if kind == "concat":
        return nodes.ConditioningConcat().concat(one, other)[0]
    if kind == "average":
        return nodes.ConditioningAverage().addWeighted(one, other, 0.3)[0]
    if kind == "combine":
        return nodes.ConditioningCombine().combine(one, other)[0]
    if kind == "area":
        return nodes.ConditioningSetArea().append(one, 64, 64, 32, 0, 0.7)[0] + other
    if kind == "mask":
        mask = torch.zeros(1, 16, 16)
        mask[:, :, 8:] = 1
        return nodes.ConditioningSetMask().append(one, mask, "default", 1.0)[0] + other
    if kind == "zero":
        return nodes.ConditioningZeroOut().zero_out(one)[0]
    return nodes.ConditioningSetTimestepRange().set_range(one, 0.0, 0.5)[0] + other


@pytest.mark.parametrize("kind", ["concat", "average", "combine", "area", "mask", "zero", "range"])
def test_stock_conditioning_nodes_give_the_same_picture(model, in_full, kind):
    arguments = (model, combined(kind), conditioning(5, 3))
    found = sample(*arguments)
    assert relative_error(found, in_full(sample, *arguments)) <= EXACT


def test_a_batch_of_prompts_keeps_the_rows_of_the_longest(model, in_full, computed):
    unet = model.model.diffusion_model
    context = torch.cat((prompt(20, seed=1), prompt(40, seed=2)))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    y = torch.randn(2, TINY.hidden + 1536, generator=generator)
    x, y, times, context = (part.to(model.load_device) for part in (x, y, torch.tensor([500.0, 500.0]), context))
    unet.to(model.load_device)
    with torch.no_grad():
        full = in_full(unet, x, times, context, y, transformer_options={})
        assert 256 in computed
        computed.clear()
        found = unet(x, times, context, y, transformer_options={})
    assert set(computed) == {64, 16, 41}
    assert relative_error(found, full) <= EXACT


def test_other_packs_see_every_row(model, in_full, computed):
    """Patches and replacements of the cross attention get tensors of 256 rows, and what they change is computed."""
    seen = set()

    from comfy.ldm.modules.attention import optimized_attention

    def replace(query, key, value, options):
        seen.add(("replacement", key.shape[1], value.shape[1]))
        return optimized_attention(query, key, value, options["n_heads"])

    def patch(n, context, value, options):
        seen.add(("patch", context.shape[1], value.shape[1]))
        more = torch.ones_like(context[:, :4])
        return n, torch.cat((more, context), dim=1), torch.cat((more, value), dim=1)

    arguments = (conditioning(20, 1), conditioning(5, 2))
    for patched in (model.clone(), model.clone()):
        if ("replacement", 256, 256) not in seen:
            patched.set_model_attn2_replace(replace, "middle", 0)
        else:
            patched.set_model_attn2_patch(patch)
        found = sample(patched, *arguments)
        assert relative_error(found, in_full(sample, patched, *arguments)) <= EXACT
    assert seen == {("replacement", 256, 256), ("patch", 256, 256)}
    assert 260 in computed


def test_another_attention_of_the_users_choice_stays(model, in_full):
    calls = set()

    def override(function, query, key, value, *args, **options):
        calls.add(key.shape[1])
        return function(query, key, value, *args, **options)

    chosen = model.clone()
    chosen.model_options["transformer_options"]["optimized_attention_override"] = override
    found = sample(chosen, conditioning(20, 1), conditioning(5, 2))
    assert calls == {256, 64, 16}
    assert relative_error(found, sample(model, conditioning(20, 1), conditioning(5, 2))) <= 1e-5  # another attention


@pytest.mark.parametrize("asked", [True, False])
def test_quad_attention_stays_where_it_was_asked_for(model, cpu, computed, device, monkeypatch, asked):
    monkeypatch.setattr(cpu.args, "use_quad_cross_attention", asked)
    x = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0)).to(model.load_device)
    cpu.attend(cpu.SUB_QUADRATIC, x, x, x, 4)
    if device == "cpu":  # where the host's choice was that one before it was asked
        sample(model, conditioning(20, 1), conditioning(5, 2))
    assert bool(computed) is not asked


def test_a_prompt_is_not_marked_itself(model, cpu):
    positive = conditioning(20, 1)
    sample(model, positive, conditioning(5, 2))
    assert equal_tokens(positive[0][0]) == 1


def test_a_control_net_gives_the_same_picture(model, in_full, tmp_path):
    from comfyui_kolors.kolors_core.host import control_net

    import nodes

    save_file(random_control_net(TINY).state_dict(), tmp_path / "control.safetensors")
    net = control_net.load_control_net(str(tmp_path / "control.safetensors"))
    apply = nodes.ControlNetApplyAdvanced().apply_controlnet
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(1))
    prompts = apply(conditioning(20, 1), conditioning(5, 2), net, hint, 1.0, 0.0, 1.0)
    found = sample(model, *prompts)
    assert relative_error(found, in_full(sample, model, *prompts)) <= EXACT
    assert relative_error(found, sample(model, conditioning(20, 1), conditioning(5, 2))) > 1e-3


def test_a_compiled_model_is_one_graph_for_prompts_of_any_length_and_images_of_any_size(model, in_full):
    """Row counts would compile a graph each; a compiled model computes every row. `fullgraph` allows no break."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend=backend, fullgraph=True, dynamic=True)
    for tokens, size in ((20, (24, 16)), (30, (16, 40))):
        arguments, latent = (conditioning(tokens, 1), conditioning(5, 2)), {"samples": torch.zeros(1, 4, *size)}
        expected = in_full(sample, model, *arguments, **latent)
        assert relative_error(sample(compiled, *arguments, **latent), expected) <= 1e-5
    assert len(graphs) == 1
