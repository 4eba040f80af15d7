"""All jobs on this machine, one after the other, by one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from .jobs import Job
from .manifest import Line
from .settings import BESIDE, Settings


def run_here(
    jobs: Iterable[Job], settings: Settings, tell: Callable[[Line], None], settle: Callable[[Line], None]
) -> None:
    """Draw every job; both functions get each line. Whatever raises, of a job, of `tell` or by Ctrl-C, ends it all.

    Raises StorageFault or NoComfyUI.
    """
    from .worker import Worker  # with aiohttp, which a dry run can do without

    worker = Worker(settings)
    pool = ThreadPoolExecutor(BESIDE)
    waiting: set[Future[Line]] = set()

    def take(most: int) -> None:
        nonlocal waiting
        while len(waiting) > most:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                settle(future.result())
                tell(future.result())

    try:
        for job in jobs:
            take(BESIDE)
            waiting.add(pool.submit(worker.do, job))
        take(0)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        worker.close()
