"""Counts waits and uploads that come again in every step of Euler, by the line of the pack that causes them.

    python tests/accelerator/steps.py RESULT.json --base-directory FOLDER HOST-FLAGS

The first step and the loading of a model are in both of two runs, so that what differs between them comes with steps.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

from matrix import enter_host

STEPS = (6, 10)  # of the two runs that are compared
#: Where the pack hands over to the host's loop: what the host does by itself has no line of the pack further in.
ENTRY = re.compile(r"/kolors_core/host/sampling\.py:\d+ (sample|solve)$")


def scenarios() -> dict:
    """By name, a function that samples so many steps."""
    from cases.parts import draw, load, prompt, prompts, with_picture

    def draw_one_by_one(model, steps: int) -> None:
        """The host joins prompts into one batch up to four times the shorter one's rows; these have 1280 and 256."""
        batches = []

        def watch(apply, arguments):
            batches.append(arguments["cond_or_uncond"])
            return apply(arguments["input"], arguments["timestep"], **arguments["c"])

        model.set_model_unet_function_wrapper(watch)
        draw(model, steps=steps, cond=(prompt("a red cat " * 400, tokens=1280), prompts()[1]))
        assert sorted(batches) == [[0]] * steps + [[1]] * steps, batches

    return {
        "plain": lambda steps: draw(load(), steps=steps),
        "a picture in a range": lambda steps: draw(with_picture(load(), start=0.2, end=0.7), steps=steps),
        "prompts one by one": lambda steps: draw_one_by_one(load(), steps),
        "a picture, prompts one by one": lambda steps: draw_one_by_one(with_picture(load()), steps),
    }


def events(sample, steps: int) -> Counter:
    """(kind, operator, innermost line of the pack, innermost line) -> how often."""
    from fake_accelerator import trace

    trace.times.clear()
    sample(steps)
    return Counter(
        {
            (kind, operator, ours, first): count
            for (kind, operator, first, ours), count in trace.times.items()
            if ours and not ENTRY.search(ours)
        }
    )


def growth(sample) -> list[list]:
    """[kind, operator, innermost line of the pack, innermost line, count of the shorter run, of the longer one]"""
    sample(2)  # what comes once
    shorter, longer = (events(sample, steps) for steps in STEPS)
    return [[*key, shorter[key], longer[key]] for key in sorted(shorter | longer) if shorter[key] != longer[key]]


def main(output: Path, flags: list[str]) -> None:
    enter_host(flags)
    import fake_accelerator
    import torch

    fake_accelerator.trace.start(fake_accelerator.native)
    with torch.inference_mode():
        found = {name: growth(sample) for name, sample in scenarios().items()}
    output.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
