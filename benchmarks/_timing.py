"""Fair timing of alternatives: in turn, and compared round by round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Medians of one alternative: seconds by the clock and of processor time, and both by those of the first one.

    Threads that wait for each other spin, which counts as processor time; what a user waits for is the clock.
    """

    wall: float
    cpu: float
    ratio: float
    cpu_ratio: float

    def per(self, count: int) -> Cost:
        return Cost(self.wall / count, self.cpu / count, self.ratio, self.cpu_ratio)

    def json(self) -> dict[str, float]:
        return asdict(self)

    def cells(self, digits: int = 0) -> tuple[str, ...]:
        """Both times in milliseconds and both ratios, for a table."""
        times = (f"{seconds * 1000:.{digits}f}" for seconds in (self.wall, self.cpu))
        return (*times, f"{self.ratio:.3f}", f"{self.cpu_ratio:.3f}")


#: The headings above `Cost.cells`.
HEADINGS = ("ms", "ms of processor time", "ratio", "ratio of processor time")


def compare(
    runs: dict[Hashable, Callable[[], object]], rounds: int = 7, before: Callable[[Any], object] = lambda name: None
) -> dict[Hashable, Cost]:
    """What each run costs; all are run in turn, `rounds` times, after one round that does not count.

    A ratio is the median of the rounds' ratios: neighbours in a round meet the same other work on the machine. What
    `before` does for a run of that name is not timed.
    """
    times: dict[Hashable, list[tuple[float, float]]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            before(name)
            started = time.perf_counter(), time.process_time()
            run()
            if round_:
                times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    first = next(iter(times.values()))
    return {
        name: Cost(
            statistics.median(wall for wall, _ in values),
            statistics.median(cpu for _, cpu in values),
            statistics.median(wall / base for (wall, _), (base, _) in zip(values, first)),
            statistics.median(cpu / base for (_, cpu), (_, base) in zip(values, first)),
        )
        for name, values in times.items()
    }


def alternate(runs: dict[Hashable, Callable[[], object]], rounds: int = 7) -> dict[Hashable, float]:
    """Median seconds of each run by the clock, as `compare` takes them."""
    return {name: cost.wall for name, cost in compare(runs, rounds).items()}
