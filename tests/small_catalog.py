"""The catalog of model files with small ones in the place of the published, and a hub that offers them.

    python tests/small_catalog.py FOLDER PAUSE ARGUMENTS...

runs `python -m kolors_core.models ARGUMENTS` on the catalog that `save` wrote into FOLDER, as a process of its own,
waits PAUSE seconds at every progress, and notes every host that it speaks to in FOLDER/hosts.txt.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def content_of(file, size: int = 200_000) -> bytes:
    """Bytes of the kind that a file's name promises, always the same."""
    values = random.Random(file.place).randbytes(size)
    if file.file.endswith(".safetensors"):
        header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        return struct.pack("<Q", len(header)) + header + values
    if file.file.endswith(".bin"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo("archive/data.pkl"), b"\x80\x02}q\x00.")
            archive.writestr(zipfile.ZipInfo("archive/data/0"), values)
        return packed.getvalue()
    return b"\x08\x07" + values


def shrink(file, content: bytes):
    """A file of the catalog with the size and the hash of `content`."""
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest() if file.sha256 else None
    return dataclasses.replace(file, size=len(content), sha256=sha256)


def offer(hub, files, contents: dict[str, bytes] | None = None) -> list:
    """Put files on a hub, under main and as modelscope has them; they are returned with their new sizes and hashes."""
    small = []
    for file in files:
        content = (contents or {}).get(file.name) or content_of(file)
        hub.put(file.repo, file.path, content, file.revision)
        if file.modelscope:
            hub.put(file.modelscope, file.path, content, "master")
        small.append(shrink(file, content))
    return small


def install(catalog, get, files, shards) -> None:
    """Let the modules use other files."""
    catalog.FILES = tuple(files)
    catalog.BY_NAME.clear()
    catalog.BY_NAME.update({file.name: file for file in files})
    catalog.TOKENIZER = get.TOKENIZER = catalog.BY_NAME["tokenizer"]
    catalog.SHARDS = get.SHARDS = tuple(shards)


def save(folder: Path) -> None:
    """Write the catalog as it is now where this file, run as a program, takes it from."""
    from comfyui_kolors.kolors_core.models import catalog

    data = [[dataclasses.asdict(file) for file in group] for group in (catalog.FILES, catalog.SHARDS)]
    (folder / "catalog.json").write_text(json.dumps(data))


def run(capsys, *arguments: object) -> tuple[int, str]:
    """The exit status of the command, and what it says."""
    from comfyui_kolors.kolors_core.models import __main__ as command

    status = command.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def start(folder: Path, pause: float, *arguments: object) -> subprocess.Popen:
    """The command as a process of its own, on the catalog that was saved into a folder."""
    program = [sys.executable, __file__, folder, str(pause), *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lying_in(root: Path) -> dict[str, bytes]:
    """What there is in the models folder of a ComfyUI."""
    files = (path for path in sorted((root / "models").rglob("*")) if path.is_file())
    return {path.relative_to(root / "models").as_posix(): path.read_bytes() for path in files}


def main(folder: Path, pause: float, arguments: list[str]) -> int:
    import time

    hosts = (folder / "hosts.txt").open("a")

    def audit(event: str, args: tuple) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            address = args[1] if event == "socket.connect" else args[0]
            hosts.write(f"{address[0] if isinstance(address, tuple) else address}\n")
            hosts.flush()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell switches off for what it starts with &
    sys.path.insert(0, str(ROOT))
    from kolors_core.models import __main__ as command
    from kolors_core.models import catalog, download, get

    data = json.loads((folder / "catalog.json").read_text())
    install(catalog, get, *([catalog.ModelFile(**file) for file in group] for group in data))
    download.CHUNK = 8192
    receive = download._chunks

    def slowly(answer):
        for chunk in receive(answer):
            time.sleep(pause)
            yield chunk

    download._chunks = slowly
    sys.addaudithook(audit)
    return command.main(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
