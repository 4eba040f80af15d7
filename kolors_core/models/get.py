"""Model files into their folders: from a mirror, or from another folder on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import KolorsError
from .addresses import MIRRORS, address
from .catalog import BY_NAME, SHARDS, TOKENIZER, ModelFile, files_of
from .download import PART, Failed, Interrupted, Show, ask_for_room, download, locked, writing_to
from .verify import find_fault

Write = Callable[[str], object]
ENCODERS = {"fp16": None, "int8": 8, "int4": 4}
FETCHED = ".fetched"  # ending of a shard that is needed for a while only; a model file's the loaders would list
ROUNDING = 0.01  # share of a rounded size by which the real one may differ
QUICK = 10**8  # bytes of files whose hash takes no time
CONVERTED_SIZE = {8: 6_250_000_000, 4: 3_400_000_000}  # bytes of the released encoder with its tokenizer


@dataclass(frozen=True)
class Source:
    """Where files come from: a folder alone; or what is below `models` already, whatever it is called, and a mirror."""

    mirror: str
    models: Path
    folder: Path | None = None

    def find(self, file: ModelFile) -> Path | None:
        """A whole copy of a file on this machine. Raises KolorsError where it must be in the folder and is not."""
        if self.folder is None:
            return find_copy(file, self.models)[0] if file.sha256 else None
        origin, faults = find_copy(file, self.folder)
        if origin is None:
            names = " or ".join(sorted({file.file, Path(file.path).name}))
            raise KolorsError(
                f"{file.name} is not in {self.folder}: expected {names} of {describe_size(file)}." + "".join(faults)
            )
        return origin


def find_copy(file: ModelFile, folder: Path) -> tuple[Path | None, list[str]]:
    """A whole copy of a file below a folder, by size and hash, or by its names; and what is wrong with others."""
    names, faults = {file.file, Path(file.path).name}, []
    for root, _, files in os.walk(folder):
        for path in (Path(root, name) for name in sorted(files) if not name.endswith((PART, FETCHED))):
            with suppress(OSError):
                size = path.stat().st_size
                alike = abs(size - file.size) <= file.size * ROUNDING and path.name in names
                if size == file.size if file.exact else alike:
                    fault = find_fault(path, None, file.sha256)
                    if fault is None:
                        return path.resolve(), faults
                    faults.append(f" {path} {fault}.")
    return None, faults


@dataclass(frozen=True)
class Job:
    """A file to bring to `target`; bits: of an encoder that is made of the shards."""

    name: str
    target: Path
    size: int
    file: ModelFile | None = None
    bits: int | None = None


def plan(names: Iterable[str], models: Path, encoder: str = "fp16") -> list[Job]:
    """What is to be done for names of files and features below a models folder. Raises KeyError with a wrong name."""
    files, bits = files_of(names), ENCODERS[encoder]
    jobs = []
    for file in files:
        if bits and file.name == "encoder":
            target = models / file.folder / f"chatglm3-{encoder}.safetensors"
            jobs.append(Job(file.name, target, CONVERTED_SIZE[bits], bits=bits))
        elif not (bits and file is TOKENIZER and any(each.name == "encoder" for each in files)):  # it is inside
            jobs.append(Job(file.name, models / file.folder / file.file, file.size, file))
    return jobs


def get(jobs: list[Job], source: Source, overwrite: bool, write: Write) -> None:
    """Do all that is not done; says what it does.

    Raises KolorsError with what went wrong and what to do; what is done by then stays.
    """
    to_do = [job for job in jobs if not _is_there(job, overwrite, write)]
    there = len(jobs) - len(to_do)
    if source.folder:
        write(f"Comparing what is in {source.folder}\n")
        if len(to_do) > 1:
            to_do = [job for job in to_do if not _goes_without(job, source.folder, write)]
    origins = {job.name: source.find(job.file) if job.file else None for job in to_do}
    _ask_for_all([(job, origins[job.name]) for job in to_do])
    for job in to_do:
        licence = (job.file or BY_NAME[job.name]).licence
        write(f"{job.name}: {job.target} ({describe_gigabytes(job.size)}, {licence})\n")
        with _explained(job, source.mirror):
            if job.file is None:
                _convert(job, source, write)
            elif origin := origins[job.name]:
                _take(origin, job.target)
                write(f"  taken from {origin}\n")
            else:
                _fetch(job.file, job.target, source.mirror)
    write(f"{len(to_do)} brought, {there} there already.\n")


def _is_there(job: Job, overwrite: bool, write: Write) -> bool:
    """Whether a file is in its place already; by its hash where that takes no time, or it may be overwritten.

    Raises KolorsError where another one is there, which may not.
    """
    if not job.target.exists():
        return False
    size = job.file.size if job.file and job.file.exact else None
    sha256 = job.file.sha256 if job.file and (job.file.size < QUICK or overwrite) else None
    fault = find_fault(job.target, size, sha256)
    if fault is None:
        write(f"{job.name}: {job.target} is there already\n")
        return True
    if overwrite:
        return False
    raise KolorsError(f"{job.target} {fault}. It was left alone. Move it away, or add --overwrite to have it replaced.")


def _goes_without(job: Job, folder: Path, write: Write) -> bool:
    """Whether a job is about the tokenizer, which the panel of a template does not fetch, and it is not in a folder."""
    if job.file is not TOKENIZER or find_copy(TOKENIZER, folder)[0]:
        return False
    write(f"{job.name}: not in {folder}; the text encoder's loader fetches it where it is missing\n")
    return True


def _ask_for_all(jobs: list[tuple[Job, Path | None]]) -> None:
    """Raises KolorsError where a disk has not enough room for all that is not there already, as its origin says."""
    needed: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for job, origin in jobs:
        folder = next(parent for parent in job.target.parents if parent.exists())
        disk = folder.stat().st_dev
        if origin and origin.stat().st_dev == disk:
            continue  # it becomes a hard link
        part = job.target.with_name(job.target.name + PART)
        shard = max(file.size for file in SHARDS) if job.bits else 0
        needed[disk] += max(0, job.size + shard - (part.stat().st_size if part.is_file() else 0))
        folders.setdefault(disk, folder)
    for disk, folder in folders.items():
        ask_for_room(folder, needed[disk])


@contextmanager
def _explained(job: Job, mirror: str) -> Iterator[None]:
    """What a server did, with what to do about it."""
    try:
        yield
    except Failed as error:
        again = "Run the same command again: it goes on where it stopped.\n" * isinstance(error, Interrupted)
        others = " or ".join(name for name in MIRRORS if name != mirror)
        by_hand = f"Or put the file into {job.target.parent} as {job.target.name} by hand." if job.file else ""
        raise KolorsError(
            f"{job.name} could not be fetched. {error}.\n{again}"
            f"Another mirror may have it: --mirror {others}.\n{by_hand}"
        ) from error


def _fetch(file: ModelFile, target: Path, mirror: str) -> None:
    """Raises Failed with the address in front."""
    url = address(file, mirror)
    if url is None:
        raise Failed(f"{file.path} of {file.repo} is not on {mirror}")
    with _progress(file) as show:
        try:
            download(url, target, file.size if file.exact else None, file.sha256, show)
        except Failed as error:
            raise type(error)(f"{url}: {error}") from error


@contextmanager
def _progress(file: ModelFile) -> Iterator[Show]:
    """A bar on a terminal where tqdm is installed, as it is with ComfyUI; else a line."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield partial(_show_line, file)
        if sys.stderr.isatty():
            sys.stderr.write("\n")
        return
    bar = tqdm(total=file.size, unit="B", unit_scale=True, desc=file.name, file=sys.stderr, disable=None)

    def show(done: int, total: int | None) -> None:
        if not bar.n:
            bar.initial = done  # what an earlier run fetched counts for no speed
        bar.total = total or file.size
        bar.update(done - bar.n)
        if done == bar.total:
            bar.set_description(f"{file.name}, checking")

    with bar:
        yield show


def _show_line(file: ModelFile, done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r  {file.name}: {done / 1e9:.2f} of {(total or file.size) / 1e9:.2f} GB")


def describe_size(file: ModelFile) -> str:
    """In bytes where they are known, else rounded."""
    return f"{file.size:,} bytes" if file.exact else describe_gigabytes(file.size)


def describe_gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB"


def _take(origin: Path, target: Path) -> None:
    """A hard link, which takes no room; a copy where the disk is another one."""
    part = target.with_name(target.name + PART)
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(part, keep=False) as stream:  # nobody else is at it
            stream.truncate(0)  # what an earlier run left there
        try:
            os.link(origin, part)
        except OSError:
            shutil.copyfile(origin, part)
        part.replace(target)


def _convert(job: Job, source: Source, write: Write) -> None:
    """The encoder in fewer bits from its shards, each of which is fetched, converted and removed."""
    try:
        from .convert import Conversion
    except ImportError as error:
        raise KolorsError(
            f"Converting the encoder needs the package {error.name}. Run the command with ComfyUI's Python, or take "
            "encoder-8bit or encoder-4bit, which are smaller downloads as well."
        ) from error
    assert job.bits
    room = job.target.with_name(f".{job.target.stem}")
    with writing_to(job.target.parent):
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with locked(job.target.with_name(job.target.name + PART), keep=True):
            conversion = Conversion(job.target, job.bits)
            tokenizer = _obtain(TOKENIZER, room, source).read_bytes()
            for number, shard in enumerate(SHARDS, 1):
                if shard.file not in conversion.done:
                    path = _obtain(shard, room, source)
                    write(f"  converting {number} of {len(SHARDS)}: {path}\n")
                    conversion.add(path, shard.file)
                    if path.parent == room:
                        path.unlink()
        conversion.finish(tokenizer)
        shutil.rmtree(room, ignore_errors=True)


def _obtain(file: ModelFile, room: Path, source: Source) -> Path:
    """Where a file is that is needed for a while only: on this machine already, or fetched into `room`."""
    path = room / f"{file.file}{FETCHED}"
    if path.exists() and find_fault(path, file.size, file.sha256) is None:
        return path
    if origin := source.find(file):
        return origin
    _fetch(file, path, source.mirror)
    return path
