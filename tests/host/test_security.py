"""What SECURITY.md says: no network, no other programs, no code out of files, and writes in one place only."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_kolors.demo import random_models
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.files.conditioning import save_conditioning
from comfyui_kolors.kolors_core.files.weights import read_state_dict
from image_prompts import nested
from loras import random_pairs, written
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

SAVED = [f"output/{kind}/saved_00001_.safetensors" for kind in ("conditioning", "image_prompts")]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A ComfyUI base directory with a file of every kind that the pack loads."""
    folder = tmp_path_factory.mktemp("security") / "base"
    models = folder / "models"
    random_models.write(models)
    for kind in ("checkpoints", "controlnet", "ipadapter", "loras", "../output"):
        (models / kind).mkdir()
    unet = load_file(models / random_models.UNET_FILE)
    torch.save({"state_dict": unet}, models / "checkpoints" / "checkpoint.ckpt")
    save_file(
        random_models.random_control_net(random_models.TINY).state_dict(), models / "controlnet/control-net.safetensors"
    )
    adapter = random_models.random_ip_adapter(random_models.TINY, 64)
    torch.save(nested(adapter), models / "ipadapter" / "adapter.bin")
    pairs = random_pairs(random_models.random_unet(random_models.TINY))
    lora = written(pairs, lambda module: f"unet.{module}", ".lora_A.weight", ".lora_B.weight")
    save_file(lora, models / "loras" / "lora.safetensors")
    return folder


@pytest.fixture(scope="module")
def audit(base) -> dict[str, list[str]]:
    """The events of each stage of audited.py, and under `files` what it left in the base directory."""
    before = set(base.rglob("*"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, Path(__file__).with_name("audited.py"), base]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    left = sorted(path.relative_to(base).as_posix() for path in set(base.rglob("*")) - before if path.is_file())
    return json.loads(done.stdout.splitlines()[-1]) | {"files": left}


@pytest.mark.parametrize("stage", ["import", "load", "draw", "load what was saved"])
def test_no_network_no_programs_no_code_of_files_and_no_writes(audit, stage):
    assert audit.get(stage, []) == []


def test_what_is_written_lies_in_the_output_folder(audit):
    assert audit["files"] == ["forbidden", *SAVED]
    assert {event.split()[0] for event in audit["save"]} <= {"os.mkdir", "os.rename", "os.remove"}
    places = "output/conditioning", "output/image_prompts"
    assert [event for event in audit["save"] if not any(place in event.replace("\\", "/") for place in places)] == []


def test_what_is_forbidden_is_noticed(audit):
    noticed = {event.split()[0] for event in audit["forbidden"]}
    assert {"socket.connect", "subprocess.Popen", "pickle.find_class", "open"} <= noticed


@pytest.mark.filterwarnings("ignore:.*TorchScript")
def test_a_torchscript_archive_is_named_and_not_executed(tmp_path):
    """torch.load would hand one to the runtime of TorchScript, which runs what is in it."""

    class Script(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.save(torch.jit.script(Script()), tmp_path / "script.bin")
    with pytest.raises(KolorsError, match=r"script\.bin in .* is a compressed archive"):
        read_state_dict(tmp_path / "script.bin")


OUTSIDE = ["../secret.safetensors", "a/../../secret.safetensors", "..\\secret.safetensors", "{base}/secret.safetensors"]


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """The host's folders in a directory of their own, and in it a file that belongs to none of them."""
    import folder_paths

    for kind in ("input", "output"):
        (tmp_path / kind / "a").mkdir(parents=True)
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    for kind, (paths, extensions) in list(folder_paths.folder_names_and_paths.items()):
        folder = tmp_path / kind
        (folder / "a").mkdir(parents=True, exist_ok=True)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(folder)] * len(paths), extensions))
    save_conditioning(tmp_path / "secret.safetensors", [[torch.zeros(1, 2, 4), {}]])
    return tmp_path


@pytest.fixture(params=["text_encoder.conditioning", "ip_adapter.image_prompt"])
def files(request):
    """A kind of file that nodes of the pack save and load."""
    return importlib.import_module(f"comfyui_kolors.kolors_core.host.{request.param}").FILES


@pytest.mark.parametrize("mark", ["", " [input]", " [output]"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_saved_file_is_not_read_from_outside_its_folders(folders, files, name, mark):
    """A name that another node hands over is not checked against the list, and up to 0.8 the host follows any."""
    name = name.format(base=folders) + mark
    with pytest.raises(FileNotFoundError, match=rf"was not found in .* Save one with '{files.saver}'"):
        files.find(name)
    assert files.fingerprint(name) == f"{name} missing"


@pytest.mark.parametrize("kind", ["diffusion_models", "text_encoders", "checkpoints", "controlnet", "loras"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_model_is_not_read_from_outside_its_folders(folders, name, kind):
    from comfyui_kolors.kolors_core.host import model_files

    with pytest.raises(FileNotFoundError, match="was not found"):
        model_files.resolve(kind, name.format(base=folders))


@pytest.mark.parametrize("prefix", ["../saved", "a/../../saved", "../new/saved", "{base}/saved"])
def test_nothing_is_saved_outside_the_output_folder(folders, files, prefix):
    with pytest.raises(Exception, match=r"outside the output folder|leads out of"):
        files.next_path(prefix.format(base=folders))
    assert not (folders / "new").exists()


def test_files_inside_the_folders_are_found(folders, files):
    from comfyui_kolors.kolors_core.host import model_files

    for kind in ("input/a", "output", "diffusion_models/a"):
        save_conditioning(folders / kind / "x..y.safetensors", [[torch.zeros(1, 2, 4), {}]])
    assert files.find("a/x..y.safetensors") == folders / "input/a/x..y.safetensors"
    assert files.find("x..y.safetensors [output]") == folders / "output/x..y.safetensors"
    assert Path(model_files.resolve("diffusion_models", "a/x..y.safetensors")).samefile(
        folders / "diffusion_models/a/x..y.safetensors"
    )
