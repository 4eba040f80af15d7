"""Read damaged files, and say how each ended.

    python tests/robustness/fuzz.py [--cases 1500] [--seed 0] [--report FILE]

Needs COMFYUI_PATH. Every file must end in a normal load, or in one of the two errors that a user is meant to see; no
code in a file may run.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

TESTS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS / "robustness")]
    import conftest  # noqa: F401  # makes the pack and the host importable

import mutations  # noqa: E402
from corpus import TOKENIZER, Good, Readers, good_files  # noqa: E402

LOADED = "loaded"
EXPECTED = (LOADED, "KolorsError", "FileNotFoundError")
NAMES = ("model{}", "model with spaces {}", "可图模型{}", "🍎 {}", "model.v1.2{}", "-model{}", "%model{}", "model'\"{}")


@dataclass(frozen=True)
class Case:
    """A damaged file: what it was, what was done to it, and its bytes."""

    good: Good
    mutation: str
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """How reading a file ended: loaded, or the error's class and text; `where` is set where neither is expected."""

    case: str
    kind: str
    text: str
    seconds: float
    where: str = ""


def cases(count: int, seed: int, canary: str) -> Iterator[Case]:
    """At least `count` damaged files, the same for the same seed."""
    random = Random(seed)
    goods = good_files()
    pickled = [good for good in goods if good.suffix != ".safetensors"]
    made = 0
    for good in goods:
        yield Case(good, "none", mutations.to_bytes(good.tensors, good.suffix, good.metadata))
        made += 1
    for name, data in mutations.pickles(canary):
        yield Case(random.choice(pickled), f"pickle: {name}", data)
        made += 1
    whole = {good.name: mutations.to_bytes(good.tensors, good.suffix, good.metadata) for good in goods}
    while made < count:
        good = random.choice(goods)
        kinds = mutations.BYTES + (mutations.HEADERS * 2 if good.suffix == ".safetensors" else ())
        if random.random() < 0.4 and all(hasattr(value, "shape") for value in good.tensors.values()):
            tensors = dict(good.tensors)
            mutation = random.choice(mutations.TENSORS)
            mutation(tensors, random.choice(list(tensors)), random)
            if not tensors:
                continue
            tensors = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
            data = mutations.to_bytes(tensors, good.suffix, good.metadata)
        else:
            mutation = random.choice(kinds)
            data = mutation(whole[good.name], random)
        yield Case(good, mutation.__name__, data)
        made += 1


def read(case: Case, path: Path, readers: Readers) -> Outcome:
    """Write the file, read it, and take it away again."""
    name = f"{case.good.name}, {case.mutation}"
    path.write_bytes(case.data)
    started = time.perf_counter()
    try:
        case.good.read(readers, path)
        kind, text, where = LOADED, "", ""
    except Exception as error:
        kind, text, where = type(error).__name__, str(error), ""
        if kind not in EXPECTED:
            where = "".join(traceback.format_exception(error)[-3:])
    seconds = time.perf_counter() - started
    path.unlink()
    return Outcome(name, kind, text, seconds, where)


def read_tokenizers(seed: int, count: int, folder: Path) -> Iterator[Outcome]:
    """The tokenizer's own file, damaged."""
    from comfyui_kolors.kolors_core.tokenizer import ChatGLM3Tokenizer

    random = Random(seed)
    for _ in range(count):
        mutation = random.choice(mutations.BYTES)
        case = Case(
            Good("tokenizer", {}, lambda readers, path: ChatGLM3Tokenizer.from_file(path).encode("a red apple")),
            mutation.__name__,
            mutation(TOKENIZER, random),
        )
        yield read(case, folder / "tokenizer.model", None)


def run(count: int = 1500, seed: int = 0) -> tuple[list[Outcome], dict]:
    """All outcomes, and the figures of the report. Raises AssertionError where code in a file ran."""
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        canary = folder / "canary"
        readers = Readers(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        outcomes = list(read_tokenizers(seed, count // 20, folder))
        for number, case in enumerate(cases(count - len(outcomes), seed, str(canary))):
            name = NAMES[number % len(NAMES)].format(number) + case.good.suffix
            outcomes.append(read(case, folder / name, readers))
            assert not canary.exists(), f"code ran: {outcomes[-1].case}"
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    report = {
        "cases": len(outcomes),
        "seed": seed,
        "outcomes": dict(Counter(outcome.kind for outcome in outcomes).most_common()),
        "seconds in all": round(seconds, 1),
        "longest case": {"seconds": round(slowest.seconds, 2), "case": slowest.case},
        "peak memory before, MiB": before >> 10,
        "peak memory after, MiB": peak >> 10,
        "code that ran": 0,
    }
    return outcomes, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="a JSON file for the figures")
    args = parser.parse_args()
    outcomes, report = run(args.cases, args.seed)
    for outcome in outcomes:
        if outcome.where:
            print(f"{outcome.case}: {outcome.kind}: {outcome.text}\n{outcome.where}")
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
