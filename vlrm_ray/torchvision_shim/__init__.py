"""Let a CUDA build of torchvision be imported beside a CPU build of torch.

The package index has no CPU torchvision. Its CUDA build then fails on import, because the operator
schemas `torchvision::nms` and `torchvision::qnms` live in a library that cannot be loaded.
transformers' image processors and ultralytics need only the Python part of torchvision, and NMS:
so declare the two schemas, with a CPU kernel for nms, before the first import.
"""

import os
import sys
from functools import cache
from pathlib import Path

import torch


@cache
def install() -> None:
    """Declare the missing operators, here and in child processes to come.

    A no-op where torchvision imports as it is, or is not there; call it freely.
    """
    try:
        import torchvision  # noqa: F401

        return
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    _forget_half_import()
    _declare()
    _tell_children()
    import torchvision.ops.boxes as boxes

    boxes._assert_has_ops = lambda: None  # it looks for the compiled library


def _tell_children() -> None:
    hook = str(Path(__file__).with_name("child"))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if hook not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (hook, *paths) if p)


def _forget_half_import() -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]


_libraries: list[torch.library.Library] = []  # a library's operators vanish when it is collected


def _declare() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy NMS: boxes (n, 4) as x0, y0, x1, y1, by falling score; returns the kept indices."""
    import cv2
    import numpy as np

    if dets.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=dets.device)
    corners = dets.detach().double().cpu().numpy()
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    confidence = scores.detach().float().cpu().double().numpy()
    confidence = confidence - min(0.0, float(confidence.min())) + 1e-3  # OpenCV drops scores <= 0
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), confidence.tolist(), 0.0, float(iou_threshold))
    return torch.as_tensor(np.asarray(kept).reshape(-1), dtype=torch.long, device=dets.device)
