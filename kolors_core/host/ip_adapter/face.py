"""Faces for FaceID Plus: found and embedded by insightface, which stays optional, and cut out as the reference does.

Source: ``sample_ipadapter_faceid_plus.py`` of Kwai-Kolors/Kolors: the largest face, its raw (not normalised)
embedding, and the square around its box at 336 pixels.
"""

from __future__ import annotations

import copy
import functools
import glob
import os
from pathlib import Path

import folder_paths
import numpy
import torch
from PIL import Image
from torch import Tensor

from ...errors import KolorsError, locate
from ...networks.vision import IMAGE_SIZE, from_pil, to_pil
from ..messages import count_steps
from .adapter import HostIPAdapter, encode_states
from .image_prompt import vision_states

MODEL = "antelopev2"
SOURCE = f"{MODEL}.zip of the releases of deepinsight/insightface"
DETECTION_SIZES = range(640, 256, -64)  # pixels; a face that fills the image is found at a smaller size only


@functools.lru_cache(maxsize=1)
def load_face_analysis():
    """insightface with antelopev2, on whatever its runtime supports.

    Raises KolorsError where the package or a model is missing, or where a model cannot be read; nothing is downloaded.
    """
    root = Path(folder_paths.models_dir).absolute() / "insightface"
    folder = root / "models" / MODEL
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # insightface 0.7.3 imports it, and it would ask PyPI
    try:
        import onnxruntime
        from insightface.app import FaceAnalysis
    except ImportError as error:
        package = (error.name or "insightface").split(".")[0]
        raise KolorsError(
            f"FaceID needs the package {package}, which is not installed. Run 'python -m pip install insightface "
            f"onnxruntime' with ComfyUI's Python, and put the {MODEL} folder into {folder.parent}. "
            f"Or connect face_embedding and the face itself as image. ({error})"
        ) from error
    if not any(folder.glob("*.onnx")):
        nested = " They lie one folder too deep; move them up." if any(folder.glob("*/*.onnx")) else ""
        raise KolorsError(
            f"FaceID needs the face models {MODEL} (*.onnx), which are not in {folder}.{nested} "
            f"Get {SOURCE} and unpack it into {folder.parent}."
        )
    try:
        # Not by its name: insightface 2.x would take a folder of that name in the working directory.
        analysis = FaceAnalysis(name=str(folder), root=str(root), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has many kinds; without a detector it is an assertion that says nothing
        raise _useless(folder, str(error)) from error
    if "recognition" not in analysis.models:
        raise _useless(folder)
    return analysis


def _useless(folder: Path, reason: str = "") -> KolorsError:
    names = ", ".join(sorted(path.name for path in folder.glob("*.onnx")))
    if glob.escape(str(folder)) != str(folder):
        todo = "insightface finds no files where the path has one of the characters [ * ?. Rename that folder."
    else:
        todo = f"If one is missing or damaged, get {SOURCE} and unpack it into {folder.parent} again."
    return KolorsError(
        f"insightface cannot use the face models in {folder}. Found {names}. Expected a detector and a recogniser, "
        f"scrfd_10g_bnkps.onnx and glintr100.onnx in {MODEL}. {todo}{reason and f' ({reason})'}"
    )


def find_faces(images: Tensor, analysis=None) -> tuple[Tensor, Tensor]:
    """The largest face of each picture (i, height, width, 3): embeddings (i, 512) float32, and crops (i, 336, 336, 3).

    Raises KolorsError where an image has no face, or `analysis` embeds none.
    """
    analysis = analysis or load_face_analysis()
    found, step = [], count_steps(len(images))
    for index, image in enumerate(images):
        picture = to_pil(image)
        faces = _detect(analysis, picture)
        if not faces:
            raise KolorsError(
                f"No face was found in image {index + 1} of {len(images)} ({picture.width} x {picture.height} "
                "pixels). Use an image with a face that is well lit, seen from the front and not cut off."
            )
        face = max(faces, key=lambda face: (face["bbox"][2] - face["bbox"][0]) * (face["bbox"][3] - face["bbox"][1]))
        if face.get("embedding") is None:
            raise KolorsError(
                "The connected insightface finds faces but does not embed them: it was loaded without a recogniser. "
                f"Load all models of {MODEL} in it, or disconnect face_analysis."
            )
        embedding = torch.from_numpy(numpy.asarray(face["embedding"], dtype=numpy.float32))
        found.append((embedding, crop(picture, face["bbox"])))
        step()
    embeddings, crops = zip(*found)
    return torch.stack(embeddings), torch.stack(crops)


def _detect(analysis, picture: Image.Image) -> list:
    pixels = numpy.array(picture)[:, :, ::-1]  # insightface takes BGR
    analysis = _own(analysis)
    for size in DETECTION_SIZES:
        _set_size(analysis, size)
        if faces := analysis.get(pixels):
            return faces
    return []


def _own(analysis):
    """A copy with the same models whose detection size can be set: the original may be another node's."""
    analysis = copy.copy(analysis)
    if hasattr(analysis, "det_model"):
        analysis.det_model = copy.copy(analysis.det_model)
        analysis.models = analysis.models | {"detection": analysis.det_model}
    return analysis


def _set_size(analysis, size: int) -> None:
    detector = getattr(analysis, "det_model", None)
    if detector and not isinstance(detector.input_shape[2], int):
        detector.input_size = None  # insightface 0.7.3 keeps a size that is there
    analysis.prepare(ctx_id=0, det_size=(size, size))


def crop(picture: Image.Image, box) -> Tensor:
    """The square around a face's box (left, top, right, bottom), black beyond the image: (336, 336, 3) of 0..1."""
    left, top, right, bottom = box
    x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    return fit(picture.crop((x - half, y - half, x + half, y + half)))


def fit(face: Image.Image) -> Tensor:
    """A face crop of any size as (336, 336, 3) of 0..1."""
    return from_pil(face.resize((IMAGE_SIZE, IMAGE_SIZE)))


def check_adapter(adapter: HostIPAdapter) -> None:
    """Raises KolorsError where the adapter is not for faces."""
    if not adapter.config.is_face:
        raise KolorsError(f"{locate(adapter.path)} is not a FaceID adapter. Use 'Apply Kolors IP-Adapter' with it.")


@torch.no_grad()
def encode_faces(
    adapter: HostIPAdapter, clip_vision, faces: tuple[Tensor, Tensor], negative: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Face tokens (2, i, t, width) of faces, each as (embeddings (i, 512), crops (i, height, width, 3)).

    Without negative faces, the reference's: an embedding of zero, and states of zero instead of the vision encoder's.
    Raises KolorsError where the adapter is no FaceID Plus, or the embedding has another width than it reads.
    """
    check_adapter(adapter)
    embeddings, states = _face_inputs(adapter, clip_vision, *faces)
    if negative is None:
        none = torch.zeros_like(embeddings), torch.zeros_like(states)
    else:
        none = _face_inputs(adapter, clip_vision, *negative)
    return encode_states(adapter, [states, none[1]], [embeddings, none[0]])


def _face_inputs(adapter: HostIPAdapter, clip_vision, embeddings: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (i, face width) and vision states (i, s, image width)."""
    found, expected = embeddings.shape[-1], adapter.config.face_width
    embeddings = embeddings.reshape(-1, found).float()
    if found != expected:
        raise KolorsError(
            f"{locate(adapter.path)} reads face embeddings of width {expected}; this one has width {found}. "
            f"Use the embedding of insightface's {MODEL}."
        )
    if len(embeddings) != len(crops):
        raise KolorsError(
            f"Found {len(embeddings)} face embedding(s) and {len(crops)} image(s). Connect one face per embedding."
        )
    return embeddings, vision_states(clip_vision, torch.stack([fit(to_pil(image)) for image in crops]))
