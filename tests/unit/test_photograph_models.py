"""The detector and OCR models that `make photos` converts."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from jobs.photographs.coco import CLASSES
from jobs.photographs.layout import photos
from jobs.photographs.tfjs import GraphBuilder, TfjsGraph
from jobs.photos import recipe_of, small_parts
from vlrm_ray.config import Detector, Reader
from vlrm_ray.errors import UserError
from vlrm_ray.store.images import open_image

CACHE = photos()
needs_models = pytest.mark.skipif(
    not all(CACHE.is_built(part.path, recipe_of(part)) for part in small_parts(CACHE)),
    reason=f"no models and photographs of this version in {CACHE.root}; fetch them with: python jobs/photos.py --small",
)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def node(name: str, operation: str, inputs: list[str], **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": operation, "input": inputs, "attr": attributes}


def sizes(height: int, width: int) -> dict[str, Any]:
    return {"list": {"i": ["1", str(height), str(width), "1"]}}


def convolution(name: str, operation: str, inputs: list[str], stride: int, *fused: str) -> dict[str, Any]:
    return node(
        name, operation, inputs, strides=sizes(stride, stride), dilations=sizes(1, 1), padding={"s": encoded("SAME")},
        fused_ops={"list": {"s": [encoded(f) for f in fused]}},
    )  # fmt: skip


def tfjs(nodes: list[dict[str, Any]], weights: dict[str, np.ndarray[Any, Any]]) -> tuple[bytes, bytes]:
    """model.json and weight file; float weights are stored as float16."""
    entries, content = [], b""
    for name, value in weights.items():
        half = value.dtype == np.float32
        entry: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
        entries.append({**entry, "quantization": {"dtype": "float16"}} if half else entry)
        content += (value.astype(np.float16) if half else value).tobytes()
        nodes = [*nodes, node(name, "Const", [])]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": entries}]}
    return json.dumps(model).encode(), content


def converted(model: tuple[bytes, bytes], output: str, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Output of a converted graph for an image (h, w, c), as (h, w, c)."""
    import onnxruntime

    builder = GraphBuilder()
    name = TfjsGraph(*model, builder, {"image": "image"}).tensor(output)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("image", name)]
    values[0] = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", image.shape[2], "h", "w"])
    graph = helper.make_graph(builder.nodes, "test", values[:1], values[1:], builder.constants)
    exported = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"image": image.transpose(2, 0, 1)[None]})
    return np.asarray(result)[0].transpose(1, 2, 0)


def test_convolutions_give_the_same_as_by_their_definition() -> None:
    """A strided convolution with bias and ReLU, and a depthwise one, on an image of odd size with SAME padding."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(7, 5, 2)).astype(np.float32)
    kernel, bias = (rng.normal(size=s).astype(np.float16).astype(np.float32) for s in ((3, 3, 2, 4), (4,)))
    depthwise = rng.normal(size=(3, 3, 4, 1)).astype(np.float16).astype(np.float32)
    model = tfjs(
        [
            node("image", "Placeholder", []),
            convolution("first", "_FusedConv2D", ["image", "kernel", "bias"], 2, "BiasAdd", "Relu"),
            convolution("second", "DepthwiseConv2dNative", ["first", "depthwise"], 1),
        ],
        {"kernel": kernel, "bias": bias, "depthwise": depthwise},
    )
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))  # 7 and 5 are odd: the same on both sides at stride 2
    first = np.array(
        [[np.tensordot(padded[y : y + 3, x : x + 3], kernel, 3) + bias for x in (0, 2, 4)] for y in (0, 2, 4, 6)]
    ).clip(0)
    wide = np.pad(first, ((1, 1), (1, 1), (0, 0)))
    second = np.array(
        [[(wide[y : y + 3, x : x + 3] * depthwise[..., 0]).sum((0, 1)) for x in range(3)] for y in range(4)]
    )
    np.testing.assert_allclose(converted(model, "first", image), first, atol=1e-4)
    np.testing.assert_allclose(converted(model, "second", image), second, atol=1e-4)


def test_means_concatenations_and_upsampling_keep_their_axes() -> None:
    image = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    flags = {"half_pixel_centers": {"b": False}, "align_corners": {"b": False}}
    model = tfjs(
        [
            node("image", "Placeholder", []),
            node("mean", "Mean", ["image", "axes"]),
            node("centered", "Sub", ["image", "mean"]),
            node("wide", "ConcatV2", ["image", "centered", "axis"]),
            node("large", "ResizeBilinear", ["wide", "size"], **flags),
        ],
        {"axes": np.array([1, 2], np.int32), "axis": np.array(3, np.int32), "size": np.array([4, 6], np.int32)},
    )
    wide = np.concatenate([image, image - image.mean((0, 1))], 2)
    np.testing.assert_allclose(converted(model, "wide", image), wide, atol=1e-5)
    large = converted(model, "large", image)
    assert large.shape == (4, 6, 4)
    np.testing.assert_allclose(large[::2, ::2], wide, atol=1e-5)
    np.testing.assert_allclose(large[0, 1], (wide[0, 0] + wide[0, 1]) / 2, atol=1e-5)


def test_an_unknown_operation_is_named() -> None:
    model = tfjs([node("image", "Placeholder", []), node("x", "Frobnicate", ["image"])], {})
    with pytest.raises(UserError, match=r"unknown operation Frobnicate"):
        TfjsGraph(*model, GraphBuilder(), {"image": "image"}).tensor("x")


def test_the_detector_has_the_classes_of_coco() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert (CLASSES[0], CLASSES[15], CLASSES[79]) == ("person", "cat", "toothbrush")


@needs_models
def test_the_fetched_detector_finds_what_the_photographs_show_alone_and_in_a_batch() -> None:
    from actors.yolo import Yolo

    paths = [CACHE.natural / name for name in ("ultralytics/bus.jpg", "skimage/chelsea.png", "skimage/coffee.png")]
    images = [np.asarray(open_image(str(path))) for path in paths]
    detector = Yolo(Detector(model=str(CACHE.small_detector), image_size=512))
    together = detector.detect(images)
    for image, boxes, name in zip(images, together, ("bus", "cat", "cup"), strict=True):
        assert name in {box.name for box in boxes if box.score > 0.4}
        (alone,) = detector.detect([image])
        assert [box.name for box in alone] == [box.name for box in boxes]
        np.testing.assert_allclose([b.box for b in alone], [b.box for b in boxes], atol=0.01)


@needs_models
def test_the_fetched_reader_reads_a_bus_and_a_page() -> None:
    from actors.paddle_ocr import Paddle

    reader = Paddle(
        Reader(detection_model=str(CACHE.ocr / "detection"), recognition_model=str(CACHE.ocr / "recognition"))
    )
    texts = [word.text for word in reader.read(np.asarray(open_image(str(CACHE.natural / "ultralytics" / "bus.jpg"))))]
    assert {"cero", "emisiones"} <= set(" ".join(texts).split())
    page = reader.read(np.asarray(open_image(str(CACHE.natural / "skimage" / "page.png"))))
    assert "Region-based segmentation" in {word.text for word in page}
