"""One guided step beside diffusers' and the host's own SDXL: `python3 dev.py bench unet`.

Float32 on the CPU, two threads, random weights, each side in its own sampling stack, in turn in one process; runs of
ten steps, divided by their number. Curves over tokens of the prompt, size, batch and steps. Writes unet.json and
unet.png.
"""

from __future__ import annotations

import _sides
from _report import Curve, argument_parser, plot, save, table
from _rows import Row, compared, timed
from _sides import MID, Sides, build, check_equal, random_prompts, sample, sample_reference, with_attention
from _timing import HEADINGS, Cost, compare

PIXELS = (256, 512)
CURVES = {
    "tokens": (0, 20, 77, 150, 255),
    "side": (16, 32, 64, 128),
    "batch": (1, 2, 4, 8),
    "steps": (1, 5, 20, 50),
}
#: What the curves are called on the page, and the power of the value that is the work: a side's work is its cells.
GROWTH = {
    "tokens": ("Step, over the tokens of the prompt", 1),
    "side": ("Step, over the area of the image", 2),
    "batch": ("Step, over the batch", 1),
    "steps": ("Sampling, over the steps", 1),
}
QUICK = {"tokens": (1, 255), "side": (8, 16), "batch": (1, 2), "steps": (1, 2)}


def measure_steps(sides: Sides, cells: int, steps: int, rounds: int) -> tuple[dict[str, Cost], float]:
    """Costs per step, and the error between ours and diffusers'; the host's SDXL has 77 rows of text."""
    prompts = random_prompts(sides.sizes.hidden)
    sdxl_prompts = random_prompts(sides.sizes.context, rows=77, pooled=1280)
    error = check_equal(sample(sides.model, prompts, cells, steps), sample_reference(sides.pipe, prompts, cells, steps))
    quick = with_attention(sides.sdxl, "pytorch")
    runs = {
        "diffusers": lambda: sample_reference(sides.pipe, prompts, cells, steps),
        "ours": lambda: sample(sides.model, prompts, cells, steps),
        "host SDXL": lambda: sample(sides.sdxl, sdxl_prompts, cells, steps),
        "host SDXL, torch attention": lambda: sample(quick, sdxl_prompts, cells, steps),
    }
    return {name: cost.per(steps) for name, cost in compare(runs, rounds).items()}, error


def measure_curve(sides: Sides, what: str, values, rounds: int, base: dict[str, int]) -> Curve:
    """Costs of a whole run of ours and diffusers' for each value of one size of the work."""
    costs = {"ours": [], "diffusers": []}
    for value in values:
        work = base | {what: value}
        size = (random_prompts(sides.sizes.hidden, work["tokens"]), work["side"], work["steps"], work["batch"])
        few = max(1, min(rounds, 4 * 32 * 32 * rounds // (work["side"] ** 2 * work["batch"] * work["steps"])))
        runs = {
            "diffusers": lambda size=size: sample_reference(sides.pipe, *size),
            "ours": lambda size=size: sample(sides.model, *size),
        }
        for side, cost in compare(runs, few).items():
            costs[side].append(cost)
    return Curve(what, list(values), costs)


def page_rows(steps: dict[str, dict[str, Cost]], curves: list[Curve]) -> list[Row]:
    rows = []
    for size, costs in steps.items():
        ours, stock = costs["ours"], costs["host SDXL, torch attention"]
        rows.append(timed(f"Guided step, {size}", ours, costs["diffusers"]))
        rows.append(compared(f"Guided step, {size}", ours.wall, stock.wall, beside="ComfyUI's SDXL, torch attention"))
    return rows + [curve.row(*GROWTH[curve.what]) for curve in curves]


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    args = parser.parse_args(arguments)
    sizes, pixels, all_values, rounds, length = (
        (_sides.random_models.TINY, (128,), QUICK, 1, 2) if args.quick else (MID, PIXELS, CURVES, 9, 10)
    )
    with build(sizes) as sides:
        found = {f"{size} px": measure_steps(sides, size // 8, length, 1 + rounds // 2) for size in pixels}
        steps, errors = ({size: pair[index] for size, pair in found.items()} for index in (0, 1))
        rows = [(size, name, *cost.cells(1)) for size, costs in steps.items() for name, cost in costs.items()]
        print(table(("Guided step", "", *HEADINGS), rows))
        base = {"tokens": 20, "side": all_values["side"][0] if args.quick else 32, "batch": 1, "steps": 1}
        curves = [measure_curve(sides, what, values, max(1, rounds // 2), base) for what, values in all_values.items()]
    for curve in curves:
        print(f"\n{curve.table()}\n{curve.growth(GROWTH[curve.what][1])}")
    report = {"steps": steps, "errors": errors, "curves": {curve.what: curve.json() for curve in curves}}
    save("unet", report, args.results, page_rows(steps, curves))
    plot("unet", curves, args.results)


if __name__ == "__main__":
    main()
