"""LoRAs in the host: every style of keys equal to diffusers, counted, and gone without a trace."""

import gc
import json
import logging
import re
from types import SimpleNamespace

import psutil
import pytest
import torch
from comfyui_kolors.demo.random_models import TINY, Sizes, random_chatglm3, random_tokenizer, random_unet
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files.lora_keys import diffsynth_blocks, rename_lora
from comfyui_kolors.kolors_core.networks.tokenizer import ChatGLM3Tokenizer
from loras import RANK, metadata_of, old_processors, random_pairs, save, styles, theirs, written
from reference import LATENT_TOLERANCE, TOLERANCE, build_chatglm3, encode, relative_error
from safetensors.torch import save_file
from sampling_runs import SCALE, SEED, conditioning

pytestmark = pytest.mark.host

TOKENIZER = ChatGLM3Tokenizer(random_tokenizer())
PROMPT = "一只红苹果，黄色背景 a red apple on a yellow background"
STYLES = (
    "diffusers", "diffusers with PEFT", "PEFT", "without a prefix", "kohya", "kohya with SD names",
    "SimpleTuner LyCORIS", "ComfyUI", "DiffSynth",
)  # fmt: skip
STOCK = ("kohya", "kohya with SD names", "ComfyUI")  # what the stock node reads as a whole
EQUAL = 1e-6  # relative L2 among styles


@pytest.fixture(scope="module")
def host():
    """The host side of the pack, by module."""
    import loaders
    from comfyui_kolors.kolors_core.host import lora, sampling, unet

    unet.register()
    return SimpleNamespace(loaders=loaders, lora=lora, sampling=sampling)


@pytest.fixture(scope="module")
def unet():
    return random_unet(TINY)


@pytest.fixture(scope="module")
def model(host, unet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_file(unet.state_dict(), folder / "unet.safetensors")
    return host.loaders.load_unet(folder / "unet.safetensors")


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    tokenizer = {"spiece_model": torch.frombuffer(bytearray(TOKENIZER.model), dtype=torch.uint8)}
    save_file(random_chatglm3(TINY, TOKENIZER.pieces) | tokenizer, path)
    return str(path)


@pytest.fixture(scope="module")
def clip(host, encoder_file):
    return host.loaders.load_text_encoder(encoder_file)


@pytest.fixture(scope="module")
def pairs(unet):
    return random_pairs(unet)


@pytest.fixture(scope="module")
def files(unet, pairs, model, tmp_path_factory):
    """The path of each style's file, and the tensors in it."""
    import comfy.utils

    folder = tmp_path_factory.mktemp("loras")
    config = model.model.model_config.unet_config
    names = {
        key.removesuffix(".weight"): value.removesuffix(".weight")
        for key, value in comfy.utils.unet_to_diffusers(config).items()
    }
    found = styles(pairs, names | {"encoder_hid_proj": "encoder_hid_proj"}, diffsynth_blocks(config))
    assert tuple(found) == STYLES
    return {
        style: (save(tensors, folder / f"{style}.{'ckpt' if style == 'DiffSynth' else 'safetensors'}"), tensors)
        for style, tensors in found.items()
    }


def sample(host, model, cfg=5.0, steps=10):
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return host.sampling.sample(model, SEED, steps, cfg, "euler", *conditioning(), latent, 1.0)["samples"] * SCALE


@pytest.fixture(scope="module")
def plain(host, model):
    return sample(host, model)


@pytest.fixture(scope="module")
def expected(unet, files):
    """The reference's latents by strength."""
    return {strength: theirs(unet, files["diffusers with PEFT"][1], strength) for strength in (1.0, 0.8)}


@pytest.fixture(scope="module")
def drawn(host, model, files):
    """Our latents of the first style, by strength."""
    return {
        strength: sample(host, host.lora.apply_lora(model, None, files["diffusers"][0], strength, 0)[0])
        for strength in (1.0, 0.8)
    }


@pytest.mark.beyond_loading
@pytest.mark.parametrize("strength", [1.0, 0.8])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_equals_the_reference(host, model, files, pairs, expected, drawn, plain, style, strength):
    patched, clip, _, report = host.lora.apply_lora(model, None, files[style][0], strength, 0.0)
    found = sample(host, patched)
    assert report == f"{len(pairs)} of {len(pairs)} modules matched ({len(pairs)} of the UNet)"
    assert clip is None
    assert relative_error(found, expected[strength]) <= LATENT_TOLERANCE
    assert relative_error(found, drawn[strength]) <= EQUAL
    assert relative_error(found, plain) > 10 * LATENT_TOLERANCE


def test_the_oldest_style_of_diffusers_equals_the_reference(host, unet, model, pairs, tmp_path):
    tensors = old_processors(pairs)
    patched = host.lora.apply_lora(model, None, save(tensors, tmp_path / "old.safetensors"), 1.0, 0.0)[0]
    attention = {module: pair for module, pair in pairs.items() if ".attn" in module}
    peft = written(attention, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    assert relative_error(sample(host, patched), theirs(unet, peft)) <= LATENT_TOLERANCE


def through_stock(model, clip, path, strength=1.0):
    """(MODEL, CLIP) of the stock Load LoRA node."""
    import comfy.sd
    import comfy.utils

    return comfy.sd.load_lora_for_models(model, clip, comfy.utils.load_torch_file(path), strength, strength)


@pytest.mark.parametrize("style", STOCK)
def test_the_stock_node_gives_the_same_bits(host, model, files, style):
    found, _ = through_stock(model, None, files[style][0])
    expected = host.lora.apply_lora(model, None, files[style][0], 1.0, 0.0)[0]
    assert torch.equal(*(sample(host, patched, steps=2) for patched in (found, expected)))


@pytest.mark.beyond_loading
@pytest.mark.parametrize("style", STYLES)
def test_a_converted_file_loads_in_the_stock_node(host, model, files, drawn, tmp_path, style):
    converted = host.lora.apply_lora(model, None, files[style][0], 1.0, 0.0)[2]
    patched, _ = through_stock(model, None, save(converted, tmp_path / "converted.safetensors"))
    assert relative_error(sample(host, patched), drawn[1.0]) <= EQUAL


# ---- alpha, and what is no plain pair -------------------------------------------------------------------------------

HALF = RANK / 2


def kohya(module: str) -> str:
    """A module's name in kohya's style."""
    return "lora_unet_" + module.replace(".", "_")


@pytest.mark.parametrize("place", ["tensor", "metadata", "adapter_config.json"])
def test_alpha_is_found_wherever_it_is_written(host, model, pairs, tmp_path, place):
    """An alpha of half the rank is half the strength."""
    path = tmp_path / "adapter_model.safetensors"
    prefix = "base_model.model." if place == "adapter_config.json" else "unet."
    alpha = HALF if place == "tensor" else None
    tensors = written(pairs, f"{prefix}{{}}".format, ".lora_A.weight", ".lora_B.weight", alpha)
    save(tensors, path, metadata_of(HALF) if place == "metadata" else None)
    if place == "adapter_config.json":
        (tmp_path / place).write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": HALF}))
    bare = {key: value for key, value in tensors.items() if "alpha" not in key}
    (tmp_path / "elsewhere").mkdir()
    plain = save(bare, tmp_path / "elsewhere/plain.ckpt")
    half = host.lora.apply_lora(model, None, str(path), 1.0, 0.0)[0]
    expected = host.lora.apply_lora(model, None, plain, 0.5, 0.0)[0]
    assert relative_error(*(sample(host, patched, steps=2) for patched in (half, expected))) <= EQUAL


def test_rank_stabilised_alpha_equals_peft(host, unet, model, pairs, tmp_path):
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": RANK, "unet.lora_alpha": HALF, "unet.use_rslora": True})}
    tensors = written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    path = save(tensors, tmp_path / "rslora.safetensors", metadata)
    patched = host.lora.apply_lora(model, None, path, 1.0, 0.0)[0]
    assert relative_error(sample(host, patched), theirs(unet, tensors, HALF / RANK**0.5)) <= LATENT_TOLERANCE


def test_magnitudes_of_peft_are_the_hosts_scales(host, unet, model, pairs, tmp_path):
    """DoRA: PEFT has a vector where kohya has a column. The host divides by other norms than PEFT, 0.4 % apart here."""
    linear = {module: pair for module, pair in pairs.items() if ".attn" in module}
    tensors = written(linear, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    scales, generator = {}, torch.Generator().manual_seed(6)
    for module in linear:
        norm = unet.get_submodule(module).weight.detach().norm(dim=1)
        scales[module] = norm * (1 + 0.3 * torch.rand(norm.shape, generator=generator))
    vectors = {f"unet.{module}.lora_magnitude_vector": scale for module, scale in scales.items()}
    columns = {f"{kohya(module)}.dora_scale": scale[:, None] for module, scale in scales.items()}
    stock = written(linear, kohya, ".lora_down.weight", ".lora_up.weight") | columns
    patched = host.lora.apply_lora(model, None, save(tensors | vectors, tmp_path / "dora.safetensors"), 1.0, 0.0)[0]
    expected, _ = through_stock(model, None, save(stock, tmp_path / "kohya.safetensors"))
    found = sample(host, patched)
    assert torch.equal(found, sample(host, expected))
    assert relative_error(found, theirs(unet, tensors | vectors)) <= 0.01


def kind_tensors(kind: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """One module of LyCORIS' kinds, for a matrix (o, i)."""
    generator = torch.Generator().manual_seed(8)

    def normal(*shape):
        return torch.randn(shape, generator=generator) * 0.2

    outputs, inputs = weight.shape
    return {
        "loha": {
            "hada_w1_a": normal(outputs, RANK), "hada_w1_b": normal(RANK, inputs),
            "hada_w2_a": normal(outputs, RANK), "hada_w2_b": normal(RANK, inputs), "alpha": torch.tensor(RANK),
        },
        "lokr": {"lokr_w1": normal(2, 2), "lokr_w2": normal(outputs // 2, inputs // 2)},
        "full": {"diff": normal(outputs, inputs)},
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["loha", "lokr", "full"])
def test_other_kinds_are_the_hosts(host, model, unet, plain, tmp_path, kind):
    module = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
    parts = kind_tensors(kind, unet.get_submodule(module).weight)
    underscored = {f"{kohya(module)}.{part}": value for part, value in parts.items()}
    dotted = {f"unet.{module}.{part}": value for part, value in parts.items()}
    stock, _ = through_stock(model, None, save(underscored, tmp_path / "kohya.safetensors"))
    found, _, _, report = host.lora.apply_lora(model, None, save(dotted, tmp_path / "dotted.safetensors"), 1.0, 0.0)
    assert report.startswith("1 of 1 modules matched")
    latents = [sample(host, patched, steps=10) for patched in (stock, found)]
    assert torch.equal(*latents)
    assert relative_error(latents[0], plain) > 1e-4


# ---- the text encoder -----------------------------------------------------------------------------------------------

ENCODER_TARGETS = re.compile(r".*\.(query_key_value|dense|dense_h_to_4h|dense_4h_to_h)")


def run(clip):
    """(context, pooled) by the stock node's own two calls."""
    ((context, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    return context, extra["pooled_output"]


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory):
    """What the official Dreambooth script writes with --train_text_encoder: a folder by PEFT. Also its encoder."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(r=RANK, lora_alpha=HALF, target_modules=["query_key_value"], init_lora_weights=False)
    torch.manual_seed(0)
    network = get_peft_model(build_chatglm3(TINY, TOKENIZER.pieces), config)
    network.save_pretrained(folder)
    return folder, network.merge_and_unload()


def test_an_adapter_folder_on_chatglm3_equals_peft(host, model, clip, adapter_folder):
    folder, network = adapter_folder
    path = str(folder / "adapter_model.safetensors")
    _, patched, _, report = host.lora.apply_lora(model, clip, path, 1.0, 1.0)
    assert report == f"{TINY.layers} of {TINY.layers} modules matched (0 of the UNet, {TINY.layers} of ChatGLM3)"
    before = run(clip)
    for found, expected, plain in zip(run(patched), encode(network, [TOKENIZER.encode(PROMPT).ids]), before):
        assert relative_error(found, expected) <= TOLERANCE
        assert relative_error(found, plain) > 10 * TOLERANCE
    assert all(torch.equal(*states) for states in zip(run(clip), before))


@pytest.mark.parametrize("prefix", ["text_encoder.", "text_encoders.transformer.", "lora_te_", "lora_te1_", ""])
def test_every_prefix_of_the_text_encoder(host, model, clip, prefix):
    names = host.lora.unet_modules(model) | host.lora.encoder_modules(clip)

    module = "encoder.layers.1.mlp.dense_4h_to_h"
    name = prefix + (module.replace(".", "_") if prefix.endswith("_") else module)
    pair = {"lora_A": torch.zeros(RANK, TINY.ffn), "lora_B": torch.zeros(TINY.hidden, RANK)}
    converted = rename_lora({f"{name}.{part}.weight": matrix for part, matrix in pair.items()}, names, {})
    assert list(converted.tensors) == [
        f"text_encoders.transformer.{module}.{part}.weight" for part in ("lora_down", "lora_up")
    ]


@pytest.mark.parametrize("weight_dtype", ["int8", "int4"])
def test_a_lora_reaches_a_packed_encoder(host, model, encoder_file, adapter_folder, weight_dtype):
    packed = host.loaders.load_text_encoder(encoder_file, weight_dtype)
    before = run(packed)
    path = str(adapter_folder[0] / "adapter_model.safetensors")
    _, patched, _, _ = host.lora.apply_lora(model, packed, path, 1.0, 1.0)
    assert relative_error(run(patched)[0], before[0]) > 1e-3
    assert all(torch.equal(*states) for states in zip(run(packed), before))


# ---- nothing changes ------------------------------------------------------------------------------------------------


def test_strength_zero_is_bit_equal_to_none(host, model, files, plain):
    assert torch.equal(sample(host, host.lora.apply_lora(model, None, files["diffusers"][0], 0.0, 0.0)[0]), plain)


@pytest.mark.beyond_loading
def test_the_model_is_as_before_fifty_times(short_collections, host, model, files):
    """With and without the LoRA in turn; the resident memory stays where it is after the first ten."""
    process, sizes = psutil.Process(), []
    first = [sample(host, model, steps=1), None]
    for _ in range(50):
        patched = host.lora.apply_lora(model, None, files["diffusers"][0], 1.0, 0.0)[0]
        latent = sample(host, patched, steps=1)
        first[1] = latent if first[1] is None else first[1]
        assert torch.equal(latent, first[1])
        assert torch.equal(sample(host, model, steps=1), first[0])
        gc.collect()
        sizes.append(process.memory_info().rss)
    assert max(sizes[10:]) <= 1.02 * sizes[10]


# ---- messages -------------------------------------------------------------------------------------------------------


def refused(host, model, clip, tensors, tmp_path) -> str:
    with pytest.raises(KolorsError) as failure:
        host.lora.apply_lora(model, clip, save(tensors, tmp_path / "wrong.safetensors"), 1.0, 1.0)
    assert f"wrong.safetensors in {tmp_path}" in str(failure.value)
    return str(failure.value)


def test_a_lora_of_flux_is_named(host, model, tmp_path):
    flux = {f"transformer.single_transformer_blocks.{i}.attn.to_q.lora_A.weight": torch.zeros(4, 8) for i in range(5)}
    message = refused(host, model, None, flux, tmp_path)
    assert "0 of its 5 modules matched (transformer.single_transformer_blocks.0.attn.to_q, " in message
    assert "and 2 more). Expected a LoRA for Kolors" in message


def test_a_lora_of_sd15_is_named(host, model, tmp_path):
    other = random_pairs(random_unet(Sizes(context=96)))
    tensors = written(other, kohya, ".lora_down.weight", ".lora_up.weight")
    message = refused(host, model, None, tensors, tmp_path)
    assert re.search(r"a LoRA for another model: \d+ of its \d+ modules have other shapes than here", message)
    assert "is [64, 96] instead of [64, 128]" in message


def test_other_models_are_named(host, model, unet, tmp_path):
    assert " is a Kolors UNet. Expected a LoRA" in refused(host, model, None, unet.state_dict(), tmp_path)


def test_a_lora_for_the_encoder_asks_for_the_clip(host, model, clip, adapter_folder, pairs, tmp_path):
    path = adapter_folder[0] / "adapter_model.safetensors"
    with pytest.raises(KolorsError, match=r"is a LoRA for the text encoder .* Connect the CLIP"):
        host.lora.apply_lora(model, None, str(path), 1.0, 1.0)
    both = written(pairs, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")
    both["text_encoder.encoder.layers.0.mlp.dense_4h_to_h.lora_A.weight"] = torch.zeros(RANK, TINY.ffn)
    both["text_encoder.encoder.layers.0.mlp.dense_4h_to_h.lora_B.weight"] = torch.zeros(TINY.hidden, RANK)
    save(both, tmp_path / "both.safetensors")
    report = host.lora.apply_lora(model, None, str(tmp_path / "both.safetensors"), 1.0, 1.0)[3]
    assert "some are for ChatGLM3: connect its CLIP" in report
    assert "left out" not in host.lora.apply_lora(model, clip, str(tmp_path / "both.safetensors"), 1.0, 1.0)[3]


def test_what_sdxls_encoders_would_take_is_counted(host, model, pairs, tmp_path, caplog):
    tensors = written(pairs, kohya, ".lora_down.weight", ".lora_up.weight")
    for index in range(4):
        tensors[f"lora_te1_text_model_encoder_layers_{index}_mlp_fc1.lora_down.weight"] = torch.zeros(4, 8)
    save(tensors, tmp_path / "sdxl.safetensors")
    with caplog.at_level(logging.INFO, logger="ComfyUI-Kolors"):
        report = host.lora.apply_lora(model, None, str(tmp_path / "sdxl.safetensors"), 1.0, 1.0)[3]
    assert report.startswith(f"{len(pairs)} of {len(pairs) + 4} modules matched")
    assert "; left out: lora_te1_text_model_encoder_layers_0_mlp_fc1, " in report
    assert f"[Kolors] LoRA sdxl.safetensors: {report}" in caplog.messages


def test_a_model_of_another_family_is_refused(host, files):
    with pytest.raises(KolorsError, match="expects a Kolors MODEL"):
        host.lora.apply_lora(SimpleNamespace(model=None), None, files["diffusers"][0], 1.0, 0.0)
