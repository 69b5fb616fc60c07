"""Converts a TensorFlow.js graph model (model.json and its weight file) to ONNX.

Only the operations of convolutional networks are known (`_OPERATIONS`). TensorFlow's tensors are (n, h, w, c), ONNX's
convolutions take (n, c, h, w): the whole graph is built in the latter, so that nothing is transposed at run time.
The batch, the height and the width stay free.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vlrm_ray.errors import UserError

Array = NDArray[Any]


class GraphBuilder:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        """Start an empty graph."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        """Add a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name


class TfjsGraph:
    """A TensorFlow.js graph, whose tensors are added to an ONNX graph on demand."""

    def __init__(self, model: bytes, weights: bytes, builder: GraphBuilder, inputs: dict[str, str]) -> None:
        """Read a graph.

        Args:
            model: content of model.json.
            weights: content of its weight file.
            builder: the ONNX graph.
            inputs: ONNX name of each placeholder, a tensor of shape (n, c, h, w).
        """
        content = json.loads(model)
        self.nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
        self.weights = _weights(content["weightsManifest"], weights)
        self.builder, self.built = builder, dict(inputs)

    def tensor(self, name: str) -> str:
        """ONNX name of a tensor of the graph.

        Raises:
            UserError: it needs an operation that is not known.
        """
        name = name.partition(":")[0]
        if name not in self.built:
            self.built[name] = self._build(name)
        return self.built[name]

    def _build(self, name: str) -> str:
        if name in self.weights:
            value = self.weights[name]
            if value.ndim > 1:
                raise UserError(
                    f"{name} of the TensorFlow.js graph is a constant of shape {value.shape}, expected a scalar"
                )
            return self.builder.constant(value)
        node = self.nodes[name]
        operation, inputs, add = node["op"], node.get("input", []), self.builder.add
        if "Conv2" in operation:
            return self._convolution(node, inputs)
        if operation in ("Add", "AddV2", "Mul", "Sub", "Relu", "Sigmoid", "Identity"):
            return add(operation.removesuffix("V2"), *map(self.tensor, inputs))
        if operation == "Relu6":
            return add("Clip", self.tensor(inputs[0]), *(self.builder.constant(np.float32(limit)) for limit in (0, 6)))
        if operation == "Mean" and sorted(self.weights[inputs[1]].tolist()) == [1, 2]:
            return add("GlobalAveragePool", self.tensor(inputs[0]))
        if operation == "ConcatV2" and self.weights[inputs[-1]] in (3, -1):
            return add("Concat", *map(self.tensor, inputs[:-1]), axis=1)
        if operation == "ResizeBilinear" and not any(
            node["attr"][key]["b"] for key in ("half_pixel_centers", "align_corners")
        ):
            doubled = self.builder.constant(np.array([1, 1, 2, 2], np.float32))  # up-sampling layers of Keras
            return add(
                "Resize",
                self.tensor(inputs[0]),
                "",
                doubled,
                mode="linear",
                coordinate_transformation_mode="asymmetric",
            )
        raise UserError(
            f"the TensorFlow.js graph has an unknown operation {operation} ({name}); use the pinned archive"
        )

    def _convolution(self, node: dict[str, Any], inputs: Sequence[str]) -> str:
        """A convolution with its fused bias and activation; kernels are (h, w, in, out) in TensorFlow."""
        attributes, kernel, groups = node["attr"], self.weights[inputs[1]], 1
        if "Depthwise" in node["op"]:
            height, width, groups, multiplier = kernel.shape
            kernel = kernel.reshape(height, width, 1, groups * multiplier)
        weights = self.builder.constant(kernel.transpose(3, 2, 0, 1))
        fused = [_text(f) for f in attributes.get("fused_ops", {}).get("list", {}).get("s", [])]
        bias = [self.builder.constant(self.weights[inputs[2]])] if "BiasAdd" in fused else []
        result = self.builder.add(
            "Conv", self.tensor(inputs[0]), weights, *bias,
            strides=_pair(attributes["strides"]),
            dilations=_pair(attributes["dilations"]),
            group=groups,
            auto_pad={"SAME": "SAME_UPPER", "VALID": "VALID"}[_text(attributes["padding"]["s"])],
        )  # fmt: skip
        if set(fused) - {"BiasAdd", "Relu"}:
            raise UserError(f"the TensorFlow.js graph has an unknown activation in {fused}; use the pinned archive")
        return self.builder.add("Relu", result) if "Relu" in fused else result


def _weights(manifest: Sequence[dict[str, Any]], content: bytes) -> dict[str, Array]:
    """The named weights, float32 or int32; stored as such or as float16."""
    weights, start = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, stored, count, start).reshape(entry["shape"])
        weights[entry["name"]] = values.astype(entry["dtype"])
        start += count * stored.itemsize
    return weights


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def _pair(attribute: dict[str, Any]) -> list[int]:
    """Height and width of an attribute over (n, h, w, c)."""
    return [int(v) for v in attribute["list"]["i"][1:3]]
