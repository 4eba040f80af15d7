"""Drawn faces, and ONNX files with the inputs and outputs of antelopev2's that find and embed them.

A drawn face is a disc. Red and green are the position in the face, from its left to its right and from its top to its
bottom, so that a few pixels anywhere in it say where the whole face is, how large, and how it is turned. Blue, which a
background must not have, is the person.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

DETECTOR, RECOGNISER = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
WIDTH = 512  # of an embedding
# Eyes, nose and corners of the mouth in a face of -1..1, where insightface wants them in its crop of 112 pixels.
LANDMARKS = [(-0.32, -0.08), (0.32, -0.08), (0.0, 0.28), (-0.26, 0.65), (0.26, 0.65)]
# The smallest and largest radius in pixels that is seen at a stride; as in the real one, no face as large as 640.
RADII = {8: (10.0, 70.0), 16: (60.0, 130.0), 32: (120.0, 250.0)}
OUTPUTS = {8: ("448", "451", "454"), 16: ("471", "474", "477"), 32: ("494", "497", "500")}  # score, box, landmarks
PERSON, OTHER = 255, 180  # blue


def draw(image: Tensor, x: float, y: float, radius: float, person: int = PERSON, turn: float = 0.0) -> None:
    """Draws a face into an image (1, height, width, 3), in place; `turn` in degrees, clockwise."""
    height, width = image.shape[1:3]
    down, right = torch.meshgrid(torch.arange(height) - y, torch.arange(width) - x, indexing="ij")
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    face = torch.stack([cosine * right + sine * down, cosine * down - sine * right], dim=-1) / radius
    colours = torch.cat([(face + 1) / 2, torch.full_like(face[..., :1], person / 255)], dim=-1)
    inside = face.norm(dim=-1) <= 1
    image[0, inside] = (colours[inside] * 255).round() / 255


def write(folder: Path) -> None:
    """The detector and the recogniser, under the names that antelopev2 has."""
    folder.mkdir(parents=True, exist_ok=True)
    write_detector(folder / DETECTOR)
    write_recogniser(folder / RECOGNISER)


def write_detector(path: Path, size: int | str = "?") -> None:
    """size: of the input, where the file takes one only."""
    graph = Graph()
    for stride in OUTPUTS:
        _add_stride(graph, stride)
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, size, size])
    outputs = [
        helper.make_tensor_value_info(names[kind], TensorProto.FLOAT, [2 * (640 // stride) ** 2, columns])
        for kind, columns in enumerate((1, 4, 10))
        for stride, names in OUTPUTS.items()
    ]
    graph.save(path, image, outputs)


def write_recogniser(path: Path, seed: int = 0) -> None:
    """A random matrix times the means of the crop's 7 x 7 cells."""
    graph = Graph()
    weights = numpy.random.default_rng(seed).normal(size=(3 * 7 * 7, WIDTH)).astype(numpy.float32)
    weights[2 * 7 * 7 :] *= 3  # blue, which tells people apart
    cells = graph.add("AveragePool", "input.1", kernel_shape=[16, 16], strides=[16, 16])
    graph.add("Gemm", graph.add("Flatten", cells), graph.constant(weights), output="1333")
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, 112, 112])
    graph.save(path, image, [helper.make_tensor_value_info("1333", TensorProto.FLOAT, [1, WIDTH])])


class Graph:
    """Nodes and constants of an ONNX graph, in the order in which they are added."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, values) -> str:
        values = numpy.asarray(values)
        values = values.astype(numpy.float32) if values.dtype == numpy.float64 else values
        self.constants.append(numpy_helper.from_array(values, f"constant{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes) -> str:
        """The name of the node's output."""
        number = len(self.nodes)
        output = output or f"value{number}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{kind}_{number}", **attributes))
        return output

    def times(self, value: str, matrix) -> str:
        """A matrix times the channels of (1, channels, height, width)."""
        return self.add("Conv", value, self.constant(numpy.array(matrix, dtype=numpy.float32)[:, :, None, None]))

    def length(self, value: str) -> str:
        """The squared length of two channels."""
        return self.times(self.add("Mul", value, value), [[1.0, 1.0]])

    def all(self, *conditions: str) -> str:
        """1.0 where all hold, 0.0 elsewhere."""
        return self.add("Cast", functools.reduce(lambda one, other: self.add("And", one, other), conditions), to=1)

    def save(self, path: Path, image: onnx.ValueInfoProto, outputs: list[onnx.ValueInfoProto]) -> None:
        graph = helper.make_graph(self.nodes, "torch-jit-export", [image], outputs, self.constants)
        opset = helper.make_opsetid("", 11)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=6), str(path))


def _add_stride(graph: Graph, stride: int) -> None:
    """What is seen in each cell of a stride: two anchors with a score, a box, and landmarks, from the cell's corner."""
    # u and v, the position in the face, change by (a, b) per pixel to the right and by (-b, a) per pixel down.
    ramp = numpy.arange(stride) - (stride - 1) / 2
    mean = numpy.full((stride, stride), 1 / stride**2)
    right = numpy.broadcast_to(ramp, mean.shape) / (ramp**2).sum() / stride
    corner = mean - (right + right.T) * (stride - 1) / 2
    zero = numpy.zeros_like(mean)
    kernels = [
        [corner, zero, zero],
        [zero, corner, zero],
        [right / 2, right.T / 2, zero],
        [right.T / 2, -right / 2, zero],
        [right / 2, -right.T / 2, zero],  # these two are zero in a face
        [right.T / 2, right / 2, zero],
        [zero, zero, mean],
    ]
    cells = graph.add("Conv", "input.1", graph.constant(numpy.array(kernels) * 128 / 127.5), strides=[stride, stride])
    position, slope, strange, blue = (
        graph.times(cells, numpy.eye(7)[rows]) for rows in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7))
    )
    squared = graph.add("Max", graph.length(slope), graph.constant([1e-8]))
    inverse = graph.add("Div", slope, squared)  # a r², b r²
    radius = graph.add("Sqrt", graph.add("Reciprocal", squared))
    # (a, b) times u, and (-b, a) times v
    by_u = graph.add("Mul", inverse, graph.times(position, [[1.0, 0.0]]))
    by_v = graph.add("Mul", graph.times(inverse, [[0.0, -1.0], [1.0, 0.0]]), graph.times(position, [[0.0, 1.0]]))
    to_corner = graph.add("Add", by_u, by_v)  # from the face's middle

    seen = graph.add("Concat", radius, to_corner, inverse, axis=1)  # r, x, y, a r², b r²
    box = [[1.0, 1.0, 0, 0, 0], [1.0, 0, 1.0, 0, 0], [1.0, -1.0, 0, 0, 0], [1.0, 0, -1.0, 0, 0]]
    points = [row for u, v in LANDMARKS for row in ([0, -1.0, 0, u, -v], [0, 0, -1.0, v, u])]

    smallest, largest = RADII[stride]
    away = graph.length(position)
    is_face = graph.all(
        graph.add("Greater", blue, graph.constant([0.35])),
        graph.add("Less", graph.length(strange), graph.add("Mul", squared, graph.constant([0.02]))),
        graph.add("Less", away, graph.constant([0.2])),
        graph.add("Greater", radius, graph.constant([smallest])),
        graph.add("Less", radius, graph.constant([largest])),
    )
    score = graph.add("Mul", is_face, graph.add("Sub", graph.constant([1.0]), away))

    units = graph.constant([1 / stride])  # SCRFD's distances are in strides
    values = [score, *(graph.add("Mul", graph.times(seen, rows), units) for rows in (box, points))]
    for value, columns, name in zip(values, (1, 4, 10), OUTPUTS[stride]):
        anchors = graph.add("Transpose", graph.add("Concat", value, value, axis=1), perm=[0, 2, 3, 1])
        graph.add("Reshape", anchors, graph.constant(numpy.array([-1, columns])), output=name)
