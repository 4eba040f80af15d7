"""What is done: one line of JSON for each job, which counts only together with its files.

A worker writes a job's line as a file of its own, after the job's files. Whoever leads the run puts many lines into one
file and then deletes the single ones, so that ten thousand jobs do not stay ten thousand files. Wherever this stops, no
line is lost; one that stands twice is read once, and put right by the next run.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from array import array
from collections.abc import Container, Iterable, Iterator
from functools import lru_cache
from typing import Any

from ..errors import KolorsError
from .jobs import Job, name_job
from .keys import Key, Keys, KeySet
from .storage import Storage

Line = dict[str, Any]

FOLDER, IMAGES = "manifest", "images"
SINGLE, MANY = "row-", "rows-"
LINES = 500  # in a file of many
SECONDS = 30.0  # after which the lines that are there go into one file
NEEDED = ("row", "number", "hash", "files", "values", "error")  # of every line
LISTINGS = 16  # of folders of images that are kept at a time
BUCKET = 1000  # rows whose images share a folder


def line_name(row: int, number: int) -> str:
    return f"{FOLDER}/{SINGLE}{name_job(row, number)}.jsonl"


def image_folder(row: int) -> str:
    return f"{IMAGES}/{row // BUCKET:04}"


def encode(lines: Iterable[Line]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def key_of(line: Line) -> Key:
    return line["row"], line["number"]


class Manifest:
    """The lines of a storage, and the run that adds to them."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self.fresh: list[Line] = []
        self.since = time.monotonic()
        self.lock = threading.Lock()

    # ---- reading

    def files(self) -> list[str]:
        """Files of many lines first."""
        names = [name for name in self.storage.sizes(FOLDER) if name.endswith(".jsonl")]
        return [f"{FOLDER}/{name}" for name in sorted(names, key=lambda name: (not name.startswith(MANY), name))]

    def read(self, name: str) -> list[Line]:
        """The lines of one file. Raises KolorsError where it is damaged."""
        try:
            lines = [json.loads(text) for text in self.storage.read(name).decode().split("\n") if text.strip()]
            if missing := [name for name in NEEDED for line in lines if name not in line]:
                raise ValueError(f"a line without {missing[0]}")
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise KolorsError(
                f"{self.storage.shown}/{name} is no manifest that this command wrote ({error!r}). Delete the file: "
                "what it told of is drawn again."
            ) from error
        return lines

    def lines(self) -> Iterator[Line]:
        """Every line once, of a job that has two the one without an error, or else the first."""
        seen = KeySet()
        failed: dict[Key, Line] = {}
        for name in self.files():
            for line in self.read(name):
                if line["error"]:
                    failed.setdefault(key_of(line), line)
                elif key_of(line) not in seen:
                    seen.add(key_of(line))
                    yield line
        yield from (line for key, line in failed.items() if key not in seen)

    # ---- going on

    def resume(self, jobs: Iterable[Job]) -> tuple[Keys, KeySet]:
        """Which jobs there are, and the done ones: their line is of the same graph, and their files are there.

        What stands in the manifest of the other ones is deleted, but for rows that the table no longer has.
        """
        keys, hashes = Keys(), array("Q")
        for job in jobs:
            keys.add((job.row, job.number))
            hashes.append(int(job.hash[:16], 16))
        done, gone = KeySet(), KeySet()
        there = lru_cache(LISTINGS)(self.storage.sizes)
        for line in self.lines():
            place = keys.place(key_of(line))
            if place is None:
                continue
            files = there(image_folder(line["row"]))
            whole = all(files.get(file["name"].rpartition("/")[2]) == file["bytes"] for file in line["files"])
            same = line["hash"][:16] == f"{hashes[place]:016x}"
            (done if whole and same and not line["error"] else gone).add(key_of(line))
        self.tidy(gone)
        return keys, done

    def tidy(self, gone: Container[Key] = ()) -> None:
        """Put single lines into files of many, and drop second ones, failed ones that were done since, and `gone`."""
        done, seen = KeySet(), KeySet()
        for line in self.lines():
            if not line["error"]:
                done.add(key_of(line))

        def stays(line: Line) -> bool:
            key = key_of(line)
            if key in seen or key in gone or (line["error"] and key in done):
                return False
            seen.add(key)
            return True

        singles, old = list[Line](), list[str]()
        for name in self.files():
            lines = self.read(name)
            kept = [line for line in lines if stays(line)]
            if name.startswith(f"{FOLDER}/{SINGLE}"):
                singles += kept
                old.append(name)
                if len(singles) >= LINES:
                    self._gather(singles, old)
                    singles, old = [], []
            elif not kept:
                self.storage.delete([name])
            elif len(kept) < len(lines):
                self.storage.write(name, encode(kept))
        self._gather(singles, old)

    # ---- a run

    def record(self, line: Line) -> None:
        """A worker's line: from now on the job is done."""
        self.storage.write(line_name(line["row"], line["number"]), encode([line]))

    def add(self, line: Line) -> None:
        """A line that a worker has recorded, and that nobody will look for any more: it may move into one of many."""
        with self.lock:
            self.fresh.append(line)
            if len(self.fresh) < LINES and time.monotonic() - self.since < SECONDS:
                return
            fresh, self.fresh, self.since = self.fresh, [], time.monotonic()
        self._gather(fresh, [line_name(*key_of(line)) for line in fresh])

    def _gather(self, lines: list[Line], singles: list[str]) -> None:
        if lines:
            self.storage.write(f"{FOLDER}/{MANY}{uuid.uuid4().hex}.jsonl", encode(lines))
        self.storage.delete(singles)
