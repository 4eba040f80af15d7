"""devtools/folders.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_kolors.devtools.folders import link_pack, model_paths_yaml, skip_tutorial
from comfyui_kolors.devtools.places import MODEL_FOLDERS
from comfyui_kolors.devtools.progress import SetupError


@pytest.mark.parametrize("before", ["nothing", "right", "broken", "elsewhere", "empty folder"])
def test_the_link_to_the_pack_is_made_or_repaired(tmp_path, before):
    pack, link = tmp_path / "pack", tmp_path / "link"
    pack.mkdir()
    if before == "empty folder":
        link.mkdir()
    elif before != "nothing":
        place = {"right": pack, "broken": tmp_path / "gone", "elsewhere": tmp_path}[before]
        link_pack(link, pack) if before == "right" else link.symlink_to(place, target_is_directory=True)
    link_pack(link, pack)
    assert link.samefile(pack)


def test_a_full_folder_in_place_of_the_link_is_kept(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "mine.py").touch()
    with pytest.raises(SetupError, match="Move it away"):
        link_pack(tmp_path / "link", tmp_path / "pack")
    assert (tmp_path / "link" / "mine.py").is_file()


@pytest.mark.parametrize("before", [None, '{"Comfy.Locale": "zh"}'])
def test_the_tutorial_is_skipped_unless_there_are_settings(setup, before):
    settings = setup.base / "user" / "default" / "comfy.settings.json"
    if before:
        settings.parent.mkdir(parents=True)
        settings.write_text(before)
    skip_tutorial(setup)
    assert settings.read_text() == (before or '{"Comfy.TutorialCompleted": true}')


def test_model_paths_are_valid_yaml_for_any_folder():
    yaml = pytest.importorskip("yaml")
    folder = Path('C:\\models "x"') / "可图 😀 #: %"
    loaded = yaml.safe_load(model_paths_yaml(folder))["extra"]
    assert loaded.pop("base_path") == str(folder)
    assert loaded == {kind: kind for kind in MODEL_FOLDERS} and "ipadapter" in loaded
