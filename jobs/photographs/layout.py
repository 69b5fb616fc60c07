"""The folders of the photograph cache.

    archives/                       archives as the package managers delivered them
    models/detector.onnx            COCO detector: experts.detector.model, with experts.detector.image_size=640
    models/small-detector.onnx      a small one: experts.detector.model, with experts.detector.image_size=512
    models/ocr/detection/           PP-OCR text detection: experts.reader.detection_model
    models/ocr/recognition/         PP-OCR text recognition: experts.reader.recognition_model
    natural/ARCHIVE/NAME.*          photographs with known content
    cutouts/CLASS/NAME.png          photographed objects with an alpha channel, by COCO class
    backgrounds/NAME.jpg            photographs without any object of a COCO class
    licences.txt                    source and licence of each archive
    set/                            photographs with statements, see `jobs/photographs/dataset.py`

The cache is `VLRM_PHOTOS`, by default the folder `photos` of the node's cache. Each part has a stamp beside it
(`models/detector.onnx.json`) that names the recipe it was built by. A part whose recipe has changed is built again.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vlrm_ray.errors import UserError
from vlrm_ray.store.filesystem import write_file
from vlrm_ray.store.node_cache import node_cache

VARIABLE = "VLRM_PHOTOS"
"""Environment variable with the cache's folder."""


@dataclass(frozen=True)
class Photos:
    """The cache in one folder."""

    root: Path

    @property
    def archives(self) -> Path:
        """Fetched archives."""
        return self.root / "archives"

    @property
    def detector(self) -> Path:
        """Checkpoint of the detector."""
        return self.root / "models" / "detector.onnx"

    @property
    def small_detector(self) -> Path:
        """Checkpoint of the small detector, which the tests use."""
        return self.root / "models" / "small-detector.onnx"

    @property
    def ocr(self) -> Path:
        """Folder of the two OCR models."""
        return self.root / "models" / "ocr"

    @property
    def natural(self) -> Path:
        """Photographs with known content."""
        return self.root / "natural"

    @property
    def cutouts(self) -> Path:
        """Cut-outs, in a folder for each class."""
        return self.root / "cutouts"

    @property
    def backgrounds(self) -> Path:
        """Photographs without objects."""
        return self.root / "backgrounds"

    @property
    def dataset(self) -> Path:
        """The photograph set with truth."""
        return self.root / "set"

    @property
    def licences(self) -> Path:
        """Sources and licences of everything in the cache."""
        return self.root / "licences.txt"

    def is_built(self, part: Path, recipe: str = "") -> bool:
        """Whether a part is complete, and built by this recipe (any recipe if empty)."""
        try:
            built = json.loads(_stamp(part).read_text())["recipe"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return part.exists() and (not recipe or built == recipe)

    @contextmanager
    def building(self, part: Path, recipe: str) -> Iterator[Path]:
        """A path to build a part at. It replaces the part when the block ends without an error."""
        partial = part.with_name(f".partial-{part.name}")
        _remove(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _stamp(part).unlink(missing_ok=True)
        _remove(part)
        partial.rename(part)
        write_file(str(_stamp(part)), (json.dumps({"recipe": recipe}) + "\n").encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cache's lock: one process builds at a time.

        Raises:
            UserError: the folder cannot be written, or another process holds the lock.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = open(self.root / ".lock", "a+")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"{self.root} cannot be written ({error.strerror}); set {VARIABLE} to another folder"
            ) from None
        with lock:
            try:
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is building {self.root}; wait until it has ended") from None
            yield


def photos(folder: str | None = None) -> Photos:
    """The cache of this node, or the one in `folder`."""
    chosen = folder or os.environ.get(VARIABLE) or os.path.join(node_cache().folder, "photos")
    return Photos(Path(chosen).expanduser().absolute())


def _stamp(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
