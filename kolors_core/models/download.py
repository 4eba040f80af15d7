"""One file over HTTP: begun where the last run stopped, checked, and under its name only when it is whole.

Until then it lies beside its place as ``NAME.part``, which no loader lists. The library of the hub is not used: since
its version 2 it gives every run a temporary file of its own, and begins a download that was killed anew.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from ..errors import KolorsError
from .addresses import MIRRORS, address, may_follow
from .catalog import TOKENIZER
from .verify import find_fault

ATTEMPTS = 5
TIMEOUT = 20  # seconds without a byte
CHUNK = 1 << 20  # bytes that are written at a time
PART = ".part"
TEMPORARY, PERMANENT = 307, 308  # redirects that keep the method
SHA256 = re.compile(r"[0-9a-f]{64}")
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

Show = Callable[[int, "int | None"], None]  # bytes that are there, and bytes in all where they are known


class Failed(Exception):
    """Why a server did not give a file, as what follows its address and a colon."""


class Interrupted(Failed):
    """The same where another attempt goes on from there."""


@dataclass(eq=False)
class _Hops(HTTPRedirectHandler):
    """Follows to the hosts that are allowed, and keeps what each answer says: the hub's first one names the hash."""

    start: str
    headers: list[HTTPMessage] = field(default_factory=list)

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.headers.append(headers)
        if not may_follow(newurl, self.start):
            raise Failed(f"passes the request on to {urlsplit(newurl).netloc}, which is not one of its own hosts")
        return super().redirect_request(req, fp, TEMPORARY if code == PERMANENT else code, msg, headers, newurl)

    http_error_308 = HTTPRedirectHandler.http_error_302  # which Python 3.10 does not know

    def find_hash(self) -> str | None:
        """The sha256 that the hub names for its large files."""
        named = (headers.get("X-Linked-Etag", "").strip('W/"').lower() for headers in self.headers)
        return next(filter(SHA256.fullmatch, named), None)


def download(
    url: str,
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    show: Show | None = None,
    attempts: int = ATTEMPTS,
    resume: bool = True,
) -> None:
    """Fetch `url` to `target`, whose folder is made; what an earlier run left is gone on with.

    size: bytes, None where they are not known. sha256: as published; otherwise the one that the server names counts, or
    the file's structure. show: is told of the progress. resume: keep what there is of a file that fails, for later.
    Raises Failed with what the server did, and KolorsError where this machine cannot take the file.
    """
    part = target.with_name(target.name + PART)
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(part, keep=resume) as stream:
            named = _receive_all(url, stream, size, show, attempts)
            stream.flush()
            if fault := find_fault(part, size, sha256 or named):
                stream.truncate(0)
                raise Failed(f"the file that it sent {fault}")
            if os.name == "nt":  # which moves no open file
                stream.close()
            part.replace(target)


def _receive_all(url: str, stream: IO[bytes], size: int | None, show: Show | None, attempts: int) -> str | None:
    """All bytes, in as many attempts as may be; the hash that the server names."""
    for attempt in range(1, attempts + 1):
        hops = _Hops(url)
        try:
            _receive(hops, stream, size, show)
            return hops.find_hash()
        except Interrupted as error:
            if attempt == attempts:
                again = "" if attempts == 1 else f" {attempts} times"
                raise Interrupted(f"{error}{again}") from error
            time.sleep(min(2 ** (attempt - 1), 8))
    raise AssertionError


def _receive(hops: _Hops, stream: IO[bytes], size: int | None, show: Show | None) -> None:
    """Bytes from where `stream` ends to the end of the file."""
    have = stream.seek(0, os.SEEK_END)
    if have == size:
        return
    request = Request(hops.start, headers={"User-Agent": "comfyui-kolors", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with _opener(hops).open(request, timeout=TIMEOUT) as answer:
            hops.headers.append(answer.headers)
            have, total = _where_it_begins(answer, have)
            if size is not None and total is not None and total != size:
                page = answer.headers.get_content_type() == "text/html"
                raise Failed("it sends a web page" if page else f"it has {total:,} bytes; expected {size:,}")
            stream.truncate(have)
            stream.seek(have)
            ask_for_room(Path(stream.name).parent, (total or size or 0) - have)
            for chunk in _chunks(answer):
                have += len(chunk)
                if have > (total or size or have):
                    raise Failed(f"it sends more than {total or size:,} bytes")
                stream.write(chunk)
                if show:
                    show(have, total or size)
    except HTTPError as error:
        _judge(error, stream)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise _broken(error) from error
    if have < (total or size or 0):
        raise Interrupted(f"the connection ended at {have:,} of {total or size:,} bytes")


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """What an answer holds, some at a time."""
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (HTTPException, OSError) as error:
            raise _broken(error) from error
        if not chunk:
            return
        yield chunk


def _broken(error: Exception) -> Interrupted:
    reason = getattr(error, "reason", None) or error
    return Interrupted(f"the connection failed ({str(reason) or type(reason).__name__})")


def _where_it_begins(answer: HTTPResponse, have: int) -> tuple[int, int | None]:
    """The byte that an answer begins with, and the bytes of the whole file where it tells."""
    if answer.status == 206:
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise Failed(f"it answers a request for byte {have:,} with {answer.headers.get('Content-Range')!r}")
        return have, int(match[2])
    length = answer.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _judge(error: HTTPError, stream: IO[bytes]) -> None:
    """Raise what an error status means."""
    if error.code == 416:  # what is there is longer than the file
        stream.truncate(0)
        raise Interrupted("it has fewer bytes than the unfinished file, which was begun anew") from error
    if error.code in (408, 429) or error.code >= 500:
        raise Interrupted(f"it answers {error.code} {error.reason}") from error
    raise Failed(f"it answers {error.code} {error.reason}") from error


def _opener(hops: _Hops) -> OpenerDirector:
    context = ssl.create_default_context()
    with suppress(ImportError):  # some Pythons know of no certificates
        import certifi

        context.load_verify_locations(certifi.where())
    return build_opener(HTTPSHandler(context=context), hops)


def ask_for_room(folder: Path, needed: int) -> None:
    """Raises KolorsError where a folder's disk has fewer bytes left than are needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KolorsError(
            f"There is not enough room in {folder}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free. "
            "Make room, or choose another disk with --root."
        )


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Say in words why a folder cannot be written to."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is full" if full else f"cannot be written to ({error.strerror or error})"
        todo = "Make room" if full else "Allow writing there"
        raise KolorsError(f"{folder} {what}. {todo}, or choose another folder, and run it again.") from error


@contextmanager
def locked(part: Path, keep: bool) -> Iterator[IO[bytes]]:
    """The unfinished file, open for this run alone; where the run is killed, the system lets it go.

    keep: whether it stays where the run fails. Raises KolorsError where another run has it.
    """
    stream = part.open("ab")
    try:
        try:
            _lock(stream)
            ours = os.path.samestat(os.fstat(stream.fileno()), part.stat())  # or it has just become the finished file
        except OSError:
            ours = False
        if not ours:
            raise KolorsError(f"{part.name} in {part.parent} is being fetched by another run. Let it finish.")
        try:
            yield stream
        except BaseException:
            if not keep:
                stream.truncate(0)
            raise
        finally:
            if not stream.closed and os.fstat(stream.fileno()).st_size == 0:
                part.unlink(missing_ok=True)
    finally:
        stream.close()


def _lock(stream: IO[bytes]) -> None:
    """Raises OSError where another process holds it."""
    if os.name == "nt":
        import msvcrt

        stream.seek(1 << 60)  # a byte that no file has, for others may read
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def fetch_tokenizer(folder: Path) -> Path:
    """ChatGLM3's tokenizer.model in `folder`, from the first mirror that gives it; 1 MB, whole or not at all.

    Raises KolorsError with what every mirror answered.
    """
    target, tried = folder / TOKENIZER.file, []
    for variable in OFFLINE:
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            raise KolorsError(f"It was not fetched, because {variable} is set.")
    if target.exists():
        raise KolorsError(f"It was not fetched, because {target} is there. Move that file away.")
    for mirror in MIRRORS:
        url = str(address(TOKENIZER, mirror))
        try:
            download(url, target, TOKENIZER.size, TOKENIZER.sha256, attempts=1, resume=False)
            return target
        except Failed as error:
            tried.append(f"{urlsplit(url).netloc}: {error}")
    raise KolorsError(f"It could not be fetched. {'; '.join(tried)}.")
