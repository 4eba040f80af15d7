"""Where the images and the manifest go: a folder, or what fsspec or pyarrow reaches by a URL, such as s3://bucket/name.

A file appears whole or not at all: in a folder it is written beside its place and renamed, and an object store shows an
object when all of it has arrived.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from ..errors import KolorsError

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a drive of Windows has one letter

WEB = re.compile(r"https?://", re.IGNORECASE)


class StorageFault(KolorsError):
    """The storage does not take what is written: no row is to blame, and none can be done."""


class Storage(Protocol):
    """Files by names with slashes, below one place. Faults are OSError, in `write` StorageFault."""

    shown: str

    def write(self, name: str, content: bytes) -> None:
        """Raises StorageFault where it cannot be written whole."""
        ...

    def read(self, name: str) -> bytes: ...

    def exists(self, name: str) -> bool: ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file of a folder by its name there; nothing where there is no such folder."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Names that are not there are none to be deleted."""
        ...


def open_storage(location: str) -> Storage:
    """Raises KolorsError where a URL needs a package that is not installed, or is none."""
    return Remote(location) if URL.match(location) else Folder(location)


def join(folder: str, name: str) -> str:
    """A path or URL that may start from a folder, which may be a URL itself."""
    if URL.match(name) or os.path.isabs(name):
        return name
    if not URL.match(folder):
        return os.path.join(folder, name)
    start, mark, query = folder.partition("?")
    return f"{start.rstrip('/')}/{name}{mark}{query}"


def read_file(location: str) -> bytes:
    """The content behind a path or URL. Raises KolorsError that names it."""
    folder, name = split(location)
    try:
        return open_storage(folder).read(name)
    except KolorsError:
        raise
    except Exception as error:  # each kind of storage has its own
        raise KolorsError(f"{hide(location)} cannot be read: {reason(error)}.") from error


def split(location: str) -> tuple[str, str]:
    """The place, and the name in it. A query belongs to the name on the web, elsewhere to the place, for pyarrow."""
    if URL.match(location):
        start, mark, query = location.partition("?")
        folder, _, name = start.rpartition("/")
        return (folder, name + mark + query) if WEB.match(location) else (folder + mark + query, name)
    path = Path(location).expanduser()
    return str(path.parent), path.name


def whole(location: str) -> str:
    """The same for every process and folder: a URL, or an absolute path."""
    return location if URL.match(location) else str(Path(location).expanduser().absolute())


def hide(location: str) -> str:
    """A location for messages: without the name, password or query of a URL."""
    if not URL.match(location):
        return location
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def reason(error: BaseException) -> str:
    """What happened, in one line."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")


class Folder:
    """A folder of this machine, or one that the network makes look so."""

    def __init__(self, path: str):
        self.root = Path(path).expanduser().absolute()
        self.shown = str(self.root)

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise StorageFault(f"{path} cannot be written: {reason(error)}.") from error

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def sizes(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self.root / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)


class Remote:
    """What fsspec knows, or else pyarrow."""

    def __init__(self, url: str):
        self.shown = hide(url)
        self.system, self.root = _connect(url)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def write(self, name: str, content: bytes) -> None:
        try:
            self.system.pipe_file(self._path(name), content)
        except Exception as error:  # each kind of storage has its own
            raise StorageFault(f"{self.shown}/{name} cannot be written: {reason(error)}.") from error

    def read(self, name: str) -> bytes:
        return self.system.cat_file(self._path(name))

    def exists(self, name: str) -> bool:
        return self.system.exists(self._path(name))

    def sizes(self, folder: str) -> dict[str, int]:
        self.system.invalidate_cache()
        try:
            found = self.system.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {each["name"].rpartition("/")[2]: each["size"] for each in found if each["type"] == "file"}

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self.system.rm_file(self._path(name))


def _connect(url: str) -> tuple[Any, str]:
    """A file system of fsspec's, and the path in it."""
    scheme = url.partition(":")[0].lower()
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise KolorsError(
            f"{hide(url)}: for URLs fsspec is needed, which comes with torch. Run: pip install fsspec"
        ) from None
    query = urlsplit(url).query
    try:
        if not query:  # a query is pyarrow's way to name an end point
            system, path = url_to_fs(url)
            return system, path.rstrip("/")
    except ImportError:
        pass
    except Exception as error:
        raise KolorsError(f"{hide(url)} cannot be reached: {reason(error)}.") from error
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        system, path = FileSystem.from_uri(url)
        return ArrowFSWrapper(system), path.rstrip("/")
    except ImportError:
        package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}.get(scheme)
        raise KolorsError(
            f"{hide(url)}: this Python has no package that reaches {scheme}://. Run: pip install {package or 'pyarrow'}"
        ) from None
    except Exception as error:
        raise KolorsError(f"{hide(url)} cannot be reached: {reason(error)}.") from error
