"""The error of each case against the CPU, what it may be, and the table of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import Tensor

#: Tensors by name, or the error that a case raised.
Result = dict[str, Tensor] | str

FLOAT32 = 1e-5
#: What is not computed in float32 under float32 flags, or not from the CPU's random numbers, and how far it may be off.
EXCEPTIONS = {
    r"fp8": 0.15,  # with a LoRA, rounded stochastically by the device's random numbers
    r"bf16$": 0.05,
    r"fp16$|^encoder gguf default$": 0.01,
    r"_gpu$|^stock (euler_ancestral|lcm)$": 1.0,  # another noise, so another picture
}


@dataclass(frozen=True)
class Cell:
    """What the table says of a case in a mode."""

    error: float  # relative, L2, the largest of the case's tensors; infinite for another shape, NaN where it raised
    bound: float
    tensor: str = ""  # which one that is, where there are several
    reason: str = ""  # what it raised
    is_refused: bool = False  # it raised what it has to

    @property
    def is_good(self) -> bool:
        return self.is_refused or (not self.reason and self.error <= self.bound)

    @property
    def figure(self) -> str:
        return "refused" if self.is_refused else "raised" if self.reason else f"{self.error:.1e}"

    def __str__(self) -> str:
        place = f" in {self.tensor!r}" if self.tensor else ""
        return self.reason or f"relative error {self.error:.1e}{place}, at most {self.bound:.0e} is allowed"


def bound_of(case: str, tolerance: float) -> float:
    """tolerance: of the mode."""
    return max([tolerance, *(bound for pattern, bound in EXCEPTIONS.items() if re.search(pattern, case))])


def relative_error(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    error = (found - expected).norm() / expected.norm().clamp(min=1e-9)
    return error.item() if error.isfinite() else math.inf


def compare(
    found: dict[str, Result], expected: dict[str, Result], tolerance: float, refusal: str | None = None
) -> dict[str, Cell]:
    """A cell for each expected case; `refusal` is a regular expression for errors that a device has to raise."""
    cells = {}
    for case, tensors in expected.items():
        bound, ours = bound_of(case, tolerance), found.get(case, "did not run")
        if isinstance(tensors, str):
            cells[case] = Cell(math.nan, bound, reason=f"on the CPU: {tensors}")
        elif isinstance(ours, str):
            is_refused = bool(refusal and re.match(refusal, ours))
            cells[case] = Cell(math.nan, bound, reason=ours, is_refused=is_refused)
        else:
            error, name = max((relative_error(ours[name], tensor), name) for name, tensor in tensors.items())
            cells[case] = Cell(error, bound, name)
    return cells


def table(modes: dict[str, dict[str, Cell]]) -> str:
    """A row for each case, a column for each mode; failures are marked and told below."""
    cases = list(dict.fromkeys(case for cells in modes.values() for case in cells))
    width = max(map(len, cases), default=0)
    lines = [" ".join([f"{'case':{width}}", *(f"{mode:>16}" for mode in modes)])]
    for case in cases:
        figures = [cells[case].figure + ("" if cells[case].is_good else " !") for cells in modes.values()]
        lines.append(" ".join([f"{case:{width}}", *(f"{figure:>16}" for figure in figures)]))
    for mode, cells in modes.items():
        failed = {case: cell for case, cell in cells.items() if not cell.is_good}
        lines.append(f"\n{mode}: {len(cells) - len(failed)} of {len(cells)} cases")
        lines += [f"    {case}: {cell}" for case, cell in failed.items()]
    return "\n".join(lines) + "\n"
