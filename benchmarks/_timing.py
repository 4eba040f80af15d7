"""Fair timing of alternatives on a machine that others use as well."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Cost:
    """Medians of one alternative, in seconds: by the clock, and of all the processor's time that it took."""

    wall: float
    cpu: float
    ratio: float = 1.0  # median over the rounds of its processor time by that of the first alternative

    def per(self, count: int) -> Cost:
        return Cost(self.wall / count, self.cpu / count, self.ratio)

    def json(self) -> dict[str, float]:
        return asdict(self)


def compare(runs: dict[Hashable, Callable[[], object]], rounds: int = 7) -> dict[Hashable, Cost]:
    """What each run costs; all are run in turn, `rounds` times, after one round that does not count.

    Where others use the machine too, the clock tells of them; the processor time of this process alone does not, and
    neighbours in a round meet the same neighbours on the machine, so their ratio is the steadiest figure.
    """
    times: dict[Hashable, list[tuple[float, float]]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter(), time.process_time()
            run()
            if round_:
                times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    first = next(iter(times.values()))
    return {
        name: Cost(
            statistics.median(wall for wall, _ in values),
            statistics.median(cpu for _, cpu in values),
            statistics.median(cpu / base for (_, cpu), (_, base) in zip(values, first)),
        )
        for name, values in times.items()
    }


def alternate(runs: dict[Hashable, Callable[[], object]], rounds: int = 7) -> dict[Hashable, float]:
    """Median seconds of each run by the clock, as `compare` takes them."""
    return {name: cost.wall for name, cost in compare(runs, rounds).items()}
