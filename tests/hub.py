"""A hub of model files on this machine, as huggingface.co and modelscope.cn are one, with faults to order.

It answers HEAD and GET of /ORG/REPO/resolve/REVISION/PATH with a redirect to a second address, its store, which has
the bytes, ranges of them too; of /models/ORG/REPO/resolve/master/PATH likewise, but says nothing of size and hash.

    with Hub() as hub:
        hub.put("Kwai-Kolors/Kolors", "unet/a.safetensors", b"...")
        hub.fail("unet/a.safetensors", drop_after=1000, times=1)
        environment["HF_ENDPOINT"] = hub.url
        assert hub.count("unet/a.safetensors", at="store") == 2
"""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECE = 65536  # bytes that are sent at a time
RESOLVE = re.compile(r"/(models/)?([^/?]+/[^/?]+)/resolve/([^/?]+)/([^?]+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)$")
MIRRORED = "master"  # the revision that modelscope has everything under


@dataclass(frozen=True)
class Stored:
    """A file of the hub; `sha256` is that of its contents."""

    name: str
    content: bytes
    sha256: str


@dataclass
class Fault:
    """What goes wrong with a file, `times` times or always.

    at: "hub" or "store", where it goes wrong. status: an answer without the file. location: another address that the
    hub redirects to; redirect: with which status. wait: seconds until the answer. pause: seconds between pieces of
    `piece` bytes. length: the file ends there, and the answer says so. drop_after: the connection ends after so many
    bytes of the answer's body, whose length was said. flip: the bits of this byte are turned over. ranges: whether
    ranges are answered.
    """

    at: str = "store"
    times: int | None = None
    status: int | None = None
    location: str | None = None
    redirect: int = 302
    wait: float = 0
    pause: float = 0
    piece: int = PIECE
    length: int | None = None
    drop_after: int | None = None
    flip: int | None = None
    ranges: bool = True


@dataclass(frozen=True)
class Asked:
    """A request: `at` is "hub" or "store", `path` the file's in its repository, None where there is no such file.

    `headers` have names in lower case.
    """

    at: str
    method: str
    target: str
    path: str | None
    headers: dict[str, str]

    @property
    def host(self) -> str:
        return self.headers["host"]


class Hub:
    """Files by repository, revision and path; a context manager, in which `url` and `store` are addresses.

    certificate: a PEM file with its key; both addresses are then https. files: those of another hub.
    """

    def __init__(self, certificate: Path | None = None, files: dict[tuple[str, str, str], Stored] | None = None):
        self.files = {} if files is None else files
        self.asked: list[Asked] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.servers = [_server(self, at, certificate) for at in ("hub", "store")]
        self.ports = [server.server_address[1] for server in self.servers]
        protocol = "https" if certificate else "http"
        self.url, self.store = (f"{protocol}://127.0.0.1:{port}" for port in self.ports)

    def __enter__(self) -> Hub:
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def put(self, repo: str, path: str, content: bytes | Path, revision: str = "main") -> Stored:
        """Offer a file; at the revision `master` it is one of modelscope."""
        content = content.read_bytes() if isinstance(content, Path) else content
        stored = Stored(path.rpartition("/")[2], content, hashlib.sha256(content).hexdigest())
        self.files[repo, revision, path] = stored
        return stored

    def fail(self, path: str, **fault: object) -> None:
        """Let something go wrong with a path, in whatever repository; several faults come one after the other."""
        self.faults.setdefault(path, deque()).append(Fault(**fault))

    def fault(self, path: str | None, at: str) -> Fault:
        """The next one; it is used up by this."""
        waiting = self.faults.get(path or "", deque())
        for fault in waiting:
            if fault.at == at:
                if fault.times is not None:
                    fault.times -= 1
                    if not fault.times:
                        waiting.remove(fault)
                return fault
        return Fault()

    def count(self, path: str | None = None, at: str | None = None, method: str | None = None) -> int:
        """How many requests there were, of this path, this server and this method."""
        wanted = (at, method, path)
        return sum(
            all(want in (None, found) for want, found in zip(wanted, (asked.at, asked.method, asked.path)))
            for asked in self.asked
        )


def self_signed(folder: Path, *names: str) -> Path | None:
    """A certificate for 127.0.0.1 and for `names`, with its key, as a PEM file; None where there is no openssl."""
    if not shutil.which("openssl"):
        return None
    path, key = folder / "certificate.pem", folder / "key.pem"
    subject = ",".join(("subjectAltName=IP:127.0.0.1", *(f"DNS:{name}" for name in names)))
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub"]
    subprocess.run([*make, "-addext", subject, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


def _server(hub: Hub, at: str, certificate: Path | None) -> ThreadingHTTPServer:
    kind = type("Handler", (_Handler,), {"hub": hub, "at": at})
    server = _Server(("127.0.0.1", 0), kind)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client may leave when it likes."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    at: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = RESOLVE.match(self.path)
        mirror, repo, revision, path = (unquote(part or "") for part in found.groups()) if found else ("",) * 4
        right = bool(mirror) == (revision == MIRRORED)
        stored = self.hub.files.get((repo, revision, path)) if right else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(Asked(self.at, self.command, self.path, path if stored else None, headers))
        fault = self.hub.fault(path, self.at)
        time.sleep(fault.wait)
        if fault.status:
            self.answer(fault.status)
        elif stored is None:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})
        elif self.at == "hub":
            about = {} if mirror else {"X-Linked-Etag": f'"{stored.sha256}"', "X-Linked-Size": len(stored.content)}
            location = fault.location or f"{self.hub.store}{self.path.partition('?')[0]}?signature=1"
            self.answer(fault.redirect, {"Location": location, "Accept-Ranges": "bytes", **about})
        else:
            self.send(stored, fault)

    do_HEAD = do_GET

    def send(self, stored: Stored, fault: Fault) -> None:
        """The file, or the range of it that is asked for."""
        content = bytearray(stored.content[: fault.length])
        if fault.flip is not None:
            content[fault.flip] ^= 0xFF
        whole, etag = len(content), f'"{stored.sha256}"'
        asked = RANGE.match(self.headers.get("Range", "")) if fault.ranges else None
        if asked and self.headers.get("If-Range", etag) == etag:
            first, last = int(asked[1]), min(int(asked[2] or whole), whole - 1)
            if first >= whole:
                self.answer(416, {"Content-Range": f"bytes */{whole}"})
                return
            content, status = content[first : last + 1], 206
            about = {"Content-Range": f"bytes {first}-{last}/{whole}"}
        else:
            status, about = 200, {}
        name = f"inline; filename*=UTF-8''{stored.name}; filename=\"{stored.name}\";"
        kind = {"Content-Type": "application/octet-stream", "Content-Disposition": name, "ETag": etag}
        self.answer(status, {**kind, "Accept-Ranges": "bytes" if fault.ranges else "none", **about}, content, fault)

    def answer(
        self, status: int, headers: dict[str, object] | None = None, body: bytes = b"", fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(body), **CROSS_ORIGIN}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD" or not fault:
            return
        sent = body if fault.drop_after is None else body[: fault.drop_after]
        for start in range(0, len(sent), fault.piece):
            self.wfile.write(sent[start : start + fault.piece])
            time.sleep(fault.pause)
        if len(sent) < len(body):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """The tests read `asked` instead."""


#: A page of another origin may ask, as it may of huggingface.co.
CROSS_ORIGIN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "*"}
