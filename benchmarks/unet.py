"""One guided step beside diffusers' and the host's own SDXL: `python3 dev.py bench unet`.

Float32 on the CPU, two threads, random weights, each side in its own sampling stack, in turn in one process; runs of a
few steps, divided by their number. Curves over tokens of the prompt, size, batch and steps. Writes results/unet.json
and results/unet.png.
"""

from __future__ import annotations

import argparse

import _sides
from _report import growth, plot, save, table
from _sides import MID, Sides, build, check_equal, random_prompts, sample, sample_reference, with_attention
from _timing import compare

PIXELS = (256, 512)
CURVES = {
    "tokens": (0, 20, 77, 150, 255),
    "side": (16, 32, 64, 128),
    "batch": (1, 2, 4, 8),
    "steps": (1, 5, 20, 50),
}
QUICK = {"tokens": (1, 255), "side": (8, 16), "batch": (1, 2), "steps": (1, 2)}


def measure_steps(sides: Sides, cells: int, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Costs per step: ours, diffusers', and the host's SDXL with 77 rows of text, with either attention."""
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
    costs = compare(runs, rounds)
    return {name: cost.per(steps).json() | {"error": error} for name, cost in costs.items()}


def measure_curve(sides: Sides, what: str, values, rounds: int, base: dict[str, int]) -> dict[str, list]:
    """Costs of a whole run of ours and diffusers' for each value of one size of the work."""
    result = {"x": list(values), "ours": [], "diffusers": []}
    for value in values:
        work = base | {what: value}
        prompts = random_prompts(sides.sizes.hidden, work["tokens"])
        size = (prompts, work["side"], work["steps"], work["batch"])
        few = max(1, min(rounds, 4 * 32 * 32 * rounds // (work["side"] ** 2 * work["batch"] * work["steps"])))
        costs = compare(
            {
                "diffusers": lambda size=size: sample_reference(sides.pipe, *size),
                "ours": lambda size=size: sample(sides.model, *size),
            },
            few,
        )
        for name, cost in costs.items():
            result[name].append(cost.json())
    return result


def print_steps(steps: dict[str, dict]) -> None:
    rows = [
        (size, name, f"{cost['wall'] * 1000:.1f}", f"{cost['cpu'] * 1000:.1f}", f"{cost['ratio']:.3f}")
        for size, costs in steps.items()
        for name, cost in costs.items()
    ]
    print(table(("Guided step", "", "ms", "ms of processor time", "by diffusers'"), rows))


def print_curves(curves: dict[str, dict]) -> None:
    for what, curve in curves.items():
        ours, theirs = ([cost["cpu"] for cost in curve[side]] for side in ("ours", "diffusers"))
        rows = [
            (x, f"{a * 1000:.1f}", f"{b * 1000:.1f}", f"{cost['ratio']:.3f}")
            for x, a, b, cost in zip(curve["x"], ours, theirs, curve["ours"])
        ]
        work = [x**2 for x in curve["x"]] if what == "side" else curve["x"]  # of a side, its cells
        print("\n" + table((what, "ours, ms of processor time", "diffusers", "ratio"), rows))
        print(f"growth at the end, as a power of the work: ours {growth(work, ours):.2f}, "
              f"diffusers {growth(work, theirs):.2f}")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--results", type=_sides.Path, help="where to (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    sizes, pixels, all_values, rounds = (
        (_sides.random_models.TINY, (128,), QUICK, 1) if args.quick else (MID, PIXELS, CURVES, 9)
    )
    with build(sizes) as sides:
        steps = {f"{size} px": measure_steps(sides, size // 8, 3, rounds) for size in pixels}
        print_steps(steps)
        base = {"tokens": 20, "side": all_values["side"][0] if args.quick else 32, "batch": 1, "steps": 1}
        curves = {
            what: measure_curve(sides, what, values, max(1, rounds // 2), base) for what, values in all_values.items()
        }
    print_curves(curves)
    save("unet", {"steps": steps, "curves": curves}, args.results)
    plot("unet", {
        f"over {what}": (what, curve["x"], {side: [c["cpu"] for c in curve[side]] for side in ("ours", "diffusers")})
        for what, curve in curves.items()
    }, args.results)  # fmt: skip


if __name__ == "__main__":
    main()
