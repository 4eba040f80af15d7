"""IP-Adapter Plus and FaceID Plus in the host: equal to diffusers, and exact where nothing may change."""

import logging

import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, Sizes, random_face_adapter, random_ip_adapter, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import (
    KWAI_KOLORS,
    NO_ORIGINAL,
    TOWER,
    face_pipeline,
    host_tower,
    nested,
    picture,
    reference_pipeline,
    theirs,
    theirs_by_original_code,
)
from reference import LATENT_TOLERANCE, TOLERANCE, relative_error
from safetensors.torch import save_file
from sampling_runs import ours

pytestmark = pytest.mark.host

STEPS = 10


@pytest.fixture(scope="module")
def host():
    """The host side of the pack, by module."""
    from types import SimpleNamespace

    import loaders
    from comfyui_kolors.kolors_core.host import sampling, unet
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
    from comfyui_kolors.kolors_core.host.ip_adapter import attention as image_attention
    from comfyui_kolors.kolors_core.host.ip_adapter import face, image_prompt

    unet.register()
    return SimpleNamespace(
        face=face,
        image_attention=image_attention,
        image_prompt=image_prompt,
        ip_adapter=ip_adapter,
        loaders=loaders,
        sampling=sampling,
    )


@pytest.fixture(scope="module")
def unet():
    return random_unet(TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, unet):
    folder = tmp_path_factory.mktemp("models")
    save_file(unet.state_dict(), folder / "unet.safetensors")
    for seed in (0, 1):
        save_file(random_ip_adapter(TINY, TOWER["hidden_size"], seed=seed), folder / f"plus-{seed}.safetensors")
    torch.save(nested(random_face_adapter(TINY, TOWER["hidden_size"])), folder / "face.bin")
    return folder


@pytest.fixture(scope="module")
def model(host, folder):
    return host.loaders.load_unet(folder / "unet.safetensors")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return host_tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def adapter(host, folder):
    return host.ip_adapter.load_ip_adapter(folder / "plus-0.safetensors")


@pytest.fixture(scope="module")
def tokens(host, adapter, tower):
    """Tokens of one picture and of the reference's negative."""
    return host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, picture()))


@pytest.fixture(scope="module")
def pipe(unet):
    return reference_pipeline(unet, [random_ip_adapter(TINY, TOWER["hidden_size"])])


@pytest.fixture(scope="module")
def plain(host, model):
    return ours(host.sampling, model, "euler", STEPS)


def apply(host, model, adapter, tokens, *influence, **options):
    """A clone with the adapter, under an `Influence` of these settings."""
    return host.ip_adapter.apply(model, adapter, tokens, host.ip_adapter.Influence(*influence, **options))


def run(host, model, **options):
    return ours(host.sampling, model, "euler", STEPS, **options)


# --- against the reference -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(600, 400), (336, 336), (301, 517)])
def test_image_tokens_equal_the_reference(host, adapter, tower, pipe, width, height):
    image = picture(width, height)
    found = host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, image))
    project = pipe.unet.encoder_hid_proj.image_projection_layers[0]
    for tokens, states in zip(found, pipe.encode_image(to_pil(image[0]), "cpu", 1, True)):
        assert relative_error(tokens, project(states)) <= TOLERANCE


@pytest.mark.beyond_loading
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_latents_equal_the_reference(host, model, adapter, tokens, pipe, plain, scale, cfg):
    applied = apply(host, model, adapter, tokens, scale, 0.0, 1.0)
    found = run(host, applied, cfg=cfg)
    expected = theirs(pipe, scale, cfg, STEPS, ip_adapter_image=to_pil(picture()[0]))
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(run(host, model, cfg=cfg), expected) > 10 * LATENT_TOLERANCE  # it does something


def test_two_images_of_one_adapter_equal_the_reference(host, model, adapter, tower, pipe):
    images = [picture(seed=seed) for seed in (1, 2)]
    tokens = host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, torch.cat(images)))
    found = run(host, apply(host, model, adapter, tokens, 0.8, 0.0, 1.0))
    expected = theirs(pipe, 0.8, ip_adapter_image=[[to_pil(image[0]) for image in images]])
    assert relative_error(found, expected) <= LATENT_TOLERANCE


def test_two_adapters_equal_the_reference(host, model, folder, unet, tower):
    images, scales = [picture(seed=seed) for seed in (1, 2)], [0.8, 0.4]
    for index in (0, 1):
        adapter = host.ip_adapter.load_ip_adapter(folder / f"plus-{index}.safetensors")
        tokens = host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, images[index]))
        model = apply(host, model, adapter, tokens, scales[index], 0.0, 1.0)
    adapters = [random_ip_adapter(TINY, TOWER["hidden_size"], seed=seed) for seed in (0, 1)]
    pipe = reference_pipeline(unet, adapters)
    expected = theirs(pipe, scales, ip_adapter_image=[to_pil(image[0]) for image in images])
    assert relative_error(run(host, model), expected) <= LATENT_TOLERANCE


def test_batches_and_other_shapes_equal_the_reference(host, model, adapter, tokens, pipe):
    found = run(
        host,
        apply(host, model, adapter, tokens, 0.7, 0.0, 1.0),
        shape=(2, 4, 16, 24),
    )
    image = to_pil(picture()[0])
    expected = theirs(pipe, 0.7, size=(128, 192), batch=2, ip_adapter_image=image)
    assert relative_error(found, expected) <= LATENT_TOLERANCE


def test_a_mask_equals_the_reference(host, model, adapter, tokens, pipe):
    """Along the borders of cells both agree; elsewhere the reference samples the mask where we average it."""
    mask = torch.zeros(128, 128)
    mask[:, 64:] = 1
    found = run(host, apply(host, model, adapter, tokens, 1.0, 0.0, 1.0, mask=mask))
    image = to_pil(picture()[0])
    expected = theirs(pipe, 1.0, ip_adapter_image=image, masks=[mask[None, None]])
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(found, theirs(pipe, 1.0, ip_adapter_image=image)) > 10 * LATENT_TOLERANCE


@pytest.mark.beyond_loading
@pytest.mark.parametrize(
    ("weight_type", "blocks"),
    [
        ("style", {"up": {"block_0": [0.0, 0.9, 0.0]}}),
        ("composition", {"down": {"block_2": [0.0, 0.9]}}),
        ("style and composition", {"up": {"block_0": [0.0, 0.9, 0.0]}, "down": {"block_2": [0.0, 0.9]}}),
    ],
)
def test_weight_types_are_the_blocks_of_the_reference(host, model, adapter, tokens, pipe, weight_type, blocks):
    found = run(host, apply(host, model, adapter, tokens, 0.9, 0.0, 1.0, weight_type))
    expected = theirs(pipe, blocks, ip_adapter_image=to_pil(picture()[0]))
    assert relative_error(found, expected) <= LATENT_TOLERANCE


@pytest.fixture(scope="module")
def face(host, folder, tower):
    """A FaceID adapter, and tokens of a given embedding and crop."""
    adapter = host.ip_adapter.load_ip_adapter(folder / "face.bin")
    embedding = torch.randn(1, 512, generator=torch.Generator().manual_seed(4))
    return adapter, host.face.encode_faces(adapter, tower, (embedding, picture(336, 336)))


@pytest.mark.parametrize("scale", [1.0, 0.8])
@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_faces_equal_the_reference(host, model, unet, face, scale, cfg):
    adapter, tokens = face
    found = run(host, apply(host, model, adapter, tokens, scale, 0.0, 1.0), cfg=cfg)
    pipe, embeds = face_pipeline(unet, random_face_adapter(TINY, TOWER["hidden_size"]), tokens)
    expected = theirs(pipe, scale, cfg, ip_adapter_image_embeds=embeds if cfg > 1 else [embeds[0][1:]])
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(run(host, model, cfg=cfg), expected) > 10 * LATENT_TOLERANCE


@pytest.mark.skipif(KWAI_KOLORS is None, reason=NO_ORIGINAL)
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_faces_equal_the_original_code(host, model, unet, face, scale, cfg):
    adapter, tokens = face
    found = run(host, apply(host, model, adapter, tokens, scale, 0.0, 1.0), cfg=cfg)
    expected = theirs_by_original_code(unet, random_face_adapter(TINY, TOWER["hidden_size"]), tokens, scale, cfg)
    assert relative_error(found, expected) <= LATENT_TOLERANCE
    assert relative_error(run(host, model, cfg=cfg), expected) > 10 * LATENT_TOLERANCE


def test_a_lora_on_the_text_projection_reaches_the_face(host, model, face):
    _, tokens = face
    changed = model.clone()
    key = "diffusion_model.encoder_hid_proj.weight"
    changed.add_patches({key: ("diff", (torch.full_like(model.get_key_patches(key)[key][0][0], 0.05),))})
    projected = [host.ip_adapter.text_projection(one, torch.device("cpu"))(tokens) for one in (model, changed)]
    expected = tokens.sum(-1, keepdim=True) * 0.05
    assert relative_error(projected[1] - projected[0], expected.expand_as(projected[0])) <= TOLERANCE


# --- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 0.0},
        {"end_at": 0.0},
        {"start_at": 0.6, "end_at": 0.6},
        {"mask": torch.zeros(1, 40, 30)},
    ],
    ids=str,
)
def test_what_counts_nowhere_is_bit_equal_to_no_adapter(host, model, adapter, tokens, plain, options):
    settings = {"weight": 1.0, "start_at": 0.0, "end_at": 1.0} | options
    assert torch.equal(run(host, apply(host, model, adapter, tokens, **settings)), plain)


def test_the_original_model_stays_bit_equal(host, model, adapter, tokens, plain):
    applied = apply(host, model, adapter, tokens, 1.0, 0.0, 1.0)
    first = run(host, applied)
    assert torch.equal(run(host, model), plain)
    assert torch.equal(run(host, applied), first)


def test_a_white_mask_equals_no_mask(host, model, adapter, tokens):
    without = run(host, apply(host, model, adapter, tokens, 1.0, 0.0, 1.0))
    for mask in (torch.ones(1, 64, 64), torch.ones(3, 7), torch.ones(2, 300, 200)):
        assert torch.equal(
            run(host, apply(host, model, adapter, tokens, 1.0, 0.0, 1.0, mask=mask)),
            without,
        )


def test_the_order_of_two_adapters_does_not_matter(host, model, folder, tower, tokens):
    applied = []
    for order in ((0, 1), (1, 0)):
        both = model
        for index in order:
            adapter = host.ip_adapter.load_ip_adapter(folder / f"plus-{index}.safetensors")
            both = apply(host, both, adapter, tokens, 0.7, 0.0, 1.0)
        applied.append(run(host, both))
    assert relative_error(*applied) <= 1e-5


def test_a_range_counts_in_its_steps_only(host, model, adapter, tokens, plain):
    """Begun late, the run is the plain one until then; ended early, the rest follows from what there is."""
    seen = []
    applied = apply(host, model, adapter, tokens, 1.0, 0.3, 0.7)
    replaced = applied.model_options["transformer_options"]["patches_replace"]["attn2"]
    (scope,) = {patch.scope for patch in replaced.values()}
    holds = scope.sigmas.holds
    scope.sigmas.holds = lambda options: seen.append((float(options["sigmas"][0]), holds(options))) or seen[-1][1]
    found = run(host, applied)
    steps = list(dict.fromkeys(seen))
    sampling = model.get_model_object("model_sampling")
    first, last = sampling.percent_to_sigma(0.3), sampling.percent_to_sigma(0.7)
    assert steps == [(sigma, last <= sigma <= first) for sigma, _ in steps]
    assert 0 < sum(active for _, active in steps) < len(steps) == STEPS
    assert relative_error(found, plain) > LATENT_TOLERANCE


def test_one_image_per_latent(host, model, adapter, tower):
    images = torch.cat([picture(seed=seed) for seed in (1, 2)])
    both = host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, images))
    shape = (2, 4, 16, 16)
    found = run(
        host,
        apply(host, model, adapter, both, 1.0, 0.0, 1.0, one_per_latent=True),
        shape=shape,
    )
    for index in (0, 1):
        alone = apply(host, model, adapter, both[:, index : index + 1], 1.0, 0.0, 1.0)
        assert relative_error(found[index], run(host, alone, shape=shape)[index]) <= 1e-5


def test_a_negative_image_takes_the_place_of_the_references(host, model, adapter, tower, tokens):
    negative = host.ip_adapter.image_tokens(adapter, host.image_prompt.encode(tower, picture(), picture(seed=9)))
    assert torch.equal(negative[0], tokens[0])
    assert not torch.equal(negative[1], tokens[1])
    found, before = (run(host, apply(host, model, adapter, given, 1.0, 0.0, 1.0)) for given in (negative, tokens))
    assert relative_error(found, before) > LATENT_TOLERANCE


def test_eases_weigh_the_modules_by_their_order(host, model):
    attention = host.image_attention
    places = attention.find_sites(model.model.diffusion_model)
    order = [*places["input"], *places["middle"], *places["output"]]
    assert [(place.block, place.number) for place in order] == [
        *[("input", number) for number in (4, 5, 7, 8)],
        ("middle", 0),
        *[("output", number) for number in range(6)],
    ]
    shares = {kind: [attention.site_weights(places, kind)[place] for place in order] for kind in attention.EASES}
    assert set(shares["linear"]) == {1.0}
    assert shares["ease in"] == sorted(shares["ease in"], reverse=True) != sorted(shares["ease in"])
    assert shares["ease out"] == sorted(shares["ease out"])
    assert shares["ease in-out"][5] == pytest.approx(max(shares["ease in-out"]))
    assert shares["ease in-out"][0] == min(shares["ease in-out"]) == pytest.approx(0.05)


@pytest.mark.parametrize(("height", "width", "level"), [(16, 16, 1), (13, 9, 2), (64, 96, 2), (7, 7, 2), (128, 64, 1)])
def test_the_grid_of_an_attention_is_that_of_its_level(host, height, width, level):
    rows, columns = height, width
    for _ in range(level):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    assert host.image_attention.find_grid(height, width, rows * columns) == (rows, columns)


def test_the_grid_of_merged_cells_keeps_the_proportions(host):
    rows, columns = host.image_attention.find_grid(32, 64, 392)  # 14 x 28
    assert (rows, columns) == (14, 28)


def test_the_host_moving_the_model_lets_go_of_copies(host, model, adapter, tokens):
    applied = apply(host, model, adapter, tokens, 1.0, 0.0, 1.0, mask=torch.ones(1, 8, 8))
    run(host, applied)
    patches = applied.model_options["transformer_options"]["patches_replace"]["attn2"].values()
    assert all(patch._batches for patch in patches)
    applied.model_patches_to(torch.device("cpu"))
    assert not any(patch._batches or patch.scope._masks for patch in patches)


def test_a_range_is_told_without_reading_a_sigma_of_a_device(host):
    """On the CPU by a bool; elsewhere by a tensor that stays there, for reading it would wait for the device."""
    attention = host.image_attention
    sigmas = attention.SigmaRange(10.0, 2.0)
    assert [sigmas.holds({"sigmas": torch.tensor([sigma])}) for sigma in (11.0, 10.0, 5.0, 2.0, 1.0)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    there = {"sigmas": torch.tensor([5.0], device="meta")}  # whose values cannot be read
    held = sigmas.holds(there)
    assert held.is_meta and sigmas.holds(there) is held
    assert attention.SigmaRange(attention.EVERY_SIGMA, 0.0).holds(there) is True
    assert sigmas.holds({}) is True


@pytest.mark.parametrize("held", [True, False])
def test_what_a_range_adds_is_the_same_by_a_bool_and_by_a_tensor(host, held):
    add_where = host.image_attention.add_where
    out, add = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = out + add if held else out
    assert torch.equal(add_where(held, lambda: add, out), expected)
    assert torch.equal(add_where(torch.tensor(held), lambda: add, out), expected)
    if not held:
        assert add_where(held, lambda: pytest.fail("computed for nothing"), out) is out


def test_keys_and_values_stay_where_prompts_are_computed_in_turn(host, model, adapter, tokens):
    """One copy for each make-up of a batch, which the steps after the first find again."""
    applied = apply(host, model, adapter, tokens, 1.0, 0.0, 1.0)
    patch = next(iter(applied.model_options["transformer_options"]["patches_replace"]["attn2"].values()))
    query = torch.randn(1, 4, patch.key.shape[-1])
    first = [patch._for_batch(query, kinds) for kinds in ((0,), (1,))]
    again = [patch._for_batch(query, kinds) for kinds in ((0,), (1,))]
    assert all(a is b for pair, other in zip(first, again) for a, b in zip(pair, other))
    assert not torch.equal(first[0][0], first[1][0])


def test_a_guest_of_any_range_asks_a_device_for_nothing(host):
    """IPAdapter_plus gives each of its 70 attentions a range; reading the sigma for each would wait as often."""
    attention = host.image_attention
    patch = attention.ImageAttention(attention.Scope(attention.SigmaRange(1e9, 0.0), None), None, None, None)
    patch.add(print, sigma_start=10.0, sigma_end=2.0)
    ((_, settings, sigmas),) = patch.guests
    assert settings == {"sigma_start": 10.0, "sigma_end": 2.0}
    assert sigmas.holds({"sigmas": torch.tensor([5.0], device="meta")}).is_meta


# --- other packs, and errors -----------------------------------------------------------------------------------------


def test_a_replacement_by_another_pack_is_kept(host, model, adapter, tokens, plain):
    """Ours adds to what stood there, and takes in what a pack adds to ours afterwards, on the clone alone."""
    calls = []

    def theirs(query, key, value, options):
        calls.append("before")
        return host.image_attention.attend(query, key, value, options)

    patched = model.clone()
    patched.set_model_attn2_replace(theirs, "input", 4, 0)
    applied = apply(host, patched, adapter, tokens, 1.0, 0.0, 1.0)
    expected = run(host, apply(host, model, adapter, tokens, 1.0, 0.0, 1.0))
    assert torch.equal(run(host, applied), expected)
    assert len(calls) == STEPS
    replaced = applied.model_options["transformer_options"]["patches_replace"]["attn2"][("input", 4, 0)]
    replaced.add(lambda out, *args, gain, **options: out * gain, gain=0.5, sigma_start=1e9, sigma_end=0.0)
    assert relative_error(run(host, applied), expected) > LATENT_TOLERANCE


def test_copying_a_models_options_copies_no_tensors(host, model, adapter, tokens):
    """Hosts up to 0.8 copy them in depth for every clone."""
    import copy

    applied = apply(host, model, adapter, tokens, 1.0, 0.0, 1.0)
    copied = copy.deepcopy(applied.model_options)
    for key, patch in applied.model_options["transformer_options"]["patches_replace"]["attn2"].items():
        twin = copied["transformer_options"]["patches_replace"]["attn2"][key]
        assert twin is not patch
        assert twin.key is patch.key and twin.value is patch.value
        twin.add(print)
        assert not patch.guests


def test_what_a_pack_adds_to_a_clone_stays_there(host, model, adapter, tokens):
    """Newest hosts share a model's options with its clones, and IPAdapter_plus adds to the replacements it finds."""
    applied = apply(host, model, adapter, tokens, 1.0, 0.0, 1.0)
    before = run(host, applied)
    clone = applied.clone()
    for patch in clone.model_options["transformer_options"]["patches_replace"]["attn2"].values():
        patch.add(lambda out, *args, **options: out * 0.5, sigma_start=1e9, sigma_end=0.0)
    assert relative_error(run(host, clone), before) > LATENT_TOLERANCE
    assert torch.equal(run(host, applied), before)


def test_another_unets_adapter_is_named(host, model, tower, tmp_path):
    save_file(random_ip_adapter(Sizes(depth=(1, 3)), TOWER["hidden_size"]), tmp_path / "other.safetensors")
    other = host.ip_adapter.load_ip_adapter(tmp_path / "other.safetensors")
    tokens = host.ip_adapter.image_tokens(other, host.image_prompt.encode(tower, picture()))
    with pytest.raises(KolorsError, match=r"other.safetensors .* UNet with 23 cross attentions .* model has 17"):
        apply(host, model, other, tokens, 1.0, 0.0, 1.0)
    save_file(random_ip_adapter(Sizes(context=256), TOWER["hidden_size"]), tmp_path / "wide.safetensors")
    wide = host.ip_adapter.load_ip_adapter(tmp_path / "wide.safetensors")
    tokens = host.ip_adapter.image_tokens(wide, host.image_prompt.encode(tower, picture()))
    with pytest.raises(KolorsError, match=r"wide.safetensors .* tokens of width 256; .* reads width 128"):
        apply(host, model, wide, tokens, 1.0, 0.0, 1.0)
    save_file(random_ip_adapter(Sizes(channels=(32, 64, 128)), TOWER["hidden_size"]), tmp_path / "channels.safetensors")
    channels = host.ip_adapter.load_ip_adapter(tmp_path / "channels.safetensors")
    tokens = host.ip_adapter.image_tokens(channels, host.image_prompt.encode(tower, picture()))
    with pytest.raises(
        KolorsError, match=r"channels.safetensors .*\(widths 64 to 128\).*\(widths 64 to 64\).* belongs to this"
    ):
        apply(host, model, channels, tokens, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "key",
    [
        "image_proj.latents",
        "image_proj.proj_in.weight",
        "image_proj.proj_out.weight",
        "image_proj.norm_out.bias",
        "image_proj.layers.0.0.to_q.weight",
        "image_proj.layers.2.1.3.weight",
        "ip_adapter.1.to_k_ip.weight",
        "ip_adapter.7.to_v_ip.weight",
        "ip_adapter.33.to_k_ip.weight",
    ],
)
def test_an_adapter_without_one_tensor_is_named_incomplete(host, tmp_path, key):
    tensors = random_ip_adapter(TINY, TOWER["hidden_size"])
    del tensors[key]
    save_file(tensors, tmp_path / "incomplete.safetensors")
    with pytest.raises(KolorsError, match=rf"incomplete\.safetensors in .* an incomplete IP-Adapter.*{key}") as error:
        host.ip_adapter.load_ip_adapter(tmp_path / "incomplete.safetensors")
    assert "missing" in str(error.value) and "Download it again" in str(error.value)


def test_a_tower_of_another_size_is_named(host, adapter, tmp_path):
    with pytest.raises(KolorsError, match=r"takes images of 224 pixels .* expect 336"):
        host.image_prompt.encode(host_tower(tmp_path, image_size=224), picture())
    wide = host.image_prompt.encode(host_tower(tmp_path, hidden_size=128), picture())
    with pytest.raises(KolorsError, match=r"plus-0.safetensors .* reads CLIP states of width 64; .* have 128"):
        host.ip_adapter.image_tokens(adapter, wide)


def test_the_wrong_node_for_an_adapter_is_named(host, adapter, face, tower):
    with pytest.raises(KolorsError, match=r"face.bin .* is a FaceID adapter. Use 'Apply Kolors FaceID'"):
        host.ip_adapter.image_tokens(face[0], host.image_prompt.encode(tower, picture()))
    with pytest.raises(KolorsError, match=r"plus-0.safetensors .* is not a FaceID adapter. Use 'Apply Kolors IP-A"):
        host.face.encode_faces(adapter, tower, (torch.zeros(1, 512), picture()))


def test_a_load_is_logged_once(host, folder, caplog):
    with caplog.at_level(logging.INFO, logger="ComfyUI-Kolors"):
        host.ip_adapter.load_ip_adapter(folder / "face.bin")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["[Kolors] FaceID Plus adapter face.bin"]
