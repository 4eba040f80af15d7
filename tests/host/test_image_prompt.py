"""Image prompts as values: equal to the node for images, and through a file to diffusers; combined exactly."""

import gc
from dataclasses import replace

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, random_face_adapter, random_ip_adapter
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files.image_prompt import EMBEDS, ImagePrompt, load_image_prompt, save_image_prompt
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import TOWER, host_tower, picture, reference_pipeline, theirs
from reference import LATENT_TOLERANCE, relative_error
from safetensors.torch import load_file, save_file
from sampling_runs import ours

pytestmark = pytest.mark.host

STEPS = 10
MIXED = ("average", "weighted sum", "difference")


@pytest.fixture(scope="module")
def host():
    from types import SimpleNamespace

    import loaders
    from comfyui_kolors.kolors_core.host import sampling, unet
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
    from comfyui_kolors.kolors_core.host.ip_adapter import image_prompt
    from comfyui_kolors.nodes import NODE_CLASS_MAPPINGS as nodes

    unet.register()
    return SimpleNamespace(
        image_prompt=image_prompt, ip_adapter=ip_adapter, loaders=loaders, nodes=nodes, sampling=sampling
    )


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return host_tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def adapter(host, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "plus.safetensors"
    save_file(random_ip_adapter(TINY, TOWER["hidden_size"]), path)
    return host.ip_adapter.load_ip_adapter(path)


@pytest.fixture(scope="module")
def pipe(unet):
    return reference_pipeline(unet, [random_ip_adapter(TINY, TOWER["hidden_size"])])


@pytest.fixture(scope="module")
def prompts(host, tower):
    """Of two images, and of three with two negative ones."""
    three, two = (torch.cat([picture(seed=seed) for seed in seeds]) for seeds in ((3, 4, 5), (8, 9)))
    one, other = (host.image_prompt.encode(tower, picture(seed=seed)) for seed in (1, 2))
    return one, other, host.image_prompt.encode(tower, three, two)


def draw(host, model, adapter, prompt, weight=0.8, **options):
    """Final latents with `prompt`."""
    influence = host.ip_adapter.Influence(weight, 0.0, 1.0, **options)
    return run(host, host.ip_adapter.apply_image_prompt(model, adapter, prompt, influence))


def run(host, model, **options):
    return ours(host.sampling, model, "euler", STEPS, **options)


def equal(prompt: ImagePrompt, other: ImagePrompt) -> bool:
    return all(torch.equal(getattr(prompt, name), getattr(other, name)) for name in ("images", "negatives", "weights"))


# --- against diffusers, through a file -------------------------------------------------------------------------------


@pytest.mark.beyond_loading
@pytest.mark.parametrize("seeds", [[1], [1, 2]], ids=["one image", "two images"])
@pytest.mark.parametrize("negative", [None, 9])
def test_diffusers_draws_the_same_of_a_saved_image_prompt(host, model, adapter, tower, pipe, tmp_path, seeds, negative):
    images = torch.cat([picture(seed=seed) for seed in seeds])
    prompt = host.image_prompt.encode(tower, images, None if negative is None else picture(seed=negative))
    save_image_prompt(tmp_path / "a.safetensors", prompt)
    embeds = load_file(tmp_path / "a.safetensors")[EMBEDS]
    expected = theirs(pipe, 0.8, ip_adapter_image_embeds=[embeds])
    found = draw(host, model, adapter, load_image_prompt(tmp_path / "a.safetensors"))
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(run(host, model), expected) > 10 * LATENT_TOLERANCE
    assert torch.equal(found, draw(host, model, adapter, prompt))


@pytest.mark.beyond_loading
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["image_embeds.ipadpt", "image_embeds.safetensors"])
def test_what_diffusers_saves_is_drawn_as_diffusers_does(host, model, adapter, pipe, tmp_path, count, name):
    images = [to_pil(picture(seed=seed)[0]) for seed in range(1, count + 1)]
    embeds = pipe.prepare_ip_adapter_image_embeds(
        ip_adapter_image=[images],
        ip_adapter_image_embeds=None,
        device="cpu",
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    if name.endswith("ipadpt"):
        torch.save(embeds, tmp_path / name)  # as diffusers' documentation does
    else:
        save_file({"embeds": embeds[0].contiguous()}, tmp_path / name)
    found = draw(host, model, adapter, load_image_prompt(tmp_path / name))
    assert relative_error(found, theirs(pipe, 0.8, ip_adapter_image_embeds=embeds)) <= LATENT_TOLERANCE
    assert relative_error(found, theirs(pipe, 0.8, ip_adapter_image=[images])) <= LATENT_TOLERANCE


def test_a_tensor_of_ipadapter_plus_and_the_towers_negative_are_the_image_prompt(host, tower, prompts, tmp_path):
    torch.save(prompts[0].images, tmp_path / "IP_embeds_00001.ipadpt")
    assert equal(host.image_prompt.load(tmp_path / "IP_embeds_00001.ipadpt", tower), prompts[0])
    with pytest.raises(KolorsError, match=r"IP_embeds_00001.ipadpt in .* without a negative. Connect clip_vision"):
        host.image_prompt.load(tmp_path / "IP_embeds_00001.ipadpt")
    torch.save(torch.randn(1, 577, 128), tmp_path / "wide.ipadpt")
    with pytest.raises(KolorsError, match=r"wide.ipadpt in .*states of \[577, 128\]; .*have \[577, 64\]"):
        host.image_prompt.load(tmp_path / "wide.ipadpt", tower)


def test_half_precision_is_near(host, model, adapter, prompts, tmp_path):
    """Measured: 2e-4 in the states, 3e-6 in the latents."""
    save_image_prompt(tmp_path / "half.safetensors", prompts[0], torch.float16)
    loaded = load_image_prompt(tmp_path / "half.safetensors")
    assert relative_error(loaded.images, prompts[0].images) <= 3e-4
    found, expected = (draw(host, model, adapter, prompt) for prompt in (loaded, prompts[0]))
    assert 0 < relative_error(found, expected) <= 1e-5


# --- beside the node that takes images -------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"weight": -0.4, "weight_type": "style"},
    {"start_at": 0.2, "end_at": 0.7, "weight_type": "ease in"},
    {"attn_mask": torch.ones(2, 64, 64).tril()},
    {"image_batch": "one per latent"},
    {"weight": 0.0},
]


@pytest.mark.beyond_loading
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "default")
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("negatives", [0, 1, 2])
def test_every_option_is_that_of_the_node_for_images(host, model, adapter, tower, options, images, negatives):
    settings = {"model": model, "ipadapter": adapter, "weight": 0.8, "start_at": 0.0, "end_at": 1.0} | options
    given = {"clip_vision": tower, "image": torch.cat([picture(seed=seed) for seed in range(images)])}
    if negatives:
        given["image_negative"] = torch.cat([picture(seed=7 + seed) for seed in range(negatives)])
    (prompt,) = host.nodes["KolorsImagePromptEncode"]().encode(**given)
    (applied,) = host.nodes["KolorsImagePromptApply"]().apply(image_prompt=prompt, **settings)
    (expected,) = host.nodes["KolorsIPAdapterApply"]().apply(**given, **settings)
    found, expected = (ours(host.sampling, each, "euler", 3, shape=(3, 4, 16, 16)) for each in (applied, expected))
    assert torch.equal(found, expected)


def test_another_weight_encodes_nothing_again(host, model, adapter, tower, monkeypatch):
    calls = []

    def counting(name, function):
        return lambda *args, **options: (calls.append(name), function(*args, **options))[1]

    monkeypatch.setattr(tower.model, "forward", counting("vision encoder", tower.model.forward))
    module = adapter.patcher.model
    monkeypatch.setattr(module.image_proj, "forward", counting("resampler", module.image_proj.forward))
    prompt = host.image_prompt.encode(tower, picture(seed=6), picture(seed=7))
    assert calls == ["vision encoder"] * 2
    latents = [draw(host, model, adapter, prompt, weight) for weight in (0.8, 0.5, 0.8)]
    draw(host, model, adapter, prompt, weight_type="style", mask=torch.ones(8, 8), one_per_latent=True)
    assert calls == ["vision encoder"] * 2 + ["resampler"] * 2
    assert torch.equal(latents[0], latents[2]) and not torch.equal(latents[0], latents[1])
    other = host.ip_adapter.load_ip_adapter(adapter.path)
    assert torch.equal(draw(host, model, other, prompt), latents[0])  # an adapter of its own, with tokens of its own
    assert calls.count("resampler") == 2


def test_tokens_go_with_the_image_prompt_and_with_the_adapter(host, prompts, adapter):
    tokens = host.ip_adapter.TOKENS
    prompt, again = replace(prompts[0]), host.ip_adapter.load_ip_adapter(adapter.path)
    host.ip_adapter.image_tokens(again, prompt)
    assert list(tokens[prompt].keys()) == [again]
    del again
    gc.collect()
    assert not tokens[prompt]
    count = len(tokens)
    del prompt
    gc.collect()
    assert len(tokens) == count - 1


def test_a_face_adapter_is_named(host, model, prompts, tmp_path):
    save_file(random_face_adapter(TINY, TOWER["hidden_size"]), tmp_path / "face.safetensors")
    adapter = host.ip_adapter.load_ip_adapter(tmp_path / "face.safetensors")
    with pytest.raises(KolorsError, match=r"face.safetensors .* is a FaceID adapter. Use 'Apply Kolors FaceID'"):
        draw(host, model, adapter, prompts[0])


def test_states_that_become_no_numbers_are_named(host, model, adapter, prompts):
    largest = ImagePrompt.of(torch.full_like(prompts[0].images, torch.finfo(torch.float32).max), prompts[0].negatives)
    with pytest.raises(KolorsError, match=r"image tokens that are not finite, .* black. .* or plus.safetensors in"):
        draw(host, model, adapter, largest)


# --- combined --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(host, model, adapter, prompts):
    """Final latents with each of the prompts."""
    return [draw(host, model, adapter, prompt) for prompt in prompts]


@pytest.mark.beyond_loading
@pytest.mark.parametrize("method", ["concat", *MIXED])
def test_the_weights_1_and_0_give_the_first_alone(host, model, adapter, prompts, drawn, method):
    """Also where the numbers of images and negatives differ: what has no weight is left out altogether."""
    one, other, three = prompts
    for first, second, expected in ((one, other, drawn[0]), (one, three, drawn[0]), (three, one, drawn[2])):
        combined = host.image_prompt.combine(first, second, method, 1.0, 0.0)
        assert equal(combined, first)
        assert torch.equal(draw(host, model, adapter, combined), expected)
    if method != "difference":
        assert equal(host.image_prompt.combine(other, one, method, 0.0, 1.0), one)


def test_concat_is_both_images_as_a_batch(host, model, adapter, tower, prompts):
    combined = host.image_prompt.combine(prompts[0], prompts[1], "concat", 1.0, 1.0)
    batch = host.image_prompt.encode(tower, torch.cat([picture(seed=seed) for seed in (1, 2)]))
    assert equal(combined, batch)
    assert torch.equal(draw(host, model, adapter, combined), draw(host, model, adapter, batch))


def test_concat_keeps_the_negative_of_each_image(host, tower, prompts):
    images = [picture(seed=seed) for seed in (1, 2)]
    first, second = (host.image_prompt.encode(tower, image, picture(seed=7 + n)) for n, image in enumerate(images))
    combined = host.image_prompt.combine(first, second, "concat", 1.0, 1.0)
    batch = host.image_prompt.encode(tower, torch.cat(images), torch.cat([picture(seed=seed) for seed in (7, 8)]))
    assert equal(combined, batch)
    mixed = host.image_prompt.combine(prompts[2], prompts[0], "concat", 1.0, 1.0)
    expected = [*prompts[2].negatives[[0, 1, 0]], prompts[0].negatives[0]]
    assert torch.equal(mixed.negatives, torch.stack(expected))


def test_weights_of_concat_scale_the_values_of_each_image(host, model, adapter, prompts):
    """By any number alike they are the weight of Apply; of one they are its share."""

    def combined(weight_1, weight_2):
        return host.image_prompt.combine(prompts[0], prompts[1], "concat", weight_1, weight_2)

    def values(prompt, **options):
        influence = host.ip_adapter.Influence(1.0, 0.0, 1.0, **options)
        applied = host.ip_adapter.apply_image_prompt(model, adapter, prompt, influence)
        return next(iter(applied.model_options["transformer_options"]["patches_replace"]["attn2"].values())).value

    half = draw(host, model, adapter, combined(0.5, 0.5), 1.0)
    assert torch.equal(half, draw(host, model, adapter, combined(1.0, 1.0), 0.5))
    even, uneven = values(combined(1.0, 1.0)), values(combined(0.25, -2.0))
    tokens = even.shape[2] // 2
    assert torch.equal(uneven[..., :tokens, :], even[..., :tokens, :] * 0.25)
    assert torch.equal(uneven[..., tokens:, :], even[..., tokens:, :] * -2.0)
    even, uneven = (values(combined(*weights), one_per_latent=True) for weights in ((1.0, 1.0), (0.25, -2.0)))
    assert torch.equal(uneven, even * torch.tensor([0.25, -2.0])[:, None, None])


def test_a_combination_of_combinations_keeps_weights(host, prompts):
    combine = host.image_prompt.combine
    pair = combine(prompts[0], prompts[1], "concat", 0.5, 1.0)
    assert combine(pair, prompts[0], "concat", 0.5, 2.0).weights.tolist() == [0.25, 0.5, 2.0]
    assert combine(pair, prompts[0], "average", 1.0, 1.0).weights.tolist() == [0.75, 1.0]
    assert combine(pair, prompts[0], "difference", 1.0, 1.0).weights.tolist() == [0.5, 1.0]
    assert combine(prompts[0], pair, "difference", 1.0, 1.0).weights.tolist() == [1.0, 1.0]


def test_the_formulas_of_the_methods(host, prompts):
    one, other, three = prompts
    states = {
        "average": (0.3 * one.images + 0.6 * three.images) / (0.3 + 0.6),
        "weighted sum": 0.3 * one.images + 0.6 * three.images,
        "difference": 0.3 * one.images - 0.6 * (three.images - three.negatives[[0, 1, 0]]),
    }
    mean = (0.3 * one.negatives + 0.6 * three.negatives[[0, 1, 0]]) / (0.3 + 0.6)
    for method, expected in states.items():
        combined = host.image_prompt.combine(one, three, method, 0.3, 0.6)
        assert torch.allclose(combined.images, expected, atol=1e-6) and len(combined.images) == 3
        assert torch.allclose(combined.negatives, one.negatives if method == "difference" else mean, atol=1e-6)
        assert torch.equal(host.image_prompt.combine(one, other, method, 0.3, 0.6).negatives, one.negatives)


def test_an_image_without_itself_is_its_negative(host, prompts):
    nothing = host.image_prompt.combine(prompts[0], prompts[0], "difference", 1.0, 1.0)
    assert torch.allclose(nothing.images, prompts[0].negatives, atol=1e-5)


def test_weights_are_kept_in_the_file(host, prompts, tmp_path):
    combined = host.image_prompt.combine(prompts[0], prompts[2], "concat", 0.3, -1.0)
    save_image_prompt(tmp_path / "a.safetensors", combined)
    loaded = load_image_prompt(tmp_path / "a.safetensors")
    assert torch.equal(loaded.images, combined.images) and torch.equal(loaded.weights, combined.weights)
    assert torch.equal(loaded.negatives, combined.negative_of_each)


def of(*shape) -> ImagePrompt:
    return ImagePrompt.of(torch.ones(shape), torch.ones(1, *shape[1:]))


@pytest.mark.parametrize(
    ("first", "second", "method", "weights", "words"),
    [
        (of(1, 4, 8), of(1, 4, 9), "concat", (1, 1), r"image_prompt_1 has .* \[4, 8\], image_prompt_2 of \[4, 9\]"),
        (of(1, 4, 8), of(1, 5, 8), "average", (1, 1), r"\[4, 8\], image_prompt_2 of \[5, 8\].*same vision encoder"),
        (of(2, 4, 8), of(3, 4, 8), "average", (1, 1), "image_prompt_1 has 2 images, image_prompt_2 3. Expected as"),
        (of(2, 4, 8), of(3, 4, 8), "difference", (1, 1), "image_prompt_1 has 2 images, image_prompt_2 3. Expected as"),
        (of(1, 4, 8), of(1, 4, 8), "average", (1, -1), "The weights 1 and -1 add up to 0"),
        (of(1, 4, 8), of(1, 4, 8), "weighted sum", (1, -1), "All states of this weighted sum are 0"),
        (of(1, 4, 8), of(1, 4, 8), "difference", (0, 1), "weight_1 is 0, so there is nothing to subtract from"),
        (of(1, 4, 8), of(1, 4, 8), "concat", (float("nan"), 1), "The input weight_1 is NaN"),
        *((of(1, 4, 8), of(1, 4, 8), method, (0, 0), "Both weights are 0") for method in ("concat", *MIXED[:2])),
    ],
)
def test_what_cannot_be_combined_is_named(host, first, second, method, weights, words):
    with pytest.raises(KolorsError, match=words):
        host.image_prompt.combine(first, second, method, *weights)
