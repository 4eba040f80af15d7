"""Packages that weight prompts their own way or bring more of them to the attention, unmodified, on our CLIP and MODEL.

Only with checkouts of them, which KOLORS_PROMPT_PACKS names, separated as in PATH: comfyui-prompt-control
and ComfyUI_ADV_CLIP_emb. tests/host/test_prompt_tokens.py and tests/host/test_extra_prompts.py have code
of our own that does as they do.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import servers
import torch
from client import KolorsGraph, PromptError, distance
from comfyui_kolors.demo import random_models

CHECKOUTS = [Path(path).resolve() for path in os.environ.get("KOLORS_PROMPT_PACKS", "").split(os.pathsep) if path]
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not CHECKOUTS, reason="no such packages: set KOLORS_PROMPT_PACKS to checkouts of them"),
]

ROUNDING = 1e-5  # relative L2: float32 sums in another order
WEIGHTED, PLAIN = "a (red:1.4) apple, (yellow:0.7) background", "a red apple, yellow background"
OTHER = "a small blue bird in a green tree"
STYLES = ("comfy", "perp", "A1111", "compel", "comfy++", "down_weight")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("packs")
    random_models.write(base / "models", random_models.TINY)
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTEST_CURRENT_TEST")  # with which prompt-control brings no nodes
            client = stack.enter_context(servers.running(base, [servers.ROOT, *CHECKOUTS]))
        yield client


def draw(server, node="CLIPTextEncode", text=PLAIN, **inputs):
    """The latent of a prompt that `node` encodes."""
    if node not in server.request("/object_info"):
        pytest.skip(f"no {node}: add its package to KOLORS_PROMPT_PACKS")
    graph = KolorsGraph()
    return server.latent(graph, graph.sample(graph.add(node, clip=graph.clip, text=text, **inputs)))


@pytest.mark.parametrize("normalization", ["none", "mean", "length", "length+mean"])
@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_exact_without_weights_and_has_an_effect_with_them(server, style, normalization):
    def styled(text):
        return draw(server, "PCTextEncode", f"STYLE({style},{normalization}) {text}")

    assert distance(styled(PLAIN), draw(server, text=PLAIN)) <= ROUNDING
    if style != "down_weight":  # which with numpy 2 masks the first token alone, of any encoder
        assert distance(styled(WEIGHTED), draw(server, text=PLAIN)) > ROUNDING
    if (style, normalization) == ("comfy", "none"):
        assert torch.equal(styled(WEIGHTED), draw(server, text=WEIGHTED))


def test_the_weight_of_the_encoder_counts(server):
    found = draw(server, "PCTextEncode", f"{PLAIN} TE_WEIGHT(chatglm3=0.5)")
    assert torch.equal(found, draw(server, "PCTextEncode", f"{PLAIN} TE_WEIGHT(all=0.5)"))
    assert distance(found, draw(server)) > ROUNDING


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("PCTextEncode", {"text": "a [CUT:red apple:red] on yellow"}, "such as CUT"),
        (
            "BNK_CLIPTextEncodeAdvanced",
            {"token_normalization": "none", "weight_interpretation": "comfy"},
            "'CLIP Text Encode' or 'Kolors Prompt Encode'",
        ),
    ],
)
def test_what_cannot_work_says_so(server, node, inputs, message):
    with pytest.raises(PromptError, match=message):
        draw(server, node, **inputs)


@pytest.mark.parametrize(("other", "same"), [(PLAIN, True), (OTHER, False)])
def test_attention_couple_changes_what_its_prompt_changes(server, other, same):
    found = draw(server, "PCTextEncode", f"{PLAIN} FILL() COUPLE(0.5 1) {other}")
    assert (distance(found, draw(server)) <= ROUNDING) is same
