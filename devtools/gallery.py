"""The pictures of the READMEs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from . import demo, places, prepare
from .server import free_port, running_server

# The pictures of the READMEs: each prompt from each seed; then every other prompt's first picture as a prompt itself.
GALLERY = places.ROOT / "demo" / "gallery"
GALLERY_SEEDS = range(1, 5)
GALLERY_PROMPTS = (
    "红苹果，黄色背景",
    "a rocket on a purple background",
    "黑色背景上的小猫",
    "a picture of a penguin on a pink background",
    "一张向日葵的图，蓝色背景",
    "crab, white background",
    "绿色背景，机器人",
    "a guitar on a red background",
)
GALLERY_PICTURE_PROMPTS = (
    "一张图", "a picture", "红色背景", "blue background", "黑色背景", "green background", "粉色背景",
)  # fmt: skip


def gallery_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=GALLERY, metavar="DIR", help="where to (default: demo/gallery)")


def run_gallery(args: argparse.Namespace) -> int:
    """Draws every picture of the gallery, whatever it shows, and joins them to two sheets."""
    setup, progress = prepare.set_up(args, draws=True, more=3)
    folder, size = places.DEV / "gallery", demo.image_size(demo.DEMO_SIZE)
    shutil.rmtree(folder, ignore_errors=True)
    for sheet in ("prompts", "pictures"):
        (folder / sheet).mkdir(parents=True)
    with running_server(setup, progress, free_port()) as server, progress.step("Images") as step:

        def save(file: Path, text: str, seed: int, image: str | None = None) -> None:
            file.write_bytes(demo.draw(server, step, demo.build_prompt(text, "", seed, demo.DEMO_STEPS, size, image)))

        for column, text in enumerate(GALLERY_PROMPTS):
            for seed in GALLERY_SEEDS:
                save(folder / "prompts" / f"{seed}-{column}.png", text, seed)
        for row in range(0, len(GALLERY_PROMPTS), 2):
            first = folder / "prompts" / f"1-{row}.png"
            image = demo.put_image(setup, first)
            shutil.copyfile(first, folder / "pictures" / f"{row}-0.png")
            for column, text in enumerate(GALLERY_PICTURE_PROMPTS, 1):
                save(folder / "pictures" / f"{row}-{column}.png", text, column, image)
    return prepare.run_here(setup, places.ROOT / "demo" / "join_pictures.py", folder, args.out)
