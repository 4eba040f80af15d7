"""devtools/miniature.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.miniature import DEMO_FILES, DEMO_MODELS, DEMO_TOWER, make_models
from comfyui_kolors.devtools.progress import Progress, SetupError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo_files(home, monkeypatch) -> Path:
    """A repository with stand-ins for the miniature's files; its tower is "expanded" by copying it in capitals."""
    folder = home / "demo" / "models"
    folder.mkdir(parents=True)
    (home / "demo" / "expand_clip_vision.py").write_text(
        "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read().upper())\n"
    )
    for name in (*DEMO_MODELS.values(), DEMO_TOWER):
        (folder / name).write_text(name)
    (folder / DEMO_MODELS["clip_vision"]).unlink()  # the repository has the small one only
    monkeypatch.setattr("comfyui_kolors.devtools.places.ROOT", home)
    monkeypatch.setattr("comfyui_kolors.devtools.miniature.DEMO_FILES", folder)
    return folder


def placed_models(setup) -> dict[str, str]:
    """Runs the step, and returns what is in the models folder, by kind."""
    for kind in DEMO_MODELS:
        (setup.base / "models" / kind).mkdir(parents=True, exist_ok=True)
    make_models(setup, Progress(1))
    return {kind: (setup.base / "models" / kind / name).read_text() for kind, name in DEMO_MODELS.items()}


def test_the_miniature_is_put_where_comfyui_looks(setup, demo_files):
    assert placed_models(setup) == {**DEMO_MODELS, "clip_vision": DEMO_TOWER.upper()}


@pytest.mark.parametrize("damage", ["missing model", "missing tower", "other weights", None])
def test_changed_or_missing_demo_models_are_made_again(setup, demo_files, damage, capsys):
    before = placed_models(setup)
    models = setup.base / "models"
    if damage == "missing model":
        (models / "vae" / DEMO_MODELS["vae"]).unlink()
    elif damage == "missing tower":
        (models / "clip_vision" / DEMO_MODELS["clip_vision"]).unlink()
    elif damage == "other weights":
        (demo_files / DEMO_MODELS["vae"]).write_text("trained longer")
        before["vae"] = "trained longer"
    capsys.readouterr()
    assert placed_models(setup) == before
    assert ("in place" in capsys.readouterr().err) == (damage is None)


def test_a_missing_file_of_the_demo_is_named(setup, demo_files):
    file = demo_files / DEMO_TOWER
    file.unlink()
    with pytest.raises(SetupError) as error:
        placed_models(setup)
    assert str(file) in str(error.value) and "Restore it" in str(error.value)


def test_the_miniature_of_the_repository_is_whole():
    names = {*DEMO_MODELS.values(), DEMO_TOWER} - {DEMO_MODELS["clip_vision"]}
    assert {file.name for file in DEMO_FILES.glob("*.safetensors")} == names
    assert sum(file.stat().st_size for file in DEMO_FILES.iterdir()) < 24e6
