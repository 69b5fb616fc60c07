"""Makes a CUDA build of torchvision importable together with a CPU build of torch.

PyPI has no CPU build of torchvision. The import of its CUDA build fails beside a CPU torch, because the operators
`torchvision::nms` and `torchvision::qnms` are defined in a compiled library that cannot be loaded. transformers' image
processors and ultralytics need only torchvision's Python code and NMS. `install` therefore defines the two operators,
with a CPU kernel for nms, before torchvision is imported.
"""

import os
import sys
from functools import cache
from pathlib import Path

import torch


@cache
def install() -> None:
    """Define the missing operators in this process and in child processes started later.

    Does nothing if torchvision can be imported or is not installed. It may be called any number of times.
    """
    try:
        import torchvision  # noqa: F401

        return
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    _remove_partial_import()
    _define_operators()
    _install_in_child_processes()
    import torchvision.ops.boxes as boxes

    boxes._assert_has_ops = lambda: None  # it would look for the compiled library


def _install_in_child_processes() -> None:
    """Put `child/`, whose sitecustomize.py installs the shim, first on PYTHONPATH."""
    hook = str(Path(__file__).with_name("child"))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if hook not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (hook, *paths) if p)


def _remove_partial_import() -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]


_libraries: list[torch.library.Library] = []  # operators are removed when their library is garbage collected


def _define_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression.

    Args:
        dets: boxes (n, 4), float, as x0, y0, x1, y1.
        scores: scores (n,), float.
        iou_threshold: boxes that overlap a better one by more than this are removed.

    Returns:
        Indices (k,) of the kept boxes, int64, by descending score.
    """
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
