"""The model folders of a ComfyUI, without ComfyUI."""

from __future__ import annotations

import os
import sys

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.models import folders as module
from comfyui_kolors.kolors_core.models.folders import EXTRA, find_root, folders, models_folder, walk
from house import ROOT
from small_models import link, put


@pytest.fixture
def comfyui(tmp_path):
    (tmp_path / "ComfyUI" / "models" / "vae").mkdir(parents=True)
    return tmp_path / "ComfyUI"


def test_a_root_is_comfyui_or_its_models_folder_or_a_base_directory(comfyui, tmp_path):
    assert find_root(comfyui) == comfyui == find_root(comfyui / "models")
    assert models_folder(comfyui) == comfyui / "models"
    (tmp_path / "base" / "models").mkdir(parents=True)
    assert find_root(tmp_path / "base") == tmp_path / "base"
    new = put(tmp_path / "new" / "folder_paths.py", b"").parent  # a ComfyUI that has no models folder yet
    assert find_root(new) == new and models_folder(new) == new / "models"


def test_a_models_folder_may_have_another_name(tmp_path):
    (tmp_path / "all my models" / "unet").mkdir(parents=True)
    root = find_root(tmp_path / "all my models")
    assert root == tmp_path / "all my models" == models_folder(root)
    assert folders(root)["diffusion_models"] == [root / "diffusion_models", root / "unet"]


def test_what_is_no_comfyui_is_refused(tmp_path):
    with pytest.raises(KolorsError, match=r"nowhere is no folder\. Give ComfyUI's folder, or its models folder\."):
        find_root(tmp_path / "nowhere")
    with pytest.raises(KolorsError, match="is neither ComfyUI's folder nor a folder of models"):
        find_root(tmp_path)


def test_without_a_root_it_is_the_comfyui_that_the_package_is_in(comfyui, monkeypatch):
    package = comfyui / "custom_nodes" / "comfyui-kolors"
    monkeypatch.setattr(module, "PACKAGE", package)
    assert find_root(None) == comfyui
    monkeypatch.setattr(module, "PACKAGE", comfyui / "elsewhere" / "comfyui-kolors")
    with pytest.raises(KolorsError, match="is not in the custom_nodes folder of a ComfyUI"):
        find_root(None)
    monkeypatch.setattr(module, "PACKAGE", comfyui / "models" / "custom_nodes" / "comfyui-kolors")
    with pytest.raises(KolorsError, match="is not in the custom_nodes folder of a ComfyUI"):
        find_root(None)


def test_the_package_is_the_repository():
    assert module.PACKAGE == ROOT


def test_older_names_of_folders_belong_to_their_kind(comfyui):
    models, found = comfyui / "models", folders(comfyui)
    assert found["diffusion_models"] == [models / "diffusion_models", models / "unet"]
    assert found["text_encoders"] == [models / "text_encoders", models / "clip", models / "LLM"]
    assert found["custom_nodes"] == [comfyui / "custom_nodes"]
    assert set(found) == {
        "diffusion_models", "text_encoders", "checkpoints", "diffusers", "vae", "vae_approx", "clip_vision",
        "controlnet", "ipadapter", "loras", "insightface", "custom_nodes",
    }  # fmt: skip


YAML = """
# a comment
comfyui:
    base_path: {base}
    unet: other_unets/
    clip: |
        one/
        two words
    LLM: llm
shared:
    is_default: true
    vae: {base}/vaes
    embeddings: texts
empty:
"""


def test_extra_model_paths_are_added(comfyui, tmp_path):
    pytest.importorskip("yaml")
    put(comfyui / EXTRA, YAML.format(base=tmp_path.as_posix()).encode())
    found = folders(comfyui, notes := [])
    assert found["diffusion_models"][2:] == [tmp_path / "other_unets"]
    assert found["text_encoders"][3:] == [tmp_path / "one", tmp_path / "two words", tmp_path / "llm"]
    assert found["vae"] == [tmp_path / "vaes", comfyui / "models" / "vae"]
    assert found["embeddings"] == [comfyui / "texts"]
    assert notes == []


def test_a_base_path_is_relative_to_the_file_and_may_name_the_home(comfyui, monkeypatch, tmp_path):
    pytest.importorskip("yaml")
    put(comfyui / EXTRA, b"a:\n  base_path: ../shared\n  vae: vae\nb:\n  base_path: ~/b\n  vae: vae\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert folders(comfyui)["vae"][1:] == [tmp_path / "shared" / "vae", tmp_path / "home" / "b" / "vae"]


@pytest.mark.parametrize(
    "text", [b"a: [", b"- a\n- b", b"a:\n  vae: [1]", b"a: text", b"a:\n  vae: 5", b"\xff\xfe\x00"]
)
def test_extra_model_paths_that_cannot_be_read_are_told(comfyui, text):
    pytest.importorskip("yaml")
    put(comfyui / EXTRA, text)
    assert folders(comfyui, notes := [])["vae"] == [comfyui / "models" / "vae"]
    assert len(notes) == 1 and notes[0].startswith("extra_model_paths.yaml was not read: ")


def test_without_pyyaml_they_are_told_as_well(comfyui, monkeypatch):
    put(comfyui / EXTRA, b"a:\n  vae: vae\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert folders(comfyui, notes := [])["vae"] == [comfyui / "models" / "vae"]
    assert notes == [
        "extra_model_paths.yaml was not read: this Python has no PyYAML. Use the Python that runs ComfyUI."
    ]


def test_files_come_sorted_and_hidden_ones_not_at_all(tmp_path):
    for name in ("b", "a", "z/2", "z/1", "c/x", ".hidden/x", ".file"):
        put(tmp_path / name, b"")
    assert [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)] == ["a", "b", "c/x", "z/1", "z/2"]
    assert list(walk(tmp_path / "nowhere")) == list(walk(tmp_path / "a\0b")) == []


def test_a_circle_of_links_ends(tmp_path):
    put(tmp_path / "m" / "a" / "file", b"")
    link(tmp_path / "m" / "a" / "up", tmp_path / "m")
    link(tmp_path / "m" / "again", tmp_path / "m" / "a")
    link(tmp_path / "m" / "itself", tmp_path / "m" / "itself")
    link(tmp_path / "m" / "nothing", tmp_path / "gone")
    names = [path.relative_to(tmp_path / "m").as_posix() for path in walk(tmp_path / "m")]
    assert names == ["itself", "nothing", "a/file"]


def test_a_linked_folder_is_read_after_the_others(tmp_path):
    put(tmp_path / "real" / "file", b"")
    (tmp_path / "m").mkdir()
    link(tmp_path / "m" / "a", tmp_path / "real")
    put(tmp_path / "m" / "b" / "file", b"")
    assert [path.relative_to(tmp_path / "m").as_posix() for path in walk(tmp_path / "m")] == ["b/file", "a/file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_left_out(tmp_path):
    put(tmp_path / "a" / "file", b"").parent.chmod(0)
    put(tmp_path / "b" / "file", b"")
    assert [path.name for path in walk(tmp_path)] == ["file"]
