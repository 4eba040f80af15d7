"""devtools/repairs.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from comfyui_kolors.devtools import repairs
from comfyui_kolors.devtools.progress import Step
from comfyui_kolors.devtools.repairs import repair_torchaudio, repair_torchvision

PYTHON = Path(sys.executable)


def fake_torch_family(site: Path) -> None:
    """A torch that records operators, and a torchvision that needs two of them, as the real one does."""
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("from . import library\n")
    (site / "torch" / "library.py").write_text("known = []\ndef define(name, schema): known.append(name)\n")
    (site / "torchvision.py").write_text(
        "from torch.library import known\nassert known == ['torchvision::nms', 'torchvision::qnms'], known\n"
    )


def test_torchvision_repair_declares_its_operators_at_its_first_import(tmp_path):
    fake_torch_family(tmp_path)
    begin = f"import site, sys; sys.path.insert(0, {str(tmp_path)!r}); site.addsitedir({str(tmp_path)!r}); "
    code = begin + "assert 'torch' not in sys.modules; import torchvision"
    command = [PYTHON, "-S", "-c", code]  # without the .pth files of this environment
    assert b"AssertionError: []" in subprocess.run(command, capture_output=True).stderr
    repair_torchvision(tmp_path)
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_torchaudio_repair_removes_compiled_parts_only(tmp_path):
    lib = tmp_path / "torchaudio" / "lib"
    lib.mkdir(parents=True)
    for name in ("__init__.py", "_torchaudio.abi3.so", "libtorchaudio.pyd"):
        (lib / name).touch()
    repair_torchaudio(tmp_path)
    assert [path.name for path in lib.iterdir()] == ["__init__.py"]


def test_only_what_cannot_be_imported_is_repaired(home, monkeypatch):
    broken, repaired = {"torchvision"}, []
    monkeypatch.setattr(repairs, "python_says", lambda python, code: None if code.split()[-1] in broken else "")
    monkeypatch.setattr(repairs, "site_packages", lambda python: home)
    monkeypatch.setattr(repairs, "run_logged", lambda step, command, log, todo: repaired.append(command[-1]))
    for name in ("torchvision", "torchaudio"):
        monkeypatch.setattr(repairs, f"repair_{name}", lambda site, name=name: repaired.append(f"repair {name}"))
    repairs.check_imports(Step("[1/1] test"), PYTHON)
    assert repaired == ["repair torchvision", "import torchvision"]
    broken.clear()
    repaired.clear()
    repairs.check_imports(Step("[1/1] test"), PYTHON)
    assert repaired == []
