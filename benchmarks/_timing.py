"""Fair timing of alternatives on a machine that others use as well."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def alternate(runs: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each run; all are run in turn, `rounds` times, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if round_:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}
