"""What a column of the table sets."""

from __future__ import annotations

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.render.inputs import as_value, find_targets, list_inputs


def targets(graph: dict, *columns: str) -> dict[str, list[str]]:
    return {name: [str(each) for each in found] for name, found in find_targets(columns, graph).items()}


def node(kind: str, title: str = "", **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


@pytest.fixture
def custom() -> dict:
    """A workflow whose sampler gets everything from other nodes."""
    return {
        "1": node("UNETLoader", unet_name="kolors"),
        "2": node("CLIPLoader", clip_name="chatglm3"),
        "3": node("PrimitiveString", "Words", value="a dog"),
        "4": node("KolorsPromptEncode", "Positive", clip=["2", 0], text=["3", 0], width=0, height=0),
        "5": node("KolorsPromptEncode", "Negative", clip=["2", 0], text="blurred"),
        "6": node(
            "ControlNetApplyAdvanced", positive=["4", 0], negative=["5", 0], control_net=["14", 0], image=["15", 0]
        ),
        "7": node("CFGGuider", model=["1", 0], positive=["6", 0], negative=["6", 1], cfg=5),
        "8": node("RandomNoise", noise_seed=3),
        "9": node("BasicScheduler", model=["1", 0], scheduler="normal", steps=20, denoise=1),
        "10": node("PrimitiveInt", value=768),
        "11": node("EmptyLatentImage", width=["10", 0], height=512, batch_size=1),
        "12": node(
            "SamplerCustomAdvanced",
            noise=["8", 0],
            guider=["7", 0],
            sampler=["16", 0],
            sigmas=["9", 0],
            latent_image=["11", 0],
        ),
        "14": node("ControlNetLoader", control_net_name="canny"),
        "15": node("LoadImage", "Edges", image="edges.png"),
        "16": node("KSamplerSelect", sampler_name="euler"),
    }


def test_known_names_are_found_from_the_sampler(graph, custom):
    names = ("prompt", "negative", "seed", "steps", "cfg", "width", "height")
    plain = ["2.text", "3.text", "5.seed", "5.steps", "5.cfg", "4.width", "4.height"]
    assert targets(graph, *names) == {name: [each] for name, each in zip(names, plain)}
    through = ["3.value", "5.text", "8.noise_seed", "9.steps", "7.cfg", "10.value", "11.height"]
    assert targets(custom, *names) == {name: [each] for name, each in zip(names, through)}


def test_both_texts_of_an_sdxl_node_are_set(graph):
    graph["2"] = node("CLIPTextEncodeSDXL", clip=["1", 1], text_g="a", text_l="a", width=1024)
    assert targets(graph, "prompt") == {"prompt": ["2.text_g", "2.text_l"]}


def test_a_second_pass_shares_prompt_and_size(graph):
    graph["8"] = node("LatentUpscale", samples=["5", 0], width=2048, height=2048)
    graph["9"] = {**graph["5"], "inputs": {**graph["5"]["inputs"], "latent_image": ["8", 0]}}
    assert targets(graph, "prompt", "width", "seed") == {
        "prompt": ["2.text"],
        "width": ["4.width"],
        "seed": ["5.seed", "9.seed"],
    }
    with pytest.raises(KolorsError, match=r"'steps' could set several nodes: 5.steps \(KSampler\), 9.steps"):
        find_targets(["steps"], graph)


def test_a_node_is_named_by_id_or_title(graph, custom):
    assert targets(graph, "5.denoise", "Prompt.text", "SaveImage.filename_prefix") == {
        "5.denoise": ["5.denoise"],
        "Prompt.text": ["2.text"],
        "SaveImage.filename_prefix": ["7.filename_prefix"],
    }
    assert find_targets(["Edges.image"], custom)["Edges.image"][0].kind == "image"


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("prompts", "'prompts' sets nothing in this workflow. Known here: prompt, negative, seed, steps, cfg, width"),
        ("8.seed", "sets nothing"),
        ("CLIPTextEncode.text", "could mean 2 nodes: 2.text, 3.text"),
        ("5.sampler", "node 5, 'KSampler', has no input 'sampler'. It has model, positive"),
        ("5.positive", "connected to node 2, 'Prompt'"),
    ],
)
def test_a_column_that_sets_nothing_is_an_error_with_what_there_is(graph, column, said):
    with pytest.raises(KolorsError) as error:
        find_targets([column], graph)
    assert said in str(error.value)


def test_what_a_workflow_does_not_have_is_said(graph):
    none = {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    with pytest.raises(KolorsError, match=r"needs a sampler, and this workflow has none.*Known here: 1.image"):
        find_targets(["prompt"], none)
    assert list_inputs(none) == ["1.image", "2.filename_prefix"]
    graph["3"] = node("ConditioningZeroOut", conditioning=["2", 0])
    with pytest.raises(KolorsError, match="no text reaches the sampler's negative"):
        find_targets(["negative"], graph)
    graph["4"] = node("VAEEncode", pixels=["8", 0], vae=["1", 2])
    graph["8"] = node("LoadImage", image="a.png")
    with pytest.raises(KolorsError, match="the size comes from an image"):
        find_targets(["width"], graph)
    graph["2"]["inputs"]["text"] = ["9", 0]
    graph["9"] = node("StringConcatenate", string_a="a", string_b="b")
    with pytest.raises(KolorsError, match="put together by node 9"):
        find_targets(["prompt"], graph)


def test_two_columns_do_not_set_the_same(graph):
    with pytest.raises(KolorsError, match=r"'prompt' and 'Prompt.text' both set 2.text"):
        find_targets(["prompt", "Prompt.text"], graph)


def test_cells_become_values_of_the_inputs_kind():
    assert [as_value(cell, "whole") for cell in ("7", 7.0, " 8 ")] == [7, 7, 8]
    assert [as_value(cell, "number") for cell in ("7.5", 2)] == [7.5, 2]
    assert [as_value(cell, "truth") for cell in ("TRUE", "0", False)] == [True, False, False]
    assert as_value("18446744073709551615", "whole") == 2**64 - 1
    for cell, kind in (("7.5", "whole"), (-1, "whole"), ("x", "number"), ("nan", "number"), (True, "whole"),
                       ("perhaps", "truth"), (3, "text"), (None, "text")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{cell!r} is not "):
            as_value(cell, kind)
