"""FaceID in graphs: by a ready embedding, by another node's insightface, and what is named where neither helps."""

from __future__ import annotations

import pytest
import torch
from adapters import FACE, PictureGraph, draw
from client import distance
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("styled")]


def test_a_ready_embedding_gives_its_face(server, plain):
    def latent(**changes):
        def change(graph):
            embedding = graph.add("KolorsTestFace", seed=changes.pop("seed", 1), width=512)
            return graph.apply_face(face_embedding=embedding, **changes)

        return draw(server, change)

    found = latent()
    assert torch.equal(latent(), found)
    assert distance(found, plain) > 0.001
    assert distance(latent(seed=2), found) > 0.001
    assert torch.equal(latent(weight=0.0), plain)


def test_a_found_face_can_be_used_again(server):
    """The largest one; its embedding and its picture, connected to another node, say the same."""
    graph = PictureGraph()
    found = graph.apply_face(face_analysis=graph.add("KolorsTestFaceAnalysis"))
    again = graph.apply_face(face_embedding=found.output(1), image=found.output(2))
    given = graph.apply_face(
        face_embedding=graph.add("KolorsTestFace", seed=1, width=512), image=found.output(2), weight=0.8
    )
    nodes = [server.save_latent(graph, graph.sample(model=model)) for model in (found, again, given)]
    saved = graph.add("SaveImage", images=found.output(2), filename_prefix="face")
    entry = server.run(graph)
    latents = [server.read_latent(entry, node) for node in nodes]
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])
    (crop,) = server.saved_files(entry, saved, "images")
    assert Image.open(crop).size == (336, 336)


def test_a_face_and_a_picture_on_one_model(server, styled):
    def both(graph):
        graph.model = graph.apply()
        return graph.apply_face(face_analysis=graph.add("KolorsTestFaceAnalysis"))

    assert distance(draw(server, both), styled) > 0.001


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_a_missing_insightface_or_model_is_named_with_its_folder(server, refuse):
    """Whichever this Python lacks: the packages, or the folder with the models."""
    message = refuse(PictureGraph.apply_face, "KolorsFaceIDApply")
    for word in ("insightface", "antelopev2", str(server.base / "models/insightface/models")):
        assert word in message, message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 256}, [FACE, "512", "256", "antelopev2"]),
        ({"images": 2}, ["1 face embedding(s)", "2 image(s)"]),
        ({"black": True}, ["No face was found", "image 1 of 1", "64 x 64"]),
    ],
    ids=["another embedding", "two pictures", "no face"],
)
def test_faces_that_do_not_fit_are_named(refuse, changes, words):
    def change(graph):
        if "black" in changes:
            analysis = graph.add("KolorsTestFaceAnalysis")
            return graph.apply_face(image=graph.picture("black"), face_analysis=analysis)
        image = graph.picture()
        if "images" in changes:
            image = graph.add("ImageBatch", image1=image, image2=graph.picture("boat"))
        embedding = graph.add("KolorsTestFace", seed=1, width=changes.get("width", 512))
        return graph.apply_face(image=image, face_embedding=embedding)

    message = refuse(change, "KolorsFaceIDApply")
    assert [word for word in words if word not in message] == [], message
