"""Read damaged files, and say how each ended.

Every file must end in a normal load, after which it works, or in one of the two errors that a user is meant to see; no
code in a file may run.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import mutations
import torch
from corpus import Good, Readers, good_files

LOADED = "loaded"
EXPECTED = (LOADED, "KolorsError", "FileNotFoundError")
MAX_SECONDS = 30
NAMES = ("model{}", "model with spaces {}", "可图模型{}", "🍎 {}", "model.v1.2{}", "-model{}", "%model{}", "model'\"{}")
PICKLES = (".bin", ".ckpt", ".ipadpt")


@dataclass(frozen=True)
class Case:
    """A damaged file: what it was, what was done to it, its bytes, the files beside it, and how it gets to its path."""

    good: Good
    mutation: str
    data: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    place: Callable | None = None


@dataclass(frozen=True)
class Outcome:
    """How reading a file ended: loaded, or the error's class and text; `where` is set where neither is expected."""

    case: str
    kind: str
    text: str
    seconds: float
    where: str = ""


def cases(count: int, seed: int, canary: str) -> Iterator[Case]:
    """At least `count` damaged files, the same for the same seed: every damage to every file first."""
    random = Random(seed)
    goods = good_files()
    whole = {good.name: good.content() for good in goods}
    made = 0

    def numbered(found: Iterator[Case]) -> Iterator[Case]:
        nonlocal made
        for case in found:
            made += 1
            yield case

    yield from numbered(harmful(goods, whole, canary))
    for good in goods:
        yield from numbered(damaged(good, whole[good.name], mutation, random) for mutation in kinds(good))
    while made < count:
        good = random.choice(goods)
        yield from numbered([damaged(good, whole[good.name], random.choice(kinds(good)), random)])


def harmful(goods: list[Good], whole: dict[str, bytes], canary: str) -> Iterator[Case]:
    """The good files, every way that leads to no file, and every pickle that is meant to do harm."""
    for good in goods:
        yield Case(good, "none", whole[good.name], good.beside)
    if os.name != "nt":  # links need a privilege there
        for good in {good.read: good for good in goods}.values():
            for place in mutations.PATHS:
                yield Case(good, place.__name__, whole[good.name], good.beside, place)
    readers = [good for good in goods if good.suffix in PICKLES and not good.beside]
    for number, (name, data) in enumerate(mutations.pickles(canary)):
        good = readers[number % len(readers)]
        yield Case(good, f"pickle: {name}", data)
        yield Case(replace(good, suffix=".safetensors"), f"pickle under another name: {name}", data)


def kinds(good: Good) -> tuple:
    """The mutations that suit a file."""
    flat = bool(good.tensors) and all(isinstance(value, torch.Tensor) for value in good.tensors.values())
    header = good.suffix == ".safetensors"
    return (
        *mutations.BYTES,
        *(mutations.HEADERS if header else ()),
        *(mutations.TENSORS if flat else ()),
        *((mutations.change_json,) * 3 if good.beside else ()),
    )


def damaged(good: Good, data: bytes, mutation: Callable, random: Random) -> Case:
    """One file with one kind of damage, to it or to a JSON file beside it."""
    beside = dict(good.beside)
    if mutation is mutations.change_json:
        name = random.choice([name for name in beside if name.endswith(".json")])
        beside[name] = mutation(beside[name], random)
        return Case(good, f"{mutation.__name__} of {name}", data, beside)
    if mutation not in mutations.TENSORS:
        return Case(good, mutation.__name__, mutation(data, random), beside)
    tensors = dict(good.tensors)
    mutation(tensors, random.choice(list(tensors)), random)
    tensors = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
    return Case(good, mutation.__name__, mutations.to_bytes(tensors, good.suffix, good.metadata), beside)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in a block that takes longer, as far as the system has alarms."""

    def ring(number, frame):
        raise TimeoutError(f"longer than {seconds} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(case: Case, name: str, folder: Path, readers: Readers) -> Outcome:
    """Write the files, read them, and take them away again."""
    outside, place = folder / "outside", folder / "models"
    for new in (outside, place):
        new.mkdir()
    path = place / (case.good.file or name + case.good.suffix)
    for beside, data in case.beside.items():
        (place / beside).write_bytes(data)
    if case.place:
        case.place(path, case.data, outside / "file")
    else:
        path.write_bytes(case.data)
    started = time.perf_counter()
    where = ""
    try:
        with time_limit(MAX_SECONDS):
            case.good.read(readers, path)
        kind, text = LOADED, ""
    except Exception as error:
        kind, text = type(error).__name__, str(error)
        if kind not in EXPECTED:
            where = "".join(traceback.format_exception(error)[-4:])
    seconds = time.perf_counter() - started
    shutil.rmtree(outside)
    shutil.rmtree(place)
    return Outcome(f"{case.good.name}, {case.mutation}", kind, text, seconds, where)


def run(count: int, seed: int) -> tuple[list[Outcome], dict]:
    """All outcomes, and the figures of the report. Raises AssertionError where code in a file ran."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about what is in the files
        folder = Path(folder)
        canary = folder / "canary"
        readers = Readers(folder)
        outcomes = []
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        for number, case in enumerate(cases(count, seed, str(canary))):
            name = NAMES[number % len(NAMES)].format(number)
            outcomes.append(read(case, name, folder, readers))
            assert not canary.exists(), f"code ran: {outcomes[-1].case}"
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    report = {
        "cases": len(outcomes),
        "seed": seed,
        "outcomes": dict(Counter(outcome.kind for outcome in outcomes).most_common()),
        "seconds": round(seconds, 1),
        "slowest case": {"seconds": round(slowest.seconds, 2), "case": slowest.case},
        "peak memory before, MiB": before >> 10,
        "peak memory after, MiB": peak >> 10,
        "cases in which code ran": 0,
    }
    return outcomes, report
