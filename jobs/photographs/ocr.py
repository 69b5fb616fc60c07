"""The PP-OCR models of the rapidocr wheel, as folders that PaddleOCR opens: inference.onnx and inference.yml.

The wheel has the networks only. Their preparation and decoding is PaddleOCR's standard one (`_DETECTION`, `_RECOGNITION`);
the recognition network carries its characters in the ONNX metadata.
"""

from pathlib import Path
from typing import Any

import onnx
import yaml

from jobs.photographs.members import members
from vlrm_ray.errors import UserError

_FILES = {
    "detection": "rapidocr/models/PP-OCRv6_det_small.onnx",
    "recognition": "rapidocr/models/PP-OCRv6_rec_small.onnx",
}
_DECODE = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}
_NORMALIZE = {
    "NormalizeImage": {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "scale": "1./255.",
        "order": "hwc",
    }
}
_DETECTION: dict[str, Any] = {
    "Global": {"model_name": "PP-OCRv6_small_det"},
    "PreProcess": {
        "transform_ops": [
            _DECODE,
            {"DetResizeForTest": {"limit_side_len": 480, "limit_type": "min"}},
            _NORMALIZE,
            {"ToCHWImage": None},
        ]
    },
    "PostProcess": {
        "name": "DBPostProcess",
        "thresh": 0.3,
        "box_thresh": 0.5,
        "max_candidates": 1000,
        "unclip_ratio": 1.5,
    },
}
_RECOGNITION: dict[str, Any] = {
    "Global": {"model_name": "PP-OCRv6_small_rec"},
    "PreProcess": {"transform_ops": [_DECODE, {"RecResizeImg": {"image_shape": [3, 48, 320]}}]},
    "PostProcess": {"name": "CTCLabelDecode"},
}


def build(archive: Path, out: Path) -> None:
    """Write the folders `detection` and `recognition`; raises UserError if the archive has no such models."""
    files = dict(members(archive, lambda name: name in _FILES.values()))
    if len(files) < len(_FILES):
        raise UserError(f"{archive} has no {' and '.join(_FILES.values())}; use the pinned archive")
    for name, settings in (("detection", _DETECTION), ("recognition", _RECOGNITION)):
        folder, network = out / name, files[_FILES[name]]
        folder.mkdir(parents=True)
        (folder / "inference.onnx").write_bytes(network)
        if name == "recognition":
            settings = {**settings, "PostProcess": {**settings["PostProcess"], "character_dict": _characters(network)}}
        text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
        (folder / "inference.yml").write_text(text, "utf-8")


def _characters(network: bytes) -> list[str]:
    """The characters that the recognition network knows, in the order of its outputs."""
    model = onnx.load_model_from_string(network)
    (characters,) = (p.value for p in model.metadata_props if p.key == "character")
    return str(characters).removesuffix("\n").split("\n")
