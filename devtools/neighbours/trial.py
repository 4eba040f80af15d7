"""Runs a try on a server with Kolors and with an SDXL, and says what came of it."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time
import urllib.error
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..server import Server, request
from .scene import Family, Link, NoSuchNode, Scene
from .tries.recipe import CHANGES, DRAWS, KEEPS, Try

SECONDS = 600.0  # of a prompt; most take a few, and the first one of a compiled SDXL minutes
POLL_SECONDS = 0.1
OURS = "KolorsError"

#: What came of a try, best first.
SAME, WORKS, REFUSED, ELSEWHERE, FAILED = "same", "works", "refused", "elsewhere", "failed"
GOOD = (SAME, WORKS)


@dataclass(frozen=True)
class Drawn:
    """What a prompt gave: the digest of its values, or an error. `sentence`: whether the error is meant for users."""

    digest: str = ""
    error: str = ""
    sentence: bool = False
    file: str = ""


#: The plain images of each family, as LATENT and as IMAGE.
Plain = dict[str, dict[str, Drawn]]


@dataclass(frozen=True)
class Verdict:
    """What came of a try, and why, where that is no picture."""

    outcome: str
    why: str = ""


class Bench:
    """A running server, its nodes, and what each family draws without any pack's node."""

    def __init__(self, server: Server, base: Path, families: list[Family]):
        self.server, self.base = server, base
        self.declared: dict[str, Any] = json.loads(request(f"{server.url}/object_info", timeout=120))
        self.plain: Plain = {}
        for family in families:
            self.plain[family.name] = {
                "LATENT": self.draw(family, Scene.sample),
                "IMAGE": self.draw(family, plain_image),
            }

    def scene(self, family: Family) -> Scene:
        return Scene(self.declared, family)

    def draw(self, family: Family, build: Callable[[Scene], Link]) -> Drawn:
        """Builds, runs and reads a graph; whatever goes wrong is in what it returns."""
        scene = self.scene(family)
        try:
            link = build(scene)
            saver = scene.save(link)
        except NoSuchNode as error:
            return Drawn(error=f"there is no node {error} here")
        except (KeyError, ValueError) as error:
            return Drawn(error=f"the try does not fit the node: {error!r}")
        return self.run(scene, saver[0])

    def run(self, scene: dict[str, Any], saver: str) -> Drawn:
        """Queues a prompt and waits for what its node `saver` saves."""
        try:
            queued = json.loads(request(f"{self.server.url}/prompt", {"prompt": scene}, timeout=SECONDS))
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                history = json.loads(request(f"{self.server.url}/history/{queued['prompt_id']}", timeout=SECONDS))
                if history:
                    return self.read(history[queued["prompt_id"]], saver)
                time.sleep(POLL_SECONDS)
            request(f"{self.server.url}/interrupt", {})
            return Drawn(error=f"no end within {SECONDS:.0f} s")
        except urllib.error.HTTPError as error:
            return Drawn(error=refusal(json.loads(error.read())))
        except OSError as error:
            return Drawn(error=f"ComfyUI does not answer: {error}")

    def run_sent(self, answer: dict[str, Any]) -> Drawn:
        """Runs what the page sent for a graph that saves a LATENT."""
        if "error" in answer:
            return Drawn(error=answer["error"])
        savers = [key for key, node in answer["prompt"].items() if node["class_type"] == "SaveLatent"]
        return self.run(answer["prompt"], savers[0])

    def read(self, entry: dict[str, Any], saver: str) -> Drawn:
        for event, data in entry["status"].get("messages", []):
            if event == "execution_error":
                kind, text = data["exception_type"].split(".")[-1], data["exception_message"].strip()
                return Drawn(error=f"{kind}: {text}", sentence=kind == OURS)
        outputs = entry["outputs"].get(saver, {})
        found = [*outputs.get("latents", []), *outputs.get("images", [])]
        if not found:
            return Drawn(error="no image, and no error")
        return read_file(self.base / "output" / found[0]["subfolder"] / found[0]["filename"])

    def judge(self, one: Try, kolors: Family, sdxl: Family | None) -> Verdict:
        """What comes of a try."""
        other = self.draw(sdxl, one.draw) if sdxl else Drawn(error="not drawn")
        return self.compare(one, kolors, self.draw(kolors, one.draw), sdxl, other)

    def compare(self, one: Try, kolors: Family, found: Drawn, sdxl: Family | None, other: Drawn) -> Verdict:
        """Compares what a try did with Kolors to what it did with SDXL."""
        if not found.error:
            fault = self.effect_fault(one, kolors, found)
            if not fault:
                return Verdict(WORKS if other.error or self.effect_fault(one, sdxl, other) else SAME, other.error)
            if not other.error and self.effect_fault(one, sdxl, other):
                return Verdict(ELSEWHERE, f"{fault}, on SDXL as well")
            return Verdict(FAILED, fault)
        if found.sentence or (one.refusal and re.search(one.refusal, found.error)):
            return Verdict(REFUSED, found.error)
        if other.error and other.error.split(":")[0] == found.error.split(":")[0]:
            return Verdict(ELSEWHERE, found.error)
        return Verdict(FAILED, found.error)

    def effect_fault(self, one: Try, family: Family | None, found: Drawn) -> str:
        """What is wrong with what a try draws beside the plain picture, or nothing."""
        if one.effect == DRAWS or family is None:
            return ""
        kind = "LATENT" if found.file.endswith(".latent") else "IMAGE"
        same = found.digest == self.plain[family.name][kind].digest
        if one.effect == CHANGES and same:
            return "it has no effect"
        if one.effect == KEEPS and not same:
            return "it changes the image"
        return ""


def same(found: Plain, expected: Plain) -> bool:
    """Whether two servers drew the same plain pictures."""
    return all(
        found[name][kind].digest == drawn.digest for name, kinds in expected.items() for kind, drawn in kinds.items()
    )


def read_file(file: Path) -> Drawn:
    values, fault = (read_latent if file.suffix == ".latent" else read_png)(file.read_bytes())
    return Drawn(error=fault) if fault else Drawn(hashlib.sha256(values).hexdigest(), file=str(file))


def plain_image(scene: Scene) -> Link:
    return scene.decoded(scene.sample())


def refusal(answer: dict[str, Any]) -> str:
    """ComfyUI's own words for a graph that it does not run."""
    found = [answer["error"], *(error for node in answer.get("node_errors", {}).values() for error in node["errors"])]
    return "; ".join(f"{error['message']} {error.get('details', '')}".strip() for error in found)


def read_latent(content: bytes) -> tuple[bytes, str]:
    """The values of a SaveLatent file, and what is wrong with them."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    start, end = header["latent_tensor"]["data_offsets"]
    values = content[8 + length + start : 8 + length + end]
    numbers = struct.unpack(f"<{len(values) // 4}f", values)
    if any(number - number != 0 for number in numbers):
        return values, "a latent with NaN or infinity"
    return values, "a latent of one value" if len(set(numbers)) == 1 else ""


def read_png(content: bytes) -> tuple[bytes, str]:
    """The samples of a PNG of 8 bits each, row by row, and what is wrong with them.

    Source: the PNG specification, 9 (filtering). The interpreter of dev.py has no package that reads one.
    """
    data, at, width, channels = b"", 8, 0, 0
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        chunk = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, channels = struct.unpack(">I", chunk[:4])[0], {0: 1, 2: 3, 4: 2, 6: 4}[chunk[9]]
        elif kind == b"IDAT":
            data += chunk
        at += 12 + length
    filtered, size = zlib.decompress(data), width * channels
    above, rows = bytes(size), bytearray()
    for start in range(0, len(filtered), size + 1):
        above = unfilter(filtered[start], filtered[start + 1 : start + 1 + size], above, channels)
        rows += above
    colours = {bytes(rows[i : i + channels]) for i in range(0, len(rows), channels)}
    return bytes(rows), "an image of one colour" if len(colours) == 1 else ""


def unfilter(method: int, row: bytes, above: bytes, channels: int) -> bytes:
    """A row of samples of its differences to its neighbours: left, above, and above the left one."""
    found = bytearray(channels)
    corner = bytes(channels) + above
    for x, (difference, b, c) in enumerate(zip(row, above, corner)):
        a = found[x]
        nearest = min((a, b, c), key=lambda one: abs(a + b - c - one))
        found.append(difference + (0, a, b, (a + b) // 2, nearest)[method] & 0xFF)
    return bytes(found[channels:])
