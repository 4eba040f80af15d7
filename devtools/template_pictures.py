"""The pictures of the templates: each template's own graph, run with the trained miniature, and cards made of them."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from . import demo, folders, places, prepare
from .cards import CARDS
from .cards.card import ALWAYS, MINIATURE, TRAINED, Card, Changes, Input, Run
from .cards.graphs import change, find_node, masked, to_prompt, with_miniature
from .miniature import make_tower
from .places import Setup
from .process import run_logged
from .progress import Progress, SetupError, Step, digest
from .server import Server, free_port, request, running_server

WORKFLOWS = places.ROOT / "workflows"
WORK = places.DEV / "pictures"
MODELS = places.ROOT / "demo" / "models" / "kolors-demo"
TEXT_TO_IMAGE = "Kolors-text-to-image"
TRAINING = places.ROOT / "demo" / "train" / "for_pictures.py"


class Artist:
    """Draws with a running server; what was drawn once is not drawn again."""

    def __init__(self, setup: Setup, server: Server, step: Step) -> None:
        self.setup, self.server, self.step = setup, server, step
        self.declared = json.loads(request(f"{server.url}/object_info"))
        self.inputs: dict[Input, str] = {}
        self.entries: dict[str, dict] = {}  # of the history, by the prompt

    def run(self, template: str, changes: Changes, output: str = "SaveImage") -> bytes:
        """The image of the first node of type `output` in a run of the template."""
        workflow = json.loads((WORKFLOWS / f"{template}.json").read_text(encoding="utf-8"))
        prompt = change(with_miniature(to_prompt(workflow, self.declared)), ALWAYS, must=False)
        values = {name: self.name_of(value) if isinstance(value, Input) else value for name, value in changes.items()}
        return self.image(change(prompt, values), output)

    def image(self, prompt: dict[str, dict], output: str = "SaveImage") -> bytes:
        """A prompt runs once: a server that has done it already would say nothing of its images."""
        key = find_node(prompt, output)
        if key is None:
            raise SetupError(f"The template has no node {output}; correct devtools/cards.")
        known = json.dumps(prompt)
        if known not in self.entries:
            self.entries[known] = demo.follow(self.server, self.step, prompt)
        return demo.view(self.server, demo.saved_image(self.entries[known], prompt, key))

    def name_of(self, image: Input) -> str:
        """The name of an image in the input folder, which is drawn at its first use."""
        if image not in self.inputs:
            name = f"kolors-pictures-{len(self.inputs)}.png"
            file = self.setup.base / "input" / name
            file.write_bytes(
                self.run(TEXT_TO_IMAGE, {"CLIPTextEncode.text": image.prompt, "KSampler.seed": image.seed})
            )
            if image.mask:
                file.write_bytes(self.image(masked(name, image.mask)))
            self.inputs[image] = name
        return self.inputs[image]

    def draw_card(self, template: str, card: Card, folder: Path) -> None:
        """Every image of a card, as 0.png, 1.png … in a folder."""
        folder.mkdir(parents=True)
        if card.after:
            self.run(card.after, CARDS[card.after].changes)
        for number, shown in enumerate(card.shown):
            source = shown.source
            if isinstance(source, Run):
                self.step.tick(template)
                image = self.run(template, {**card.changes, **source.changes}, source.output)
            elif isinstance(source, Input):
                image = (self.setup.base / "input" / self.name_of(source)).read_bytes()
            else:
                continue
            (folder / f"{number}.png").write_bytes(image)


def needed(names: Iterable[str]) -> list[str]:
    """Those of the small models that the cards of some templates take."""
    changes = (each for name in names for each in (CARDS[name].changes, *(run.changes for run in CARDS[name].runs())))
    files = {value for each in changes for value in each.values() if isinstance(value, str)}
    return [kind for kind, (_, file) in TRAINED.items() if file in files]


def train(setup: Setup, progress: Progress, kind: str) -> None:
    """One of the small models, which takes some minutes at the first time; after an interruption it goes on."""
    path, inputs = setup.base.joinpath("models", *TRAINED[kind]), digest(TRAINING.read_text(encoding="utf-8"))
    stamp = WORK / "stamps" / kind
    if not path.is_file():
        stamp.unlink(missing_ok=True)

    def work(step: Step) -> None:
        log, todo = places.LOGS / f"train-{kind}.log", "Its log says why; run this again to go on."
        run_logged(step, [setup.python, TRAINING, kind, path], log, todo)

    progress.once(f"Training of {kind}", stamp, inputs, work)


def own_base(setup: Setup, progress: Progress) -> Setup:
    """A base directory of its own, with the miniature's files in the folders of the published ones."""
    base = WORK / "base"
    for name in ("input", "output"):  # the names of what is saved begin anew, as the templates expect
        shutil.rmtree(base / name, ignore_errors=True)
    folders.make_base(progress, base)
    for file in MODELS.glob("*/*.safetensors"):
        for kind, name in MINIATURE.items():
            if file.name == name:
                shutil.copyfile(file, base / "models" / kind / name)
    setup = replace(setup, base=base)
    make_tower(setup, progress)
    return setup


def draw(setup: Setup, progress: Progress, names: Iterable[str], out: Path = WORKFLOWS) -> int:
    """Draws the images of some templates' cards and makes the cards, in the folder `out`.

    The number of steps that it shows is `steps`.
    """
    setup, images = own_base(setup, progress), WORK / "images"
    for kind in needed(names):
        train(setup, progress, kind)
    with running_server(setup, progress, free_port()) as server, progress.step("Images") as step:
        artist = Artist(setup, server, step)
        for name in names:
            shutil.rmtree(images / name, ignore_errors=True)
            artist.draw_card(name, CARDS[name], images / name)
    return prepare.run_here(setup, "-m", "devtools.cards.draw", images, out, *names)


def steps(names: Iterable[str]) -> int:
    return 5 + len(needed(names))


def pictures_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="TEMPLATE", help="which (default: all)")
    parser.add_argument("--out", type=Path, default=WORKFLOWS, metavar="DIR", help="where to (default: workflows)")


def run_pictures(args: argparse.Namespace) -> int:
    names = args.names or sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    if unknown := [name for name in names if name not in CARDS]:
        raise SetupError(f"No card for {', '.join(unknown)}. Those in devtools/cards: {', '.join(CARDS)}.")
    setup, progress = prepare.set_up(args, more=steps(names))
    return draw(setup, progress, names, args.out)
