"""Packs what travels to a machine with a card beside the working tree: `.whl/` and `.device/`, which git ignores.

    python3 benchmarks/card/pack.py [--comfyui FOLDER] [--second FOLDER]

The host is the one that `python3 dev.py host` has set up, or a folder that is given; `--second` takes another along.
Wheels are downloaded by pip as it is configured here; those that are there stay. Ends with the sizes, and with a check
that no package is missing there.
"""

from __future__ import annotations

import argparse
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

KIT = Path(__file__).resolve().parent
ROOT = KIT.parent.parent
WHEELS, DEVICE = ROOT / ".whl", ROOT / ".device"
PYTHON_VERSION = "3.12"
LIMIT = 64  # MiB that everything together may have
PLATFORMS = [f"manylinux_2_{number}_x86_64" for number in (28, 27, 24, 17, 12)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]

#: What of a ComfyUI neither the nodes nor the tests read. Tokenizers of other models are nine tenths of its bytes.
LEFT_OUT = re.compile(
    r"(?:\.git|\.github|\.ci|tests|tests-unit|script_examples|blueprints|models|input|output|user|temp|custom_nodes)/"
    r"|comfy/text_encoders/[^/]*tokenizer[^/]*/"
    r"|openapi\.yaml|[^/]*\.md|.*\.pyc|(?:.*/)?__pycache__/"
)
#: Required in their metadata, but imported only by what is not used here.
OPTIONAL = {"greenlet"}  # sqlalchemy, for asyncio
RUN = '#!/bin/bash\nexec bash "$(dirname "${BASH_SOURCE[0]}")/../../benchmarks/card/run.sh" "$@"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, metavar="FOLDER", default=ROOT / ".dev/comfyui", help="the host")
    parser.add_argument("--second", type=Path, metavar="FOLDER", help="another ComfyUI, such as the newest, as well")
    parser.add_argument("--without-wheels", action="store_true", help="leave .whl/ as it is")
    args = parser.parse_args()
    hosts = {"comfyui": args.comfyui, "second": args.second}
    hosts = {name: folder.expanduser().resolve() for name, folder in hosts.items() if folder}
    for folder in hosts.values():
        if not (folder / "main.py").is_file() or not (folder / "comfy").is_dir():
            sys.exit(f"{folder} is no ComfyUI: no main.py and comfy/ in it. Run python3 dev.py host, or give a folder.")
    if not args.without_wheels:
        fetch_wheels(required([folder / "requirements.txt" for folder in hosts.values()]))
    shutil.rmtree(DEVICE, ignore_errors=True)
    (DEVICE / "kit").mkdir(parents=True)
    (DEVICE / "kit/run.sh").write_text(RUN, encoding="utf-8")
    for name, folder in hosts.items():
        pack_host(folder, DEVICE / f"{name}.tar.gz")
    if tokenizer := find_tokenizer():
        shutil.copyfile(tokenizer, DEVICE / "tokenizer.model")
    else:
        print("No tokenizer.model of ChatGLM3: set KOLORS_TOKENIZER to its path. Tests that need it will be skipped.")
    report(missing_packages())


# ---- the host -------------------------------------------------------------------------------------------------------


def pack_host(folder: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for place, folders, files in os.walk(folder):
            inside = Path(place).relative_to(folder)
            folders[:] = sorted(name for name in folders if not LEFT_OUT.fullmatch((inside / name).as_posix() + "/"))
            for path in (inside / name for name in sorted(files)):
                if not LEFT_OUT.fullmatch(path.as_posix()) and not (folder / path).is_symlink():
                    archive.add(folder / path, f"host/{path.as_posix()}", recursive=False, filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def find_tokenizer() -> Path | None:
    """ChatGLM3's real tokenizer.model, where tests/conftest.py looks for it."""
    places = (os.environ.get("KOLORS_TOKENIZER"), ROOT.parent / "shared/data/chatglm3/tokenizer.model")
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


# ---- the wheels -----------------------------------------------------------------------------------------------------


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(files: list[Path]) -> dict[str, tuple[str, bool]]:
    """What wheels.txt lists, by name: the version, the hosts' own where they pin one, and whether without binaries."""
    found = {}
    for line in (KIT / "wheels.txt").read_text(encoding="utf-8").splitlines():
        if words := line.split("#")[0].split():
            name, version = words[0].split("==")
            found[normal(name)] = version, words[1:] == ["pure"]
    for file in filter(Path.is_file, files):
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            if normal(name) in found:
                found[normal(name)] = version, found[normal(name)][1]
    return found


def fetch_wheels(wanted: dict[str, tuple[str, bool]]) -> None:
    """Download what is wanted and not there; delete what is not wanted."""
    WHEELS.mkdir(exist_ok=True)
    absent = dict(wanted)
    for wheel in WHEELS.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        if wanted.get(normal(name), ("",))[0] == version:
            absent.pop(normal(name), None)
        else:
            wheel.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON_VERSION, "--implementation", "cp", "--dest", str(WHEELS)]
    for pure, platforms in ((False, PLATFORMS), (True, ["any"])):
        names = sorted(f"{name}=={version}" for name, (version, is_pure) in absent.items() if is_pure == pure)
        if names:
            print(f"Downloading {len(names)} wheels ...", flush=True)
            options = [part for platform in platforms for part in ("--platform", platform)]
            subprocess.run([*command, *options, *names], check=True)


def missing_packages() -> list[str]:
    """What the wheels require and neither the machine nor a wheel nor a stub has; and wheels that do not belong."""
    lines = (KIT / "device-packages.txt").read_text(encoding="utf-8").splitlines()
    there = {normal(line) for line in lines if line[:1].isalnum()}
    there |= {normal(path.stem.split("-")[0]) for path in (KIT / "stubs").iterdir()}
    faults, wheels = [], {normal(wheel.name.split("-")[0]): wheel for wheel in sorted(WHEELS.glob("*.whl"))}
    for name, wheel in wheels.items():
        if name in there:
            faults.append(f"{wheel.name} is on the machine already; it would hide that version")
        if not re.search(r"-(?:py3|cp312|cp3\d+-abi3|py2\.py3)-", wheel.name):
            faults.append(f"{wheel.name} is not for Python {PYTHON_VERSION}")
        with zipfile.ZipFile(wheel) as archive:
            metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            message = email.message_from_bytes(archive.read(metadata))
        for requirement in message.get_all("Requires-Dist") or []:
            needed, _, marker = requirement.partition(";")
            name = normal(re.match(r"[\w.-]+", needed)[0])
            if applies(marker) and name not in there | set(wheels) | OPTIONAL:
                faults.append(f"{wheel.name} requires {needed.strip()}")
    return faults


def applies(marker: str) -> bool:
    """Whether a marker of a requirement holds on that machine; only those that occur are known."""
    old = re.fullmatch(r"\(?\s*python_version\s*<=?\s*[\"']([\d.]+)[\"']\s*\)?", marker.strip())
    if old:
        return tuple(map(int, old[1].split("."))) > tuple(map(int, PYTHON_VERSION.split(".")))
    return not any(word in marker for word in ("extra", "Windows", "win32"))


# ---- what it comes to -----------------------------------------------------------------------------------------------


def size(path: Path) -> int:
    """Bytes of a file or of a folder; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        return sum(size(child) for child in path.iterdir())
    return path.lstat().st_size


def report(faults: list[str]) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    tree = (ROOT / os.fsdecode(name) for name in listed if name)
    parts = {"working tree": sum(size(path) for path in tree if path.exists())}
    parts |= {path.relative_to(ROOT).as_posix(): size(path) for path in (WHEELS, *sorted(DEVICE.iterdir()))}
    for name, count in parts.items():
        print(f"{name:24} {count / 2**20:6.1f} MiB")
    total = sum(parts.values()) / 2**20
    print(f"{'together':24} {total:6.1f} MiB of {LIMIT}")
    if total > LIMIT:
        sys.exit("Too large: leave out --second, or untracked files.")
    if faults:
        sys.exit("\n  ".join(["These wheels will not do:", *faults]))
    print("Nothing is missing. There: bash .device/kit/run.sh STAGE...; see benchmarks/card/README.md.")


if __name__ == "__main__":
    main()
