"""Image prompts as values in graphs: encoded, combined, saved, loaded, applied. tests/host proves what is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import vision_tower
from adapters import FACE, PictureGraph, draw
from client import Link, PromptError, distance, messages
from comfyui_kolors.kolors_core.files.conditioning import save_conditioning
from comfyui_kolors.kolors_core.files.image_prompt import EMBEDS, STATES
from other_models import CreateFile, lora
from safetensors.torch import load_file, save, save_file

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("styled")]

WIDTH = vision_tower.SMALL_WIDTH
NAME = "changed.safetensors"


def saved(server, change, prefix: str, precision: str = "fp32") -> Path:
    """The file of the image prompt that `change` makes in a graph."""
    graph = PictureGraph()
    graph.add(
        "KolorsImagePromptSave", image_prompt=change(graph), filename_prefix=f"image_prompts/{prefix}",
        precision=precision,
    )  # fmt: skip
    server.run(graph)
    return max((server.base / "output/image_prompts").glob(f"{prefix}*"), key=lambda file: file.stat().st_mtime_ns)


def loaded(graph, name: str, **inputs) -> Link:
    return graph.add("KolorsImagePromptLoad", image_prompt_name=name, **inputs)


def with_file(name: str):
    """A change for `draw` and `refuse`."""
    return lambda graph: graph.apply_prompt(loaded(graph, name))


@pytest.fixture
def given(server):
    """Writes a file into the input folder, and removes it after the test."""
    paths = []

    def write(name: str, content) -> str:
        path = server.base / "input" / name
        path.parent.mkdir(exist_ok=True)
        paths.append(path)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".ipadpt":
            torch.save(content, path)
        else:
            save_file(content, path)
        return name

    yield write
    for path in paths:
        path.unlink(missing_ok=True)


# ---- what it gives --------------------------------------------------------------------------------------------------


def test_encoded_and_applied_it_is_the_node_for_images(server, styled):
    assert torch.equal(draw(server, lambda graph: graph.apply_prompt(graph.encode_image())), styled)
    for changes in ({"weight_type": "ease out"}, {"end_at": 0.5}, {"image_batch": "one per latent"}):
        expected = draw(server, lambda graph, changes=changes: graph.apply(**changes))
        found = draw(server, lambda graph, changes=changes: graph.apply_prompt(graph.encode_image(), **changes))
        assert torch.equal(found, expected)
    mask, negative = (lambda graph: graph.mask(0.5, 50, 70)), (lambda graph: graph.picture("cloud"))
    expected = draw(server, lambda graph: graph.apply(attn_mask=mask(graph), image_negative=negative(graph)))
    assert torch.equal(
        draw(
            server,
            lambda graph: graph.apply_prompt(graph.encode_image(image_negative=negative(graph)), attn_mask=mask(graph)),
        ),
        expected,
    )


def test_another_weight_runs_the_apply_node_alone(server, styled):
    graph = PictureGraph()
    applied = graph.apply_prompt(graph.encode_image())
    latents = []
    for weight in (0.8, 0.35):
        graph[applied[0]]["inputs"]["weight"] = weight
        saved = server.save_latent(graph, graph.sample(model=applied))
        entry = server.run(graph)
        latents.append(server.read_latent(entry, saved))
    encoders = {node for node, content in graph.items() if content["class_type"] == "KolorsImagePromptEncode"}
    assert encoders <= set(messages(entry)["execution_cached"]["nodes"])
    assert applied[0] not in messages(entry)["execution_cached"]["nodes"]
    assert torch.equal(latents[0], styled) and distance(latents[1], styled) > 0.001


def test_concat_is_a_batch_and_every_method_gives_a_latent_of_its_own(server, styled):
    def combined(method, weight_1=1.0, weight_2=1.0):
        def change(graph):
            both = {"image_prompt_1": graph.encode_image("apple"), "image_prompt_2": graph.encode_image("boat")}
            weights = {"weight_1": weight_1, "weight_2": weight_2}
            return graph.apply_prompt(graph.add("KolorsImagePromptCombine", method=method, **both, **weights))

        return draw(server, change)

    def batch(graph):
        images = graph.add("ImageBatch", image1=graph.picture("apple"), image2=graph.picture("boat"))
        return graph.apply(image=images)

    info = server.request("/object_info/KolorsImagePromptCombine")["KolorsImagePromptCombine"]
    methods = info["input"]["required"]["method"][0]
    latents = {method: combined(method, 1.0, 0.5) for method in methods}
    assert len({latent.numpy().tobytes() for latent in [*latents.values(), styled]}) == len(methods) + 1 == 5
    assert torch.equal(combined("concat"), draw(server, batch))
    for method in methods:
        assert torch.equal(combined(method, 1.0, 0.0), styled)


def test_it_is_saved_and_used_without_the_vision_encoder(server, styled):
    path = saved(server, PictureGraph.encode_image, "apple")
    name = f"image_prompts/{path.name} [output]"
    graph = PictureGraph()
    graph.pop(graph.tower[0])
    latent = server.latent(graph, graph.sample(model=with_file(name)(graph)))
    assert torch.equal(latent, styled)
    half = saved(server, PictureGraph.encode_image, "half", "fp16")
    assert distance(draw(server, with_file(f"image_prompts/{half.name} [output]")), styled) <= 1e-4
    info = server.request("/object_info/KolorsImagePromptLoad")["KolorsImagePromptLoad"]
    listed = info["input"]["required"]["image_prompt_name"][0]
    assert name in listed and listed == sorted(listed)
    info = server.request("/object_info/KolorsConditioningLoad")["KolorsConditioningLoad"]
    assert name not in info["input"]["required"]["conditioning_name"][0]


def test_files_of_diffusers_and_ipadapter_plus_are_read(server, styled, given):
    negatives, images = load_file(saved(server, PictureGraph.encode_image, "others"))[EMBEDS]
    name = given("image_embeds.ipadpt", [torch.stack([negatives, images])])
    assert torch.equal(draw(server, with_file(name)), styled)
    name = given("IP_embeds_00001.ipadpt", images)
    found = draw(server, lambda graph: graph.apply_prompt(loaded(graph, name, clip_vision=graph.tower)))
    assert torch.equal(found, styled)


def test_one_saved_over_is_read_again_and_one_taken_away_is_named(server):
    latents = []
    for picture in ("apple", "boat", "apple"):
        saved(server, lambda graph, picture=picture: graph.encode_image(picture), "over").replace(
            server.base / "input" / NAME
        )
        latents.append(draw(server, with_file(NAME)))
    assert torch.equal(latents[0], latents[2]) and not torch.equal(latents[0], latents[1])
    (server.base / "input" / NAME).unlink()
    with pytest.raises(PromptError, match="not in list") as failure:
        draw(server, with_file(NAME))
    assert NAME in str(failure.value)


# ---- what is refused ------------------------------------------------------------------------------------------------


def states(kinds: int = 2, number: int = STATES, width: int = WIDTH) -> torch.Tensor:
    return torch.ones(kinds, 1, number, width)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.ipadpt", lambda: states()[0], ["without a negative", "Connect clip_vision"]),
        ("two.ipadpt", lambda: [states(), states()], ["the image prompts of 2 adapters"]),
        ("sdxl.ipadpt", lambda: states(number=257), ["[2, 1, 257, 64]", "not those of Kolors' vision encoder"]),
        ("nan.safetensors", lambda: {EMBEDS: states() * float("nan")}, ["a damaged image prompt", "Save it again"]),
        ("cut.safetensors", lambda: save({EMBEDS: states()})[:-9], ["damaged safetensors file", "Download it again"]),
        ("lora.ipadpt", lambda: lora("kohya"), ["is a LoRA", "Expected an image prompt"]),
    ],
)
def test_another_or_damaged_file_is_named(refuse, given, name, content, words):
    given(name, content())
    message = refuse(with_file(name), "KolorsImagePromptLoad")
    assert [word for word in [*words, name, "input"] if word not in message] == [], message


def test_a_file_with_code_is_named_and_not_executed(refuse, given, tmp_path):
    name = given("code.ipadpt", [states(), CreateFile(tmp_path / "canary")])
    message = refuse(with_file(name), "KolorsImagePromptLoad")
    assert name in message and "was not executed" in message
    assert not (tmp_path / "canary").exists()


def test_a_conditioning_is_not_among_the_choices(server, given):
    given("prompt.safetensors", b"")
    save_conditioning(server.base / "input/prompt.safetensors", [[torch.zeros(1, 2, 4), {}]])
    with pytest.raises(PromptError, match="not in list"):
        draw(server, with_file("prompt.safetensors"))


def test_states_of_another_width_are_named_by_the_apply_node(refuse, given):
    given("wide.safetensors", {EMBEDS: states(width=2 * WIDTH)})
    message = refuse(with_file("wide.safetensors"), "KolorsImagePromptApply")
    for word in ("plus.safetensors", f"width {WIDTH}", f"have {2 * WIDTH}", "if it came from a file", "336"):
        assert word in message, message


def test_a_face_adapter_is_named(refuse):
    def change(graph):
        adapter = graph.add("KolorsIPAdapterLoader", ipadapter_name=FACE)
        return graph.apply_prompt(graph.encode_image(), ipadapter=adapter)

    message = refuse(change, "KolorsImagePromptApply")
    for word in (FACE, "is a FaceID adapter", "Use 'Apply Kolors FaceID'"):
        assert word in message, message


@pytest.mark.parametrize(
    ("method", "weights", "words"),
    [("average", (1.0, -1.0), "add up to 0"), ("concat", (0.0, 0.0), "Both weights are 0")],
)
def test_weights_that_leave_nothing_are_named(refuse, method, weights, words):
    def change(graph):
        one = graph.encode_image()
        inputs = {"image_prompt_1": one, "image_prompt_2": one, "weight_1": weights[0], "weight_2": weights[1]}
        return graph.apply_prompt(graph.add("KolorsImagePromptCombine", method=method, **inputs))

    assert words in refuse(change, "KolorsImagePromptCombine")


@pytest.mark.parametrize("prefix", ["../../outside", "a/../../../outside"])
def test_a_file_is_not_written_outside_of_the_output_folder(server, prefix):
    graph = PictureGraph()
    graph.add("KolorsImagePromptSave", image_prompt=graph.encode_image(), filename_prefix=prefix, precision="fp32")
    with pytest.raises(PromptError) as failure:
        server.run(graph)
    assert (failure.value.kind, failure.value.node) == ("KolorsError", "KolorsImagePromptSave")
    assert prefix in str(failure.value) and "image_prompts/kolors" in str(failure.value)
    assert not list(server.base.parent.glob("outside*")) + list(server.base.glob("outside*"))
