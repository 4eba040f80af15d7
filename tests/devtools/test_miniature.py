"""devtools/miniature.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.miniature import DEMO_ADAPTER, DEMO_CHECKPOINT, DEMO_TOWER, SMALL_TOWER, make_tower
from comfyui_kolors.devtools.progress import Progress, SetupError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(home, monkeypatch) -> Path:
    """The small vision encoder of a stand-in repository, which is "expanded" by copying it in capitals."""
    file = home / SMALL_TOWER
    file.parent.mkdir(parents=True)
    file.write_text("small")
    (home / "demo" / "expand_clip_vision.py").write_text(
        f"import sys\nopen(sys.argv[1], 'w').write(open({str(file)!r}).read().upper())\n"
    )
    monkeypatch.setattr("comfyui_kolors.devtools.places.ROOT", home)
    return file


def made_tower(setup) -> str:
    """Runs the step, and returns what is in the models folder."""
    (setup.base / "models" / "clip_vision").mkdir(parents=True, exist_ok=True)
    make_tower(setup, Progress(1))
    return (setup.base / "models" / "clip_vision" / DEMO_TOWER).read_text()


@pytest.mark.parametrize("damage", ["missing", "other weights", None])
def test_a_changed_or_missing_vision_encoder_is_made_again(setup, small, damage, capsys):
    assert made_tower(setup) == "SMALL"
    if damage == "missing":
        (setup.base / "models" / "clip_vision" / DEMO_TOWER).unlink()
    elif damage == "other weights":
        small.write_text("trained longer")
    capsys.readouterr()
    assert made_tower(setup) == small.read_text().upper()
    assert ("in place" in capsys.readouterr().err) == (damage is None)


def test_a_missing_file_of_the_demo_is_named(setup, small):
    small.unlink()
    with pytest.raises(SetupError) as error:
        made_tower(setup)
    assert str(small) in str(error.value) and "Restore it" in str(error.value)


def test_the_miniature_of_the_repository_is_whole():
    models = ROOT / "demo" / "models"
    files = {file.relative_to(models / DEMO_CHECKPOINT).as_posix() for file in models.rglob("*.safetensors")}
    assert files == {
        "unet/kolors-demo-unet.safetensors",
        "text_encoder/kolors-demo-chatglm3.safetensors",
        "vae/kolors-demo-vae.safetensors",
        "image_encoder/kolors-demo-clip-vision.safetensors",
        "ip_adapter/kolors-demo-ip-adapter.safetensors",
    }
    assert (models / DEMO_ADAPTER).is_file() and (ROOT / SMALL_TOWER).is_file()
    assert sum(file.stat().st_size for file in models.rglob("*.safetensors")) < 24e6
