"""The text encoder's files and storages on a real server, and prompts kept in files."""

from __future__ import annotations

import json

import pytest
import torch
from client import ENCODER, PROMPT, KolorsGraph, PromptError, distance
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

MATRICES = ("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight", "dense_4h_to_h.weight")


@pytest.fixture(scope="module")
def folder(server):
    """models/text_encoders."""
    return server.base / "models" / "text_encoders"


def graph_with(encoder, weight_dtype="default"):
    graph = KolorsGraph(encoder=encoder)
    graph[graph.clip[0]]["inputs"]["weight_dtype"] = weight_dtype
    return graph


def draw(server, encoder=ENCODER, weight_dtype="default"):
    graph = graph_with(encoder, weight_dtype)
    return server.latent(graph, graph.sample())


@pytest.mark.parametrize("weight_dtype", ["int8", "int4"])
def test_a_packed_encoder_draws_and_is_saved_as_one_small_file(server, folder, plain, weight_dtype):
    graph = graph_with(ENCODER, weight_dtype)
    graph.add("CLIPSave", clip=graph.clip, filename_prefix=f"text_encoders/{weight_dtype}")
    latent = server.latent(graph, graph.sample())
    assert 0 < distance(latent, plain) < 0.5
    (file,) = (server.base / "output/text_encoders").glob(f"{weight_dtype}_*.safetensors")
    assert file.stat().st_size < (folder / ENCODER).stat().st_size / 1.5
    saved = load_file(file)
    assert "spiece_model" in saved
    assert {saved[key].dtype for key in saved if key.endswith(MATRICES)} == {torch.int8}
    file.replace(folder / f"saved-{weight_dtype}.safetensors")
    assert torch.equal(draw(server, f"saved-{weight_dtype}.safetensors"), latent)


@pytest.fixture(scope="module")
def shards(folder):
    """The encoder in two shards, as Hugging Face publishes it."""
    state_dict = load_file(folder / ENCODER)
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    parts = {name: {} for name in names}
    for index, (key, tensor) in enumerate(sorted(state_dict.items())):
        parts[names[index % 2]][key] = tensor
    (folder / "sharded").mkdir(exist_ok=True)
    for name, part in parts.items():
        save_file(part, folder / "sharded" / name)
    weight_map = {key: name for name, part in parts.items() for key in part}
    (folder / "sharded/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return names


@pytest.mark.parametrize("pick", ["model.safetensors.index.json", "model-00002-of-00002.safetensors"])
def test_shards_are_picked_by_their_index_or_by_one_of_them(server, shards, plain, pick):
    assert torch.equal(draw(server, f"sharded/{pick}"), plain)


def test_a_missing_and_a_truncated_shard_are_named_and_the_queue_goes_on(server, folder, shards, plain):
    path = folder / "sharded" / shards[1]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(PromptError, match=rf"{shards[1]} in .* is a damaged safetensors file") as error:
            draw(server, "sharded/model.safetensors.index.json")
        assert error.value.node == "KolorsChatGLM3Loader"
        path.unlink()
        with pytest.raises(PromptError, match=rf"belongs to a model of 2 files; missing there: {shards[1]}"):
            draw(server, "sharded/model.safetensors.index.json")
    finally:
        path.write_bytes(content)
    assert torch.equal(draw(server), plain)


def test_a_gguf_of_another_model_is_named_and_the_queue_goes_on(server, folder, plain):
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    writer = gguf.GGUFWriter(folder / "llama.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(PromptError, match=r"llama.gguf in .* GGUF file of the model family llama"):
        draw(server, "llama.gguf")
    assert torch.equal(draw(server), plain)


def test_prompts_are_saved_and_used_without_the_encoder(server, plain):
    graph = KolorsGraph()
    for name, text in (("positive", PROMPT), ("negative", "")):
        graph.add(
            "KolorsConditioningSave",
            conditioning=graph.encode(text),
            filename_prefix=f"conditioning/{name}",
            precision="fp32",
        )
    server.run(graph)
    without = KolorsGraph(encoder="gone.safetensors")
    links = {
        name: without.add(
            "KolorsConditioningLoad", conditioning_name=f"conditioning/{name}_00001_.safetensors [output]"
        )
        for name in ("positive", "negative")
    }
    assert torch.equal(server.latent(without, without.sample(**links)), plain)
    info = server.request("/object_info/KolorsConditioningLoad")["KolorsConditioningLoad"]
    listed = info["input"]["required"]["conditioning_name"][0]
    saved = {f"conditioning/{name}_00001_.safetensors [output]" for name in links}
    assert saved <= set(listed) and listed == sorted(listed)


def test_a_conditioning_that_is_gone_is_refused(server, plain):
    graph = KolorsGraph()
    positive = graph.add("KolorsConditioningLoad", conditioning_name="conditioning/gone.safetensors [output]")
    with pytest.raises(PromptError, match="not in list"):
        server.latent(graph, graph.sample(positive=positive))
    assert torch.equal(draw(server), plain)
