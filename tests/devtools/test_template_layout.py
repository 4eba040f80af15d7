"""devtools/template_layout.py; the tests in a browser try what it writes."""

from __future__ import annotations

import json

from comfyui_kolors.devtools.template_layout import in_ascii, names_of_files, with_files


def test_the_files_that_templates_name_are_drawn_as_if_they_were_there():
    inner = {"nodes": [{"type": "VAELoader", "widgets_values": ["b.safetensors"]}]}
    templates = [
        {"nodes": [{"type": "VAELoader", "widgets_values": ["a.safetensors"]}, {"type": "KSampler"}]},
        {"nodes": [{"type": "KSampler", "widgets_values": [1, "euler"]}], "definitions": {"subgraphs": [inner]}},
        {"nodes": [{"type": "Odd", "widgets_values": {"text": "x"}}]},
    ]
    names = names_of_files(templates)
    assert names == {"VAELoader": {"a.safetensors", "b.safetensors"}, "KSampler": {"euler"}, "Odd": set()}
    info = {
        "VAELoader": {"input": {"required": {"vae_name": [["c.safetensors", "a.safetensors"], {}]}}},
        "KSampler": {"input": {"required": {"steps": ["INT", {}], "sampler_name": [["euler"]]}, "hidden": {}}},
        "Other": {"input": {"required": {"vae_name": [[]]}}},
    }
    told = with_files(info, names)
    assert told["VAELoader"]["input"]["required"]["vae_name"][0] == ["c.safetensors", "a.safetensors", "b.safetensors"]
    assert told["KSampler"]["input"]["required"] == {"steps": ["INT", {}], "sampler_name": [["euler"]]}
    assert told["Other"]["input"]["required"]["vae_name"] == [[]]


def test_a_subgraph_is_the_same_in_ascii():
    text = json.dumps({"prompt": '可图 \U0001f431 "é" \\n\n'}, ensure_ascii=False, indent=2)
    assert in_ascii(text).isascii() and json.loads(in_ascii(text)) == json.loads(text)
    assert in_ascii('[1, "a"]') == '[1, "a"]'
