"""`python3 dev.py neighbours`: other packs beside this one, one after the other and all at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .. import places, results
from ..chromium import get_chromium
from ..environment import get_given_python
from ..folders import link_pack
from ..host import get_host, host_version
from ..places import PACK_NAME, Setup
from ..prepare import setting_up
from ..process import has_ended, run_logged
from ..progress import Progress, SetupError, Step
from ..server import Server, free_port, running_server
from . import canvas, page
from . import model_names as names
from .environment import get_environment, install
from .families import KOLORS, MINIATURE, SDXL
from .record import TOGETHER, Neighbour, Tried, load, store, version_of
from .trial import Bench, Drawn, Plain, read_file, same
from .tries import PACKS
from .tries.recipe import KEEPS, Pack, Try

FOLDER = places.DEV / "neighbours"
MODELS = places.ROOT / "devtools" / "neighbours" / "models.py"


def neighbours_options(parser: argparse.ArgumentParser) -> None:
    words = "folders of other packs, as ComfyUI has them in custom_nodes; nothing is fetched"
    parser.add_argument("packs", type=Path, metavar="PATH", nargs="+", help=words)
    parser.add_argument("--again", action="store_true", help="try anew what was tried before")


def run_neighbours(args: argparse.Namespace) -> int:
    """Tries each pack, keeps what was tried before, and goes on where one does not load."""
    packs = [checked(path) for path in args.packs]
    with setting_up():
        progress = Progress(11 + 2 * len(packs))
        host = get_host(args.comfyui, progress)
        if args.python:
            python = get_given_python(args.python, progress, "torch, diffusers, gguf, onnx")
        else:
            python = get_environment(host, progress)
        left_out = {pack: [] if args.python else install(python, pack, progress) for pack in packs}
        with progress.step("Small models") as step:
            write_models(step, python, host)
    if any((known := PACKS.get(pack.name.lower())) and known.canvas for pack in packs):
        get_chromium(python)
    trials = Trials(python, host, progress, args.again, packs)
    done = [trials.result(pack, left_out[pack]) for pack in packs]
    loaded = [pack for pack, result in zip(packs, done) if not result.fault]
    done.append(trials.together(loaded))
    page.record(places.ROOT / "docs", done)
    print(places.ROOT / "docs" / page.PAGES["en"])
    return 0 if all(result.same_bits for result in done) else 1


def checked(path: Path) -> Path:
    pack = path.expanduser().resolve()
    if not (pack / "__init__.py").is_file():
        raise SetupError(
            f"{path}: found no __init__.py there; expected the folder of a pack, as it lies in ComfyUI's custom_nodes."
        )
    return pack


def write_models(step: Step, python: Path, host: Path) -> None:
    command = [python, MODELS, host, FOLDER / "models"]
    run_logged(step, command, places.LOGS / "models.log", "This is a fault of this pack; please report it.")


class Trials:
    """Tries of packs on one host."""

    def __init__(self, python: Path, host: Path, progress: Progress, again: bool, packs: list[Path]):
        self.python, self.host, self.progress, self.again = python, host, progress, again
        self.paths = {pack.name.lower(): pack for pack in packs}
        self.version, self.commit = host_version(host), results.commit(places.ROOT)
        self.reference: Plain = {}

    def result(self, pack: Path, left_out: list[str]) -> Neighbour:
        """What came of a pack, of an earlier run where there is one. A server that ends is the pack's fault."""
        file = FOLDER / self.version / f"{pack.name}.json"
        if not self.again and (kept := load(file)):
            with self.progress.step(pack.name) as step:
                step.outcome = f"{kept.summary()} (kept from {kept.date}, commit {kept.commit})"
            return kept
        result = self.neighbour(pack.name, version_of(pack), left_out)
        alone = self.alone()
        try:
            with self.server([pack, *self.beside(pack)]) as (server, base):
                faults = failed_imports(server, [pack])
                result = replace(result, fault=faults.get(pack.name, ""))
                if not result.fault:
                    result = self.tried(result, server, base, alone)
        except SetupError as error:
            result = replace(result, fault=results.readable(str(error)))
        store(file, result)
        return result

    def together(self, packs: list[Path]) -> Neighbour:
        """Whether Kolors and SDXL draw the same among all packs that load."""
        result = self.neighbour(TOGETHER, str(len(packs)), [])
        alone = self.alone()
        with self.server(packs) as (server, base), self.progress.step(TOGETHER) as step:
            faults = failed_imports(server, packs)
            bench = Bench(server, base, [KOLORS, SDXL])
            result = replace(
                result, same_bits=same(bench.plain, alone), fault="; ".join(f"{k}: {v}" for k, v in faults.items())
            )
            step.outcome = "the same bits" if result.same_bits else "OTHER BITS"
        return result

    def beside(self, pack: Path) -> list[Path]:
        """Those of the given packs that some of its nodes need."""
        known = PACKS.get(pack.name.lower())
        return [self.paths[name.lower()] for name in (known.beside if known else ()) if name.lower() in self.paths]

    def neighbour(self, name: str, version: str, left_out: list[str]) -> Neighbour:
        return Neighbour(name, version, self.version, results.today(), self.commit, left_out=left_out)

    def alone(self) -> Plain:
        """What Kolors and SDXL draw where no other pack is. No other server may run, since they share a folder."""
        if not self.reference:
            with self.server([]) as (server, base):
                self.reference = Bench(server, base, [KOLORS, SDXL]).plain
            faults = [drawn.error for kinds in self.reference.values() for drawn in kinds.values() if drawn.error]
            if faults:
                raise SetupError(f"ComfyUI {self.version} draws nothing by itself: {faults[0]}")
        return self.reference

    def tried(self, result: Neighbour, server: Server, base: Path, alone: Plain) -> Neighbour:
        bench = Bench(server, base, [KOLORS, SDXL])
        tries: list[Tried] = []
        pack = PACKS.get(result.key)
        with self.progress.step(result.pack) as step:
            for one in pack.tries if pack else ():
                step.tick(one.name)
                verdict = bench.judge(one, KOLORS, SDXL)
                tries.append(Tried(one.name, verdict.outcome, results.readable(verdict.why)))
                if has_ended(server.process, 0):
                    raise server.ended(f"trying {one.name}")
                keep_picture(bench, one, FOLDER / "pictures" / result.pack)
            tries += self.on_canvas(bench, server, pack) + self.by_scripts(bench, server, pack)
            bits = same(bench.plain, alone) and same(Bench(server, base, [KOLORS, SDXL]).plain, alone)
            result = replace(result, tries=tries, same_bits=bits)
            step.outcome = result.summary()
        return result

    def on_canvas(self, bench: Bench, server: Server, pack: Pack | None) -> list[Tried]:
        """Tries nodes of the page: what it sends is drawn, which is the plain image if all is right."""
        if not pack or not pack.canvas:
            return []
        asked = [(one, family) for one in pack.canvas for family in (KOLORS, SDXL)]
        sent = ask_page(self.python, server, [canvas.as_request(one, bench.scene(family)) for one, family in asked])
        drawn = iter(bench.run_sent(answer) for answer in sent)
        return [compared(bench, one.node, next(drawn), next(drawn)) for one in pack.canvas]

    def by_scripts(self, bench: Bench, server: Server, pack: Pack | None) -> list[Tried]:
        """Tries programs that draw the plain image through the server."""
        found = []
        for script in pack.scripts if pack else ():
            kolors, sdxl = (run_script(self.python, bench, script.written(family)) for family in (KOLORS, SDXL))
            found.append(compared(bench, script.node, kolors, sdxl))
        return found

    @contextlib.contextmanager
    def server(self, packs: list[Path]) -> Iterator[tuple[Server, Path]]:
        """A ComfyUI with this package and others, over a folder that is new but for the models."""
        base = FOLDER / "base"
        shutil.rmtree(base, ignore_errors=True)
        for name in ("custom_nodes", "input", "output"):
            (base / name).mkdir(parents=True)
        link_pack(base / "models", FOLDER / "models")
        for image in (names.IMAGE, names.FACE):
            shutil.copy(FOLDER / "models" / image, base / "input")
        for pack in (places.ROOT, *packs):
            link_pack(base / "custom_nodes" / (PACK_NAME if pack == places.ROOT else pack.name), pack)
        with running_server(Setup(self.python, self.host, base), Progress(2), free_port()) as server:
            yield server, base


def keep_picture(bench: Bench, one: Try, folder: Path) -> None:
    """What the try draws with the trained miniature, for who wants to look at it; nothing where it draws nothing."""
    drawn = bench.draw(MINIATURE, lambda scene: scene.decoded(one.draw(scene)))
    if drawn.file:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w-]+", "-", one.name)
        shutil.copy(drawn.file, folder / f"{name}.png")


def ask_page(python: Path, server: Server, requests: list[dict]) -> list[dict]:
    """What the page of a server sends for each request of `canvas`."""
    command = [python, "-m", "devtools.neighbours.canvas", server.url]
    done = subprocess.run(command, cwd=places.ROOT, input=json.dumps(requests), capture_output=True, text=True)
    if done.returncode:
        return [{"error": results.readable(done.stderr.strip().splitlines()[-1])}] * len(requests)
    return json.loads(done.stdout)


def compared(bench: Bench, node: str, kolors: Drawn, sdxl: Drawn) -> Tried:
    """What came of what changes nothing."""
    verdict = bench.compare(Try(node, effect=KEEPS), KOLORS, kolors, SDXL, sdxl)
    return Tried(node, verdict.outcome, results.readable(verdict.why))


def run_script(python: Path, bench: Bench, code: str) -> Drawn:
    """What a program saves last."""
    file = bench.base / "script.py"
    file.write_text(code, encoding="utf-8")
    (pack,) = (path for path in (bench.base / "custom_nodes").iterdir() if path.name != PACK_NAME)
    folder = bench.base / "output" / "neighbours"
    before = set(folder.glob("*.latent"))
    command = [python, file, bench.server.url, pack]
    done = subprocess.run(command, cwd=bench.base, capture_output=True, text=True)
    if done.returncode:
        return Drawn(error=done.stderr.strip().splitlines()[-1])
    saved = sorted(set(folder.glob("*.latent")) - before)
    return read_file(saved[-1]) if saved else Drawn(error="no image, and no error")


def failed_imports(server: Server, packs: list[Path]) -> dict[str, str]:
    """What ComfyUI says of the packs that it could not import, by their names."""
    log = server.log.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"Cannot import (.+?) module for custom nodes: ?(.*)", log)
    faults = {Path(path).name: message for path, message in found}
    return {pack.name: results.readable(faults[pack.name]) for pack in packs if pack.name in faults}
