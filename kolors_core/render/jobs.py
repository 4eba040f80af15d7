"""What is drawn: one graph for each row of the table, and for each of its seeds."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import KolorsError
from .inputs import SEEDS, Target, as_value, find_seed, find_targets
from .storage import join
from .table import Row, Table
from .workflow import Graph

SPAN = re.compile(r"(\d+)\s*-\s*(\d+)$")
MOST_SEEDS = 1_000_000  # of one row


@dataclass(frozen=True)
class Job:
    """One run of the workflow.

    row: of the table, from 1. number: which of the row's `seeds`, from 1, or 0 where it has none. values: cells by
    column, what a person looks for in a report. seed: of the first sampler. graph: with images named as in the table.
    images: where those lie, by NODE.input.
    """

    row: int
    number: int
    seed: int | None
    values: Row
    graph: Graph
    images: dict[str, str]

    @property
    def id(self) -> str:
        return name_job(self.row, self.number)

    @property
    def hash(self) -> str:
        return hash_graph(self.graph)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))


def name_job(row: int, number: int) -> str:
    return f"{row:06}-{number:03}" if number else f"{row:06}"


def hash_graph(graph: Graph) -> str:
    """SHA-256 of a graph, whatever the order of its nodes and inputs."""
    return hashlib.sha256(json.dumps(graph, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Plan:
    """The jobs of a workflow and a table. `folder`: what paths of images in the table start from, or a URL."""

    def __init__(self, graph: Graph, table: Table, folder: str, keep: tuple[str, ...] = ()):
        """Raises KolorsError where a column sets nothing, or one to be kept is missing."""
        self.graph, self.table, self.folder = graph, table, folder
        columns = table.columns()
        if missing := [name for name in keep if name not in columns]:
            raise KolorsError(f"{table.name} has no column '{missing[0]}' to keep. It has {', '.join(columns)}.")
        try:
            self.targets = find_targets([name for name in columns if name not in keep], graph)
        except KolorsError as error:
            raise KolorsError(f"{table.name}: {error}") from None
        self.seed = find_seed(graph)

    def jobs(self) -> Iterator[Job]:
        """Every job, in the order of the table. Raises KolorsError that names the row and the column of a bad cell."""
        for row, cells in enumerate(self.table.rows(), 1):
            seeds = self._seeds(row, cells)
            for number, seed in enumerate(seeds, 1):
                yield self._job(row, number, {**cells, "seed": seed})
            if not seeds:
                yield self._job(row, 0, cells)

    def missing(self, done: Container[tuple[int, int]]) -> Iterator[Job]:
        """The jobs whose row and number are not among those."""
        return (job for job in self.jobs() if (job.row, job.number) not in done)

    def _seeds(self, row: int, cells: Row) -> list[int]:
        if SEEDS not in self.targets or SEEDS not in cells:
            return []
        try:
            if "seed" in self.targets and "seed" in cells:
                raise ValueError("the row has a seed as well, leave one of them out")
            return list_seeds(cells[SEEDS])
        except ValueError as error:
            return self._bad(row, SEEDS, error)

    def _job(self, row: int, number: int, cells: Row) -> Job:
        graph, images = copy.copy(self.graph), dict[str, str]()
        changed = set[str]()

        def put(target: Target, value: Any) -> None:
            if target.node not in changed:
                node = graph[target.node]
                graph[target.node] = {**node, "inputs": dict(node["inputs"])}
                changed.add(target.node)
            graph[target.node]["inputs"][target.input] = value

        for column, targets in self.targets.items():
            cell = cells.get("seed" if column == SEEDS else column)
            if cell is None:
                continue
            for target in targets:
                try:
                    value = as_value(cell, target.kind)
                except ValueError as error:
                    self._bad(row, column, error)
                put(target, value)
                if target.kind == "image":
                    images[str(target)] = join(self.folder, value)
        values = {name: cell for name, cell in cells.items() if name != SEEDS}
        seed = graph[self.seed.node]["inputs"][self.seed.input] if self.seed else None
        return Job(row, number, seed if isinstance(seed, int) else None, values, graph, images)

    def _bad(self, row: int, column: str, error: ValueError) -> Any:
        raise KolorsError(f"{self.table.name}, row {row}, column '{column}': {error}.")


def list_seeds(cell: Any) -> list[int]:
    """The numbers in ``[1, 2]``, ``1``, ``"1, 2, 8"``, ``"100-103"`` or ``"1-3, 8"``. Raises ValueError."""
    parts = cell if isinstance(cell, list) else str(cell).strip("[] ").replace(",", " ").split()
    if isinstance(cell, str):
        parts = re.sub(r"\s*-\s*", "-", cell.strip("[] ")).replace(",", " ").split()
    found: dict[int, None] = {}
    for part in parts:
        span = SPAN.match(part) if isinstance(part, str) else None
        first, last = (int(span[1]), int(span[2])) if span else (as_value(part, "whole"),) * 2
        if last < first or last - first >= MOST_SEEDS:
            raise ValueError(f"{part!r} is no range of seeds")
        found |= dict.fromkeys(range(first, last + 1))
    if not found:
        raise ValueError("no seed in it")
    return list(found)
