"""devtools/templates.py."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from comfyui_kolors.devtools import places, prepare, templates
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.progress import Progress, SetupError

EVERY = sorted((places.ROOT / "workflows").glob("*.json"))


def test_templates_are_found_by_the_names_on_their_cards():
    assert set(EVERY) <= set(templates.find([]))
    assert templates.find([EVERY[1].stem]) == [EVERY[1]]
    with pytest.raises(SetupError, match=rf"There is no template nothing\. There are: .*{EVERY[0].stem}"):
        templates.find([EVERY[0].stem, "nothing"])


def test_a_template_may_ask_for_a_newer_comfyui(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.9.2"\n')
    for text, newer in (("Needs ComfyUI 0.25 or newer", True), ("Needs ComfyUI 0.9 or newer", False), ("none", False)):
        workflow = {"nodes": [{"type": "KSampler"}, {"type": "MarkdownNote", "widgets_values": [f"One. {text}."]}]}
        assert templates.needs_newer(workflow, tmp_path) is newer, text


def test_the_command_lays_them_out_on_a_server_with_the_newest_front_end(setup, monkeypatch):
    (setup.comfyui / "input").mkdir()
    (setup.comfyui / "input" / templates.EXAMPLE).write_text("picture")
    seen = {}

    @contextmanager
    def running_server(alone, progress, port, front_end):
        seen.update(base=alone.base, front_end=front_end, comfyui=alone.comfyui)
        seen["input"] = (alone.base / "input" / templates.EXAMPLE).read_text()
        seen["pack"] = (alone.base / "custom_nodes" / places.PACK_NAME).samefile(places.ROOT)
        yield SimpleNamespace(url="http://here")

    monkeypatch.setattr(prepare, "set_up", lambda args, **more: (setup, Progress(4)))
    monkeypatch.setattr(prepare, "run_here", lambda setup, *arguments: seen.update(arguments=arguments) or 3)
    monkeypatch.setattr(templates, "get_chromium", lambda python: None)
    monkeypatch.setattr(templates, "get_newest_front_end", lambda python, progress: "page")
    monkeypatch.setattr(templates, "running_server", running_server)
    monkeypatch.setattr(
        templates, "needs_newer", lambda workflow, comfyui: workflow == json.loads(EVERY[1].read_text("utf-8"))
    )
    assert main(["templates", EVERY[0].stem, EVERY[1].stem]) == 3
    assert seen["front_end"] == "page" and seen["comfyui"] == setup.comfyui
    assert seen["input"] == "picture" and seen["pack"] and seen["base"] != setup.base and not seen["base"].exists()
    assert seen["arguments"] == ("-m", "devtools.template_layout", "http://here", EVERY[0])
