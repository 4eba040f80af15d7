"""devtools/gallery.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.cli import main
from comfyui_kolors.devtools.gallery import GALLERY_PICTURE_PROMPTS, GALLERY_PROMPTS, GALLERY_SEEDS
from comfyui_kolors.devtools.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def test_gallery_draws_every_prompt_and_picture_and_joins_them(setup, tmp_path, monkeypatch):
    (setup.base / "input").mkdir()
    drawn, joined = [], []

    def draw(server, step, prompt):
        image = prompt.get("image", {}).get("inputs", {}).get("image")
        shown = (setup.base / "input" / image).read_text() if image else None
        drawn.append((prompt["text"]["inputs"]["text"], prompt["sample"]["inputs"]["seed"], shown))
        return f"{drawn[-1][0]} {drawn[-1][1]}".encode()

    monkeypatch.setattr("comfyui_kolors.devtools.prepare.set_up", lambda args, **more: (setup, Progress(3)))
    monkeypatch.setattr("comfyui_kolors.devtools.demo.draw", draw)
    monkeypatch.setattr(
        "comfyui_kolors.devtools.prepare.run_here", lambda setup, *arguments: joined.append(arguments) or 0
    )
    for _ in range(2):  # what an earlier run left is removed
        drawn.clear()
        assert main(["gallery", "--out", str(tmp_path / "out")]) == 0
    prompts, seeds, others = GALLERY_PROMPTS, GALLERY_SEEDS, GALLERY_PICTURE_PROMPTS
    assert drawn[: len(prompts) * len(seeds)] == [(text, seed, None) for text in prompts for seed in seeds]
    pictures = [(text, seed, f"{prompt} 1") for prompt in prompts[::2] for seed, text in enumerate(others, 1)]
    assert drawn[len(prompts) * len(seeds) :] == pictures
    script, folder, out = joined[-1]
    assert script.is_file() and out == tmp_path / "out"
    assert len(list((folder / "prompts").iterdir())) == len(prompts) * len(seeds)
    assert len(list((folder / "pictures").iterdir())) == len(pictures) + len(prompts[::2])


@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
def test_the_readmes_name_the_prompts_of_the_gallery(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert [prompt for prompt in GALLERY_PROMPTS + GALLERY_PICTURE_PROMPTS if prompt not in text] == []
