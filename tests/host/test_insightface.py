"""Faces through the real insightface and onnxruntime, with small ONNX files in the place of antelopev2's.

insightface's own code finds and aligns the face. Nothing is downloaded, whatever is in the working directory.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import TOWER, host_tower, picture
from reference import relative_error

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:.estimate. is deprecated:FutureWarning")]
if missing := [name for name in ("insightface", "onnxruntime", "onnx") if find_spec(name) is None]:
    pytest.skip(f"the package {missing[0]} is not installed", allow_module_level=True)

import face_models  # noqa: E402
from face_models import DETECTOR, OTHER, PERSON, RECOGNISER, draw  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SAME = 0.25  # relative L2 of embeddings of one person; of two it is above 0.5
ANTELOPE = "insightface/models/antelopev2"


@pytest.fixture
def face(tmp_path, monkeypatch):
    """The module, with an empty models folder; the process is in an empty folder and reaches no network."""
    import folder_paths
    from comfyui_kolors.kolors_core.host.ip_adapter import face

    asked = []

    def refuse(self, address):
        asked.append(address)
        raise OSError("there is no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: refuse(None, host))
    for name in ("models", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path / "working")
    face.load_face_analysis.cache_clear()
    yield face
    face.load_face_analysis.cache_clear()
    assert asked == []
    assert not list(tmp_path.rglob("*.zip"))


@pytest.fixture
def antelope(face, tmp_path) -> Path:
    """The folder of antelopev2, with a detector and a recogniser."""
    folder = tmp_path / "models" / ANTELOPE
    face_models.write(folder)
    return folder


def photo(*faces: tuple, width: int = 600, height: int = 400) -> torch.Tensor:
    """(1, height, width, 3) with faces, each (x, y, radius) and what else `draw` takes."""
    image = picture(width, height)
    image[..., 2] = 0
    for one in faces:
        draw(image, *one)
    return image


def fills(crop: torch.Tensor, turn: float = 0.0, within: float = 0.06) -> bool:
    """Whether a face fills its crop (336, 336, 3) as it was drawn, within a share of its radius."""
    area = (crop[..., 2] > 0.3).float().mean().item()
    middle, right = (crop[168, column, :2] * 2 - 1 for column in (168, 252))
    expected = torch.tensor([math.cos(math.radians(turn)), -math.sin(math.radians(turn))])
    size = math.sqrt(area / (math.pi / 4))
    return middle.norm() < within and abs(size - 1) < within and ((right - middle) * 2 - expected).norm() < within


@pytest.fixture
def person(face, antelope) -> torch.Tensor:
    return face.find_faces(photo((300, 200, 80)))[0]


def test_a_face_is_found_with_its_embedding_and_its_crop(face, antelope, person):
    image = photo((230, 150, 90))
    embeddings, crops = face.find_faces(image)
    assert (embeddings.shape, embeddings.dtype) == ((1, 512), torch.float32)
    assert relative_error(embeddings, person) < SAME
    assert embeddings.norm() > 10  # as the reference has it, not normalised
    assert crops.shape == (1, 336, 336, 3)
    assert fills(crops[0])
    stranger, _ = face.find_faces(photo((230, 150, 90, OTHER)))
    assert relative_error(stranger, person) > 2 * SAME


def test_both_are_what_insightface_gives(face, antelope):
    from insightface.app import FaceAnalysis

    image = photo((230, 150, 90))
    embeddings, crops = face.find_faces(image)
    analysis = FaceAnalysis("antelopev2", str(antelope.parents[1]), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=0, det_size=(640, 640))
    (found,) = analysis.get(numpy.array(to_pil(image[0]))[:, :, ::-1])
    assert numpy.array_equal(embeddings[0].numpy(), found.embedding)
    assert numpy.abs(found.bbox - (140, 60, 320, 240)).max() < 3
    assert torch.equal(crops[0], face.crop(to_pil(image[0]), found.bbox))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_largest_of_many_is_taken(face, antelope, person, place):
    sizes = [40, 30, 50]
    sizes.insert(place, 85)
    people = [PERSON if size == 85 else OTHER for size in sizes]
    faces = [(90 + 140 * index, 200, size, one) for index, (size, one) in enumerate(zip(sizes, people))]
    image = photo(*faces)
    embeddings, crops = face.find_faces(image)
    assert relative_error(embeddings, person) < SAME
    assert fills(crops[0])


def test_a_picture_without_a_face_is_named(face, antelope):
    with pytest.raises(KolorsError, match=r"No face was found in image 1 of 1 \(600 x 400 pixels\)"):
        face.find_faces(photo())
    batch = torch.cat([photo((300, 200, 80)), photo(), photo()])
    with pytest.raises(KolorsError, match="No face was found in image 2 of 3"):
        face.find_faces(batch)


def test_each_picture_of_a_batch_has_its_own_face(face, antelope):
    faces = [(300, 200, 80), (120, 110, 60, OTHER), (420, 250, 120)]
    images = [photo(one) for one in faces]
    embeddings, crops = face.find_faces(torch.cat(images))
    assert embeddings.shape == (3, 512) and crops.shape == (3, 336, 336, 3)
    for image, embedding, crop in zip(images, embeddings, crops):
        assert torch.equal(embedding, face.find_faces(image)[0][0])
        assert fills(crop)


@pytest.mark.parametrize("turn", [30, 90, 180, -60])
def test_a_turned_face_is_aligned_for_its_embedding_only(face, antelope, person, turn):
    """insightface turns the face upright by its landmarks; the crop for the vision encoder stays as in the photo."""
    embeddings, crops = face.find_faces(photo((300, 200, 80, PERSON, turn)))
    assert relative_error(embeddings, person) < SAME
    assert fills(crops[0], turn)


@pytest.mark.parametrize("side", [200, 400, 1000])
def test_a_face_as_large_as_the_picture_is_found_at_a_smaller_size(face, antelope, person, side):
    """And the next picture is searched at the full size again: its face is too small for the smaller ones."""
    full = photo((side / 2, side / 2, side / 2), width=side, height=side)
    tiny = photo((side / 3, side / 2, side / 640 * 12), width=side, height=side)
    embeddings, crops = face.find_faces(torch.cat([full, tiny, full]))
    assert relative_error(embeddings[0], person[0]) < SAME
    assert fills(crops[0]) and fills(crops[1], within=0.4)
    assert torch.equal(embeddings[0], embeddings[2])


def test_a_detector_for_one_size_is_used_at_that_size(face, antelope, person):
    face_models.write_detector(antelope / DETECTOR, size=640)
    face.load_face_analysis.cache_clear()
    assert torch.equal(face.find_faces(photo((300, 200, 80)))[0], person)
    with pytest.raises(KolorsError, match="No face was found"):
        face.find_faces(photo())


def test_beyond_the_edge_the_crop_is_black(face, antelope):
    _, crops = face.find_faces(photo((20, 200, 80)))
    assert crops[0, :, :100].max() == 0
    assert crops[0, 100:200, 140:].min(dim=-1).values.max() > 0.3


def test_an_alpha_channel_changes_nothing(face, antelope, person):
    image = photo((300, 200, 80))
    embeddings, _ = face.find_faces(torch.cat([image, torch.zeros_like(image[..., :1])], dim=-1))
    assert torch.equal(embeddings, person)


# ---- another node's insightface -------------------------------------------------------------------------------------


def test_another_nodes_insightface_is_left_as_it_was(face, antelope, person):
    from insightface.app import FaceAnalysis

    analysis = FaceAnalysis(str(antelope), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=0, det_thresh=0.7, det_size=(480, 480))
    detector = analysis.det_model
    before = dict(vars(detector))
    image = photo((200, 200, 200), width=400)
    embeddings, _ = face.find_faces(image, analysis)
    assert relative_error(embeddings, person) < SAME
    assert analysis.det_model is analysis.models["detection"] is detector
    assert (analysis.det_size, analysis.det_thresh) == ((480, 480), 0.7)
    assert vars(detector) == before


def test_an_insightface_without_a_recogniser_is_named(face, antelope):
    from insightface.app import FaceAnalysis

    analysis = FaceAnalysis(str(antelope), allowed_modules=["detection"], providers=["CPUExecutionProvider"])
    with pytest.raises(KolorsError, match=r"finds faces but does not embed them.*antelopev2.*disconnect face_analysis"):
        face.find_faces(photo((300, 200, 80)), analysis)


# ---- the models' folder ---------------------------------------------------------------------------------------------


def misleading(working: Path, kind: str) -> None:
    """Folders that insightface could take for antelopev2's, in the working directory."""
    for folder in (working / "antelopev2", working / "models" / "antelopev2", working / ANTELOPE):
        folder.mkdir(parents=True)
        if kind == "other models":
            face_models.write_detector(folder / DETECTOR)
            face_models.write_recogniser(folder / RECOGNISER, seed=1)
        elif kind == "damaged models":
            (folder / DETECTOR).write_bytes(b"\x08")


KINDS = ["other models", "damaged models", "empty folders"]


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_the_working_directory_are_not_used(face, antelope, person, kind):
    misleading(Path.cwd(), kind)
    face.load_face_analysis.cache_clear()
    assert torch.equal(face.find_faces(photo((300, 200, 80)))[0], person)


def test_a_models_folder_that_is_relative_is_meant_from_the_working_directory(face, antelope, person, monkeypatch):
    monkeypatch.setattr(sys.modules["folder_paths"], "models_dir", "../models")
    face.load_face_analysis.cache_clear()
    assert torch.equal(face.find_faces(photo((300, 200, 80)))[0], person)


@pytest.mark.parametrize("kind", [*KINDS, "nothing"])
@pytest.mark.parametrize("exists", [True, False], ids=["empty", "missing"])
def test_without_models_nothing_is_downloaded_or_found_elsewhere(face, tmp_path, kind, exists):
    folder = tmp_path / "models" / ANTELOPE
    if exists:
        folder.mkdir(parents=True)
    if kind != "nothing":
        misleading(Path.cwd(), kind)
    with pytest.raises(KolorsError) as failure:
        face.find_faces(photo((300, 200, 80)))
    assert f"which are not in {folder}." in str(failure.value)
    assert folder.exists() == exists


@pytest.mark.parametrize("kind", [*KINDS, "nothing"])
@pytest.mark.parametrize("absent, there", [(DETECTOR, RECOGNISER), (RECOGNISER, DETECTOR)])
def test_a_missing_model_is_named_and_nothing_is_downloaded(face, antelope, kind, absent, there):
    (antelope / absent).unlink()
    if kind != "nothing":
        misleading(Path.cwd(), kind)
    with pytest.raises(KolorsError) as failure:
        face.find_faces(photo((300, 200, 80)))
    message = str(failure.value)
    assert f"cannot use the face models in {antelope}. Found {there}. Expected a detector and a recogniser" in message
    assert f"antelopev2.zip of the releases of deepinsight/insightface and unpack it into {antelope.parent}" in message
    assert [path.name for path in antelope.iterdir()] == [there]


@pytest.mark.parametrize("name", [DETECTOR, RECOGNISER])
@pytest.mark.parametrize("damage", ["cut off", "empty", "a page of a website", "a folder"])
def test_a_damaged_model_is_named_with_its_folder(face, antelope, name, damage):
    path, content = antelope / name, (antelope / name).read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        text = b"<!doctype html><title>Sign in</title>"
        path.write_bytes({"cut off": content[: len(content) // 2], "empty": b"", "a page of a website": text}[damage])
    with pytest.raises(KolorsError) as failure:
        face.find_faces(photo((300, 200, 80)))
    message = str(failure.value)
    assert f"cannot use the face models in {antelope}. Found {RECOGNISER}, {DETECTOR}. Expected" in message
    assert str(path) in message.partition("again. (")[2]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_bytes(content)
    assert face.find_faces(photo((300, 200, 80)))[0].shape == (1, 512)  # no need to restart


def test_a_path_that_insightface_cannot_read_is_named(face, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["folder_paths"], "models_dir", str(tmp_path / "ComfyUI [new]"))
    face_models.write(tmp_path / "ComfyUI [new]" / ANTELOPE)
    with pytest.raises(KolorsError, match=r"ComfyUI \[new\].*characters \[ \* \?\. Rename that folder"):
        face.find_faces(photo((300, 200, 80)))


def test_other_letters_and_spaces_in_the_path_do_no_harm(face, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["folder_paths"], "models_dir", str(tmp_path / "模型 ~ é"))
    face_models.write(tmp_path / "模型 ~ é" / ANTELOPE)
    assert face.find_faces(photo((300, 200, 80)))[0].shape == (1, 512)


LOADING = """
import json, sys
asked = []
sys.addaudithook(
    lambda event, arguments: asked.append(f"{event} {arguments[-1]}")
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request") else None
)
import conftest, folder_paths
from comfyui_kolors.kolors_core.host.ip_adapter import face
folder_paths.models_dir = sys.argv[1]
asked.clear()
face.load_face_analysis()
print(json.dumps(asked))
"""


def test_importing_and_loading_insightface_asks_nobody(face, antelope, tmp_path):
    """0.7.3 imports albumentations, which asks PyPI for a newer version of itself."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", "-c", LOADING, str(tmp_path / "models")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


# ---- the node -------------------------------------------------------------------------------------------------------


def test_the_node_finds_the_faces_by_itself(face, antelope, person, mappings, model, tmp_path):
    from comfyui_kolors.demo.random_models import TINY, random_face_adapter
    from comfyui_kolors.kolors_core.host import sampling
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter
    from safetensors.torch import save_file
    from sampling_runs import ours

    save_file(random_face_adapter(TINY, TOWER["hidden_size"]), tmp_path / "face.safetensors")
    loaded, tower = adapter.load_ip_adapter(tmp_path / "face.safetensors"), host_tower(tmp_path)

    def apply(image, **inputs):
        node = mappings.classes["KolorsFaceIDApply"]()
        return node.apply(model, loaded, tower, image, 0.8, 0.0, 1.0, **inputs)

    def latent(patched):
        return ours(sampling, patched, "euler", 2)

    photos = torch.cat([photo((300, 200, 80)), photo((150, 200, 70), (450, 200, 120))])
    patched, embeddings, crops = apply(photos)
    assert embeddings.shape == (2, 512) and crops.shape == (2, 336, 336, 3)
    assert relative_error(embeddings[0], person[0]) < SAME
    found = latent(patched)
    assert torch.equal(latent(apply(crops, face_embedding=embeddings)[0]), found)
    against = latent(apply(photos, image_negative=photo((300, 200, 80, OTHER)))[0])
    assert relative_error(found, latent(model)) > 1e-3
    assert relative_error(against, found) > 1e-3
