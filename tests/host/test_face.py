"""Faces for FaceID: the optional package, its models, and the crop. A stand-in takes the place of insightface."""

import sys
import types

import numpy
import pytest
import torch
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.networks.vision import to_pil
from image_prompts import picture
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def face(tmp_path, monkeypatch):
    import folder_paths
    from comfyui_kolors.kolors_core.host.ip_adapter import face

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    face.load_face_analysis.cache_clear()
    yield face
    face.load_face_analysis.cache_clear()


class FaceAnalysis:
    """Finds `faces` at detection sizes up to `largest`, and keeps what it was asked; its detector keeps its first size.

    insightface 0.7.3 does that.
    """

    faces: list = []
    largest = 640

    def __init__(self, name, root, providers):
        self.options = (name, root, providers)
        self.det_model = types.SimpleNamespace(input_shape=[1, 3, "?", "?"], input_size=None)
        self.models = {"detection": self.det_model, "recognition": None}
        self.pixels, self.sizes = [], []

    def prepare(self, ctx_id, det_size):
        self.models["detection"].input_size = self.models["detection"].input_size or det_size

    def get(self, pixels):
        self.pixels.append(pixels)
        self.sizes.append(self.det_model.input_size[0])
        return self.faces if self.sizes[-1] <= self.largest else []


@pytest.fixture
def insightface(monkeypatch, face, tmp_path):
    """The stand-in as the packages insightface and onnxruntime, with its models in place."""
    app, runtime = types.ModuleType("insightface.app"), types.ModuleType("onnxruntime")
    app.FaceAnalysis, runtime.get_available_providers = FaceAnalysis, lambda: ["CPUExecutionProvider"]
    for name, module in (("insightface", types.ModuleType("insightface")), ("insightface.app", app)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    folder = tmp_path / "insightface/models/antelopev2"
    folder.mkdir(parents=True)
    (folder / "glintr100.onnx").touch()
    return folder


def found(box, seed=0):
    generator = numpy.random.default_rng(seed)
    return {"bbox": numpy.array(box, dtype=numpy.float32), "embedding": generator.normal(size=512) * 20}


@pytest.mark.parametrize("missing", ["insightface", "onnxruntime"])
def test_without_the_package_its_name_and_the_folder_are_given(face, insightface, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"{missing}.app", raising=False)
    with pytest.raises(
        KolorsError, match=rf"package {missing}, which is not installed.*antelopev2 folder into .*models"
    ):
        face.find_faces(picture())


def test_without_the_models_the_folder_is_given_and_nothing_is_loaded(face, insightface, monkeypatch):
    (insightface / "glintr100.onnx").unlink()
    monkeypatch.setattr(sys.modules["insightface.app"], "FaceAnalysis", None)  # would be called, and would download
    with pytest.raises(
        KolorsError, match=r"antelopev2 \(\*\.onnx\), which are not in .*/insightface/models/antelopev2\. Get"
    ):
        face.find_faces(picture())
    (insightface / "antelopev2").mkdir()
    (insightface / "antelopev2/glintr100.onnx").touch()
    with pytest.raises(KolorsError, match="one folder too deep; move them up"):
        face.find_faces(picture())


def test_the_largest_face_is_taken_with_its_raw_embedding(face, insightface, monkeypatch):
    faces = [found((10, 10, 60, 70), 1), found((100, 50, 300, 330), 2), found((0, 0, 5, 300), 3)]
    monkeypatch.setattr(FaceAnalysis, "faces", faces)
    image = picture()
    embeddings, crops = face.find_faces(image)
    assert torch.equal(embeddings, torch.from_numpy(faces[1]["embedding"]).float()[None])
    assert embeddings.norm() > 100  # as the reference has it, not normalised
    expected = to_pil(image[0]).crop((60, 50, 340, 330)).resize((336, 336))
    assert numpy.array_equal((crops[0] * 255).round().numpy(), numpy.array(expected))
    analysis = face.load_face_analysis()
    assert analysis.options[0] == str(insightface)  # 2.x would take a bare name from the working directory first
    assert numpy.array_equal(analysis.pixels[0][:, :, ::-1], numpy.array(to_pil(image[0])))  # BGR


def test_beyond_the_picture_a_crop_is_black(face):
    crop = face.crop(Image.new("RGB", (100, 100), "white"), (-50, 0, 50, 100))
    assert crop.shape == (336, 336, 3)
    assert crop[:, :150].max() == 0 and crop[:, 200:].min() == 1


def test_a_face_that_fills_the_picture_is_found_at_a_smaller_size(face, insightface, monkeypatch):
    monkeypatch.setattr(FaceAnalysis, "faces", [found((0, 0, 600, 400))])
    monkeypatch.setattr(FaceAnalysis, "largest", 384)
    embeddings, _ = face.find_faces(torch.cat([picture(), picture(seed=2)]))
    assert embeddings.shape == (2, 512)
    assert face.load_face_analysis().sizes == [640, 576, 512, 448, 384] * 2


def test_a_picture_without_a_face_is_named(face, insightface):
    with pytest.raises(KolorsError, match=r"No face was found in image 1 of 2 \(600 x 400 pixels\)"):
        face.find_faces(torch.cat([picture(), picture(seed=2)]))


def test_an_analysis_of_another_node_is_used(face, monkeypatch):
    analysis = FaceAnalysis("antelopev2", "elsewhere", [])
    monkeypatch.setattr(FaceAnalysis, "faces", [found((0, 0, 100, 100))])
    analysis.prepare(0, (480, 480))
    face.find_faces(picture(), analysis)
    assert analysis.sizes == [640]
    assert analysis.det_model is analysis.models["detection"]
    assert analysis.det_model.input_size == (480, 480)  # what the other node finds stays as it was


def test_an_analysis_that_embeds_nothing_is_named(face, monkeypatch):
    monkeypatch.setattr(FaceAnalysis, "faces", [{"bbox": (0, 0, 100, 100)}])
    with pytest.raises(KolorsError, match=r"does not embed them.*disconnect face_analysis"):
        face.find_faces(picture(), FaceAnalysis("antelopev2", "elsewhere", []))


@pytest.mark.parametrize("fault", ["no detector", "no recogniser", "damaged"])
def test_models_that_cannot_be_used_are_named(face, insightface, monkeypatch, fault):
    class Faulty(FaceAnalysis):
        def __init__(self, **options):
            super().__init__(**options)
            del self.models["recognition"]
            if fault == "no detector":
                raise AssertionError  # as insightface says it, without a word
            if fault == "damaged":
                raise RuntimeError("Protobuf parsing failed")

    monkeypatch.setattr(sys.modules["insightface.app"], "FaceAnalysis", Faulty)
    reason = r" \(Protobuf parsing failed\)" if fault == "damaged" else ""
    with pytest.raises(
        KolorsError, match=rf"models in .*/antelopev2\. Found glintr100\.onnx\. Expected .* again\.{reason}$"
    ):
        face.find_faces(picture())


def test_embeddings_that_do_not_fit_are_named(face, tmp_path):
    from comfyui_kolors.demo.random_models import TINY, random_face_adapter
    from comfyui_kolors.kolors_core.host.ip_adapter import adapter as ip_adapter
    from image_prompts import TOWER, host_tower
    from safetensors.torch import save_file

    save_file(random_face_adapter(TINY, TOWER["hidden_size"]), tmp_path / "face.safetensors")
    adapter, tower = ip_adapter.load_ip_adapter(tmp_path / "face.safetensors"), host_tower(tmp_path)
    with pytest.raises(KolorsError, match=r"face.safetensors .* face embeddings of width 512; this one has width 256"):
        face.encode_faces(adapter, tower, (torch.zeros(1, 256), picture()))
    with pytest.raises(KolorsError, match=r"2 face embedding\(s\) and 1 image\(s\)"):
        face.encode_faces(adapter, tower, (torch.zeros(2, 512), picture()))
    one, negative = (torch.ones(1, 512), picture()), (torch.zeros(1, 512), picture(seed=3))
    default, given = (face.encode_faces(adapter, tower, one, other) for other in (None, negative))
    assert torch.equal(default[0], given[0]) and not torch.equal(default[1], given[1])
