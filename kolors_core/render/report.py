"""A page of all that was drawn: one HTML file beside the images, which fetches nothing but them."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import KolorsError
from .manifest import FOLDER, Line, Manifest
from .run import RECORD
from .storage import Storage, open_storage, reason

NAME = "report.html"
TEMPLATE = Path(__file__).with_name(NAME)
DATA = "{{data}}"  # the place of the data in the template
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
STAGES = ("load", "encode", "sample", "decode", "other", "fetch", "write", "all")
SHOWN = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp", ".svg"}  # what an <img> of every browser shows


def write_report(folder: str) -> str:
    """Write the page of a folder or URL that a run wrote to; where it is.

    Raises KolorsError where there is no manifest, or the storage fails.
    """
    storage = open_storage(folder)
    sheet = Sheet()
    for line in _lines(storage):
        sheet.add(line)
    if not sheet.rows:
        raise KolorsError(
            f"{storage.shown} holds no manifest: nothing is in its folder '{FOLDER}'. Expected a folder that this "
            "command drew to. Name the one that --out was, or draw first: "
            "python -m kolors_core.render WORKFLOW TABLE --out FOLDER"
        )
    start, end = _template()
    # A lone half of a surrogate pair becomes the escape that JSON has for it.
    data = sheet.to_json(_table_name(storage)).replace("<", "\\u003c").encode(errors="backslashreplace")
    storage.write(NAME, b"".join([start.encode(), data, end.encode()]))
    return f"{storage.shown}/{NAME}"


def _lines(storage: Storage) -> Iterator[Line]:
    try:
        yield from Manifest(storage).lines()
    except KolorsError:
        raise
    except Exception as error:  # each kind of storage has its own
        raise KolorsError(f"{storage.shown} cannot be read: {reason(error)}.") from error


def _table_name(storage: Storage) -> str:
    """What the table was called. The page does without where the record of the run is gone."""
    with suppress(Exception):
        return str(json.loads(storage.read(RECORD))["table"])
    return ""


def _template() -> tuple[str, str]:
    """What stands before the data and behind it; the page runs no script and has no style but its own."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for kind, content in INLINE.findall(text):
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = text.replace(f"{{{{{kind}}}}}", f"'sha256-{digest}'", 1)
    start, _, end = text.partition(DATA)
    return start, end


class Tally:
    """What was done by all, or by one worker."""

    def __init__(self) -> None:
        self.jobs = self.failed = self.files = self.images = 0
        self.began, self.ended = array("d"), array("d")

    def add(self, line: Line) -> None:
        names = [file["name"] for file in line["files"]]
        self.jobs += 1
        self.failed += bool(line["error"])
        self.files += len(names)
        self.images += sum(map(is_image, names))
        if line.get("began") and line.get("ended"):
            self.began.append(line["began"])
            self.ended.append(line["ended"])

    def seconds(self) -> float:
        """How long any job ran: what lies between a run and the one that goes on with it does not count."""
        total, last = 0.0, 0.0
        for began, ended in sorted(zip(self.began, self.ended)):
            total += max(0.0, ended - max(began, last))
            last = max(last, ended)
        return total

    def per_minute(self) -> float | None:
        """Images, or files where none is one."""
        seconds = self.seconds()
        return round((self.images or self.files) * 60 / seconds, 3) if seconds else None


class Sheet:
    """The data of the page. A text that occurs often is kept once; a row is kept as its JSON."""

    def __init__(self) -> None:
        self.all = Tally()
        self.workers: dict[tuple[str, str], Tally] = {}
        self.names: dict[tuple[str, str], int] = {}
        self.columns: dict[str, int] = {}
        self.texts: dict[str, int] = {}
        self.stages = {stage: array("d") for stage in STAGES}
        self.versions: dict[str, set[str]] = {}
        self.rows: list[tuple[int, int, str]] = []

    def add(self, line: Line) -> None:
        worker = (line.get("worker") or "", line.get("device") or "")
        self.all.add(line)
        self.workers.setdefault(worker, Tally()).add(line)
        self.names.setdefault(worker, len(self.names))
        for name, version in (line.get("versions") or {}).items():
            self.versions.setdefault(name, set()).add(str(version))
        seconds = line.get("seconds") or {}
        for stage, times in self.stages.items():
            if stage in seconds:
                times.append(seconds[stage])
        self.rows.append((line["row"], line["number"], _compact(self._row(line, self.names[worker], seconds))))

    def _row(self, line: Line, worker: int, seconds: dict[str, float]) -> list:
        """In the order that the page knows. A seed is a text: a browser's numbers have 53 bits."""
        values = [-1] * len(self.columns)
        for name, value in line["values"].items():
            if self.columns.setdefault(name, len(self.columns)) == len(values):
                values.append(-1)
            values[self.columns[name]] = self._text(value)
        seed = line.get("seed")
        return [
            line["row"],
            line["number"],
            -1 if seed is None else self._text(seed),
            values,
            [file["name"] for file in line["files"]],
            line["error"] or 0,
            [seconds.get(stage, -1) for stage in STAGES],
            worker,
            line.get("attempts") or 1,
            line["hash"],
        ]

    def _text(self, value: Any) -> int:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return self.texts.setdefault(text, len(self.texts))

    def to_json(self, table: str) -> str:
        head = {
            "table": table,
            "jobs": self.all.jobs,
            "images": self.all.images,
            "files": self.all.files,
            "failed": self.all.failed,
            "perMinute": self.all.per_minute(),
            "seconds": round(self.all.seconds(), 1),
            "began": min(self.all.began, default=None),
            "ended": max(self.all.ended, default=None),
            "stageNames": STAGES,
            "stages": [summary(stage, times) for stage, times in self.stages.items() if times],
            "workers": [
                [name, device, each.jobs, each.failed, each.per_minute()]
                for (name, device), each in self.workers.items()
            ],
            "versions": {name: sorted(found) for name, found in sorted(self.versions.items())},
            "columns": list(self.columns),
            "texts": list(self.texts),
        }
        rows = ",\n".join(text for _, _, text in sorted(self.rows))
        return f'{_compact(head)[:-1]},"rows":[\n{rows}]}}'


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SHOWN


def summary(stage: str, times: Iterable[float]) -> list:
    """A stage, how many jobs had it, the median and the 90th percentile of its seconds."""
    times = sorted(times)
    return [stage, len(times), round(percentile(times, 0.5), 4), round(percentile(times, 0.9), 4)]


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values; between two of them in proportion."""
    place = part * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
