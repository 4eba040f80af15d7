"""The small trained Kolors, and one image drawn with it through a server."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import urllib.error
import urllib.parse
from pathlib import Path

from . import places, prepare
from .miniature import DEMO_ADAPTER, DEMO_CHECKPOINT, DEMO_TOWER
from .places import Setup
from .process import POLL_SECONDS, has_ended, tail
from .progress import SetupError, Step
from .server import Server, free_port, request, running_server

DEMO_PROMPT, NEUTRAL_PROMPT = "红苹果，黄色背景", "一张图"
DEMO_TEMPLATE = "Kolors-demo-with-the-miniature"  # of workflows/
DEMO_STEPS, DEMO_SIZE = 25, "128x128"  # what the miniature was trained for


def build_prompt(
    text: str, negative: str, seed: int, steps: int, size: tuple[int, int], image: str | None = None
) -> dict[str, dict]:
    """The workflow of the demo in ComfyUI's API format; `image` is a picture in the input folder."""

    def node(kind: str, title: str, **inputs: object) -> dict:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    model = ["checkpoint", 0]
    links = {"model": model, "positive": ["text", 0], "negative": ["negative", 0], "latent_image": ["size", 0]}
    sampling = {"seed": seed, "steps": steps, "cfg": 4.0, "sampler": "euler", "denoise": 1.0}
    prompt = {
        "checkpoint": node("KolorsCheckpointLoader", "Load Checkpoint", ckpt_name=DEMO_CHECKPOINT),
        "text": node("KolorsPromptEncode", "Prompt", clip=["checkpoint", 1], text=text),
        "negative": node("KolorsPromptEncode", "Negative prompt", clip=["checkpoint", 1], text=negative),
        "size": node("EmptyLatentImage", "Size", width=size[0], height=size[1], batch_size=1),
        "sample": node("KolorsKSampler", "Sampler", **links, **sampling),
        "decode": node("VAEDecode", "Decode", samples=["sample", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", "Save", images=["decode", 0], filename_prefix="kolors-demo"),
    }
    if image:
        links = {"model": model, "ipadapter": ["adapter", 0], "clip_vision": ["tower", 0], "image": ["image", 0]}
        prompt |= {
            "image": node("LoadImage", "Picture", image=image),
            "tower": node("CLIPVisionLoader", "Load CLIP Vision", clip_name=DEMO_TOWER),
            "adapter": node("KolorsIPAdapterLoader", "Load IP-Adapter", ipadapter_name=DEMO_ADAPTER),
            "apply": node("KolorsIPAdapterApply", "IP-Adapter", **links, weight=1.0, start_at=0.0, end_at=1.0),
        }
        prompt["sample"]["inputs"]["model"] = ["apply", 0]
    return prompt


def put_image(setup: Setup, image: Path) -> str:
    """Copies a picture into ComfyUI's input folder; returns its name there."""
    if not image.is_file():
        raise SetupError(f"--image {image}: no such file; expected a picture, such as a PNG or JPEG.")
    name = f"demo{image.suffix}"
    shutil.copyfile(image, setup.base / "input" / name)
    return name


def draw(server: Server, step: Step, prompt: dict[str, dict]) -> bytes:
    """Queues a workflow, follows it to its end and returns the PNG that it saved."""
    return view(server, saved_image(follow(server, step, prompt), prompt))


def follow(server: Server, step: Step, prompt: dict[str, dict]) -> dict:
    """Queues a workflow, follows it to its end and returns its entry in the history."""
    prompt_id = queue_prompt(server, prompt)
    while not has_ended(server.process, POLL_SECONDS):
        step.tick("".join(tail(server.log, 1)))
        try:
            history = json.loads(request(f"{server.url}/history/{prompt_id}"))
        except OSError:
            continue  # busy; if the server has ended, the loop sees it
        if prompt_id in history:
            return history[prompt_id]
    raise server.ended("drawing")


def view(server: Server, image: dict[str, str]) -> bytes:
    """A saved image, by what `saved_image` says of it."""
    return request(f"{server.url}/view?{urllib.parse.urlencode(image)}")


def queue_prompt(server: Server, prompt: dict[str, dict]) -> str:
    """Queues a workflow and returns its id. Raises SetupError with ComfyUI's reasons if it refuses."""
    try:
        return json.loads(request(f"{server.url}/prompt", {"prompt": prompt}))["prompt_id"]
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
        reasons = rejection_reasons(json.loads(error.read()), prompt)
        raise SetupError("\n    ".join(["ComfyUI refused the workflow:", *reasons, f"Its log: {server.log}"])) from None


def rejection_reasons(answer: dict, prompt: dict[str, dict]) -> list[str]:
    """ComfyUI's answer to an invalid workflow, as lines of text."""
    found = [("Workflow", answer["error"])]
    for key, node in answer.get("node_errors", {}).items():
        found += [(prompt[key]["_meta"]["title"], error) for error in node["errors"]]
    return [f"{title}: {error['message']} {error.get('details', '')}".rstrip() for title, error in found]


def saved_image(entry: dict, prompt: dict[str, dict], key: str | None = None) -> dict[str, str]:
    """The address of the first saved image in an entry of the history, or of the first that the node `key` saved.

    Raises SetupError with a failed node's message.
    """
    status = entry.get("status", {})
    for event, data in status.get("messages", []):
        if event == "execution_error":
            title = prompt[data["node_id"]]["_meta"]["title"]
            reason = f"{data['exception_type']}: {data['exception_message'].strip()}"
            raise SetupError(f'The node "{title}" ({data["node_type"]}) failed with {reason}')
    outputs = entry.get("outputs", {})
    for output in outputs.values() if key is None else [outputs.get(key, {})]:
        for image in output.get("images", []):
            return {key: image[key] for key in ("filename", "subfolder", "type")}
    raise SetupError(f"ComfyUI ended the workflow without an image; its status: {json.dumps(status)}")


def image_size(text: str) -> tuple[int, int]:
    """`512x768` as (width, height) in pixels."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(64 <= side <= 4096 and side % 8 == 0 for side in size):
        expected = "WIDTHxHEIGHT, both a multiple of 8 from 64 to 4096"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}; write for example 512x768")
    return size


def demo_options(parser: argparse.ArgumentParser) -> None:
    what = f"what to draw, in Chinese or English (default: {DEMO_PROMPT}; with --image: {NEUTRAL_PROMPT})"
    default, out = "default: %(default)s", places.DEV / "base" / "output" / "demo.png"
    parser.add_argument("--prompt", metavar="TEXT", help=what)
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture to draw something like (IP-Adapter)")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what to avoid (default: nothing)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help=default)
    parser.add_argument("--steps", type=int, default=DEMO_STEPS, metavar="N", help=default)
    parser.add_argument("--size", type=image_size, default=DEMO_SIZE, metavar="WxH", help=f"pixels; {default}")
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help="the PNG")


def run_demo(args: argparse.Namespace) -> int:
    setup, progress = prepare.set_up(args, draws=True, more=3)
    image = put_image(setup, args.image) if args.image else None
    text = args.prompt or (NEUTRAL_PROMPT if image else DEMO_PROMPT)
    prompt = build_prompt(text, args.negative, args.seed, args.steps, args.size, image)
    with running_server(setup, progress, free_port()) as server, progress.step("Image") as step:
        picture = draw(server, step, prompt)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(picture)
    print(args.out.resolve())
    return 0
