"""One run of the command: read, check, draw what is missing, and say how it ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..errors import KolorsError, shorten
from .comfyui import find_comfyui
from .jobs import Job, Plan
from .keys import Keys
from .local import run_here
from .manifest import Line, Manifest, key_of
from .progress import Progress
from .settings import Ray, Settings
from .storage import StorageFault, hide, open_storage, read_file, split, whole
from .table import Table
from .workflow import read_workflow

RECORD, FORMAT = "run.json", "kolors-render-1"
DRY_JOBS = 3  # that a dry run shows


class TooManyErrors(KolorsError):
    """More jobs failed than --max-errors allows."""


def make_plan(workflow: Path, table: str, keep: tuple[str, ...]) -> Plan:
    """Raises KolorsError for whatever cannot be read, or does not fit."""
    folder, name = split(whole(table))
    return Plan(read_workflow(workflow), Table(name, read_file(table)), folder, keep)


def show(plan: Plan) -> None:
    """What would be drawn: the first graphs, and how many jobs there are."""
    count, known = 0, dict[str, str]()
    for column, targets in plan.targets.items():
        known[column] = ", ".join(map(str, targets))
    for job in plan.jobs():
        count += 1
        if count <= DRY_JOBS:
            sys.stdout.write(f"{job.id}\n{json.dumps(job.graph, ensure_ascii=False, indent=2)}\n")
    for column, targets in known.items():
        sys.stdout.write(f"The column '{column}' sets {targets}.\n")
    sys.stdout.write(f"{count} jobs; the first {min(count, DRY_JOBS)} are shown. Nothing was drawn.\n")


def render(plan: Plan, settings: Settings, ray: Ray | None, most_errors: int) -> int:
    """Draw what is missing; an exit status. Raises KolorsError where the run cannot begin, or go on."""
    storage = open_storage(settings.out)
    manifest = Manifest(storage)
    keys, done = manifest.resume(checked(plan))
    total = keys.count
    storage.write(RECORD, json.dumps(record(plan), ensure_ascii=False, indent=1).encode())
    sys.stdout.write(f"{total} jobs, {len(done)} of them done before.\n")
    sys.stdout.flush()
    if len(done) < total:
        settings = ready(settings, ray)
        with Progress(total, len(done)) as progress:

            def tell(line: Line) -> None:
                progress.add(len(line["files"]), bool(line["error"]))
                if progress.failed > most_errors:
                    raise TooManyErrors(
                        f"{progress.failed} jobs failed, more than --max-errors allows. The last: {line['error']}"
                    )

            try:
                if ray:
                    from .cluster import run_on_cluster

                    run_on_cluster(plan, done, total, settings, ray, tell, manifest.add)
                else:
                    run_here(plan.missing(done), settings, tell, manifest.add)
            finally:
                tidy(manifest)
    return conclude(manifest, keys)


def ready(settings: Settings, ray: Ray | None) -> Settings:
    """What is needed besides the table is there; the settings with whole paths. Raises KolorsError."""
    if find_spec("aiohttp") is None:
        raise KolorsError("This Python has no aiohttp, which ComfyUI brings. Use the Python that runs ComfyUI.")
    if ray:
        from .cluster import prepare

        prepare()
    if settings.server or (ray and ray.address and settings.comfyui):
        return settings
    return replace(settings, comfyui=str(find_comfyui(settings.comfyui)))


def tidy(manifest: Manifest) -> None:
    """At the end; where the storage has failed, the next run does it."""
    with suppress(OSError, StorageFault):
        manifest.tidy()


def checked(plan: Plan) -> Iterator[Job]:
    """The jobs, whose images are looked for: each once. Raises KolorsError for one that is not there."""
    seen = set[str]()
    for job in plan.jobs():
        for target, location in job.images.items():
            if location in seen:
                continue
            seen.add(location)
            folder, name = split(location)
            try:
                there = open_storage(folder).exists(name)
            except OSError:
                there = False
            if not there:
                raise KolorsError(
                    f"{plan.table.name}, row {job.row}: the image {hide(location)} for {target} is not there."
                )
        yield job


def record(plan: Plan) -> dict:
    """What a run was of, for the report and for whoever looks later."""
    return {
        "format": FORMAT,
        "table": plan.table.name,
        "columns": {column: [str(target) for target in targets] for column, targets in plan.targets.items()},
        "graph": plan.graph,
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def conclude(manifest: Manifest, keys: Keys) -> int:
    """Say what is there, and write the manifest as Parquet where that is possible; an exit status."""
    errors, done, others = list[str](), 0, 0
    for line in manifest.lines():
        if keys.place(key_of(line)) is None:
            others += 1
        elif line["error"]:
            errors += [f"row {line['row']}: {line['error']}"] if len(errors) < 4 else [""]
        else:
            done += 1
    if find_spec("pyarrow"):
        from .parquet import write_parquet

        write_parquet(manifest)
    more = f" It also holds {others} jobs that the table no longer has." if others else ""
    sys.stdout.write(f"{done} of {keys.count} jobs are done: {manifest.storage.shown}.{more}\n")
    sys.stdout.write("To look at them: python -m kolors_core.render report, and what --out was.\n")
    if errors:
        sys.stderr.write(f"{len(errors)} jobs failed. {shorten(errors)}\nThe same command tries them again.\n")
    return 0 if done == keys.count else 1
