"""What travels to a machine with a card, and what a stage there leaves on disk."""

import importlib.util
import json
import signal
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "card"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def pack(monkeypatch, tmp_path):
    """pack.py in a project without wheels."""
    found = module("pack")
    monkeypatch.setattr(found, "WHEELS", tmp_path / ".whl")
    monkeypatch.setattr(found, "DEVICE", tmp_path / ".device")
    (tmp_path / ".whl").mkdir()
    return found


@pytest.fixture
def common(monkeypatch, tmp_path):
    """kit_common.py with a report in a folder of its own."""
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setenv("KIT_SLOW", "1")
    monkeypatch.delenv("KIT_ONLY", raising=False)
    monkeypatch.delenv("KIT_DEADLINE", raising=False)
    return module("kit_common")


def test_a_host_travels_without_models_and_tokenizers(pack, tmp_path):
    kept = {"main.py", "comfy/sd.py", "comfy/sd1_tokenizer.py", "requirements.txt"}
    host = tmp_path / "host"
    for name in (*kept, "models/vae/a.safetensors", "comfy/text_encoders/t5_tokenizer/t.json", ".git/config", "a.pyc"):
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).touch()
    pack.pack_host(host, tmp_path / "host.tar.gz")
    with tarfile.open(tmp_path / "host.tar.gz") as archive:
        assert {name.removeprefix("host/") for name in archive.getnames()} == kept


def test_a_folder_that_is_no_host_is_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pack.py", "--second", str(tmp_path)])
    with pytest.raises(SystemExit, match="is no ComfyUI"):
        pack.main()
    assert not (tmp_path / ".device").exists()


def test_a_host_pins_its_own_versions(pack, tmp_path):
    (tmp_path / "requirements.txt").write_text("comfy-kitchen==9.8.7\ntorch\nav>=1\nother==1\n", encoding="utf-8")
    listed = pack.required([])
    assert listed["comfy-kitchen"][1] and not listed["diffusers"][1]
    assert pack.required([tmp_path / "requirements.txt"]) == listed | {"comfy-kitchen": ("9.8.7", True)}


def test_a_package_that_a_wheel_requires_is_missed(pack):
    def wheel(name: str, *needs: str) -> None:
        with zipfile.ZipFile(pack.WHEELS / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(
                f"{name}-1.0.dist-info/METADATA", "".join(f"Requires-Dist: {need}\n" for need in needs) + "\n"
            )

    wheel("first", "second>1", "torch", "av", 'tomli; python_version < "3.11"', 'pytest_x; extra == "test"')
    assert pack.missing_packages() == ["first-1.0-py3-none-any.whl requires second>1"]
    wheel("second")
    assert not pack.missing_packages()
    wheel("numpy")
    assert pack.missing_packages() == [
        "numpy-1.0-py3-none-any.whl is on the machine already; it would hide that version"
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarm signal, by which a check ends")
def test_every_check_is_on_disk_when_it_ends(common, tmp_path):
    report = common.Report("smoke")

    def outcome(run, **options) -> str:
        report.check("one", run, **options)
        found = json.loads((tmp_path / "smoke.json").read_text(encoding="utf-8"))["checks"]["one"]
        return found["outcome"]

    def skip():
        raise common.Skip("why")

    assert outcome(lambda: {"error": 0.1}) == "ok"
    assert outcome(lambda: {"ok": False}) == "WRONG"
    assert outcome(lambda: 1 / 0) == "FAILED"
    assert outcome(skip) == "skipped"
    assert outcome(lambda: None, need=1e9) == "no time"
    assert outcome(lambda: time.sleep(20), limit=0.2) == "TOO LONG"


def test_a_value_that_is_not_finite_is_no_small_error(common):
    import torch

    ones = torch.ones(3)
    assert common.error(ones * 1.5, ones) == pytest.approx(0.5)
    assert not common.error(ones * float("nan"), ones) <= 1
