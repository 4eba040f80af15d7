"""What IP-Adapters, ControlNets and LoRAs add to a step, beside diffusers' own: `python3 dev.py bench additions`.

Guided sampling at 256 x 256 pixels, float32 on the CPU, two threads, random weights of the middle size, in turn in one
process: none to three of each. LoRAs both as ComfyUI applies them to a model that it loads whole, into the weights, and
as it keeps them beside the weights of a model that it loads in part; diffusers' are fused into the weights and computed
beside them. Their application is not timed. Writes additions.json and additions.png.
"""

from __future__ import annotations

import _sides  # noqa: F401 - before torch, whose threads it sets
from _added import Runs, Work, control_nets, ip_adapters, loras, partly_loaded
from _report import Curve, argument_parser, plot, save, table
from _rows import Row, compared
from _sides import MID, Sides, build, check_equal, random_models
from _timing import Cost, compare

ADAPTERS, CONTROL_NETS, APPLIED, WAITING = "IP-Adapters", "ControlNets", "LoRAs in the weights", "LoRAs that wait"
#: One and several of each, on the page.
ON_PAGE = {
    ADAPTERS: ("{} IP-Adapter", "{} IP-Adapters"),
    CONTROL_NETS: ("{} ControlNet", "{} ControlNets"),
    APPLIED: ("{} LoRA in the weights", "{} LoRAs in the weights"),
    WAITING: ("{} LoRA that waits", "{} LoRAs that wait"),
}


def measure(what: str, runs: Runs, work: Work, rounds: int, before=lambda side, count: None) -> tuple[Curve, list]:
    """Costs per step over the number of what is added, and the errors between the two sides."""
    counts = range(len(runs["ours"]))
    errors = [check_equal(runs["ours"][count](), runs["diffusers"][count]()) for count in counts]
    named = {(side, count): runs[side][count] for side in ("diffusers", "ours") for count in counts}
    costs = compare(named, rounds, lambda name: before(*name))
    # A ratio is to diffusers' run of the same number, by the ratios of both to the first run.
    theirs = [costs["diffusers", count].per(work.steps) for count in counts]
    ours = [relative(costs["ours", count].per(work.steps), theirs[count]) for count in counts]
    return Curve(what, list(counts), {"ours": ours, "diffusers": theirs}), errors


def relative(ours: Cost, theirs: Cost) -> Cost:
    return Cost(ours.wall, ours.cpu, ours.ratio / theirs.ratio, ours.cpu_ratio / theirs.cpu_ratio)


def measure_all(sides: Sides, most: int, work: Work, rounds: int) -> list[tuple[Curve, list[float]]]:
    found = [
        measure(ADAPTERS, ip_adapters(sides, most, work), work, rounds),
        measure(CONTROL_NETS, control_nets(sides, most, work), work, rounds),
    ]
    applied = loras(sides, most, work, fused=True)
    found.append(measure(APPLIED, applied.runs, work, rounds, applied.load))
    waiting = loras(sides, most, work, fused=False)
    with partly_loaded():
        found.append(measure(WAITING, waiting.runs, work, rounds, waiting.load))
    return found


def added(curve: Curve, side: str, count: int) -> float:
    """Per cent of a step without any."""
    seconds = curve.seconds(side)
    return (seconds[count] / seconds[0] - 1) * 100


def page_rows(curve: Curve, most: int, pixels: int) -> list[Row]:
    rows = []
    for count in dict.fromkeys((1, most)):
        name = ON_PAGE[curve.what][count > 1].format(count)
        ours, theirs = (curve.costs[side][count] for side in ("ours", "diffusers"))
        rows.append(compared(f"Step with {name}, {pixels} px", ours.wall, theirs.wall, ratio=ours.ratio))
        shares = [added(curve, side, count) for side in ("ours", "diffusers")]
        rows.append(Row(f"What a step with {name} takes more", shares[0], "%", "diffusers", shares[1]))
    return [*rows, curve.row(f"Step, over the number of {curve.what}")]


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    sizes, most, cells, steps, rounds = (random_models.TINY, 2, 8, 1, 1) if args.quick else (MID, 3, 32, 3, 3)
    with build(sizes) as sides:
        found = measure_all(sides, most, Work(cells, steps), rounds)
    report, rows = {}, []
    for curve, errors in found:
        lines = [
            (count, *(f"{curve.seconds(side)[count] * 1000:.1f}" for side in ("ours", "diffusers")),
             f"{curve.costs['ours'][count].ratio:.3f}",
             *(f"{added(curve, side, count):.1f} %" for side in ("ours", "diffusers")))
            for count in curve.values
        ]  # fmt: skip
        headings = (curve.what, "ours, ms per step", "diffusers, ms per step", "ratio", "ours adds", "diffusers adds")
        print(table(headings, lines) + "\n")
        report[curve.what] = {"curve": curve.json(), "errors": errors}
        rows += page_rows(curve, most, 8 * cells)
    save("additions", report, args.results, rows)
    plot("additions", [curve for curve, _ in found], args.results)


if __name__ == "__main__":
    main()
