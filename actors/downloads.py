"""Fetches experts' models that are given by name, by the libraries that publish them, once for each node.

A download is verified by its library, and becomes visible at once when it is complete. With `offline: true` nothing is
fetched, and the message names the file that is missing.
"""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlrm_ray.config import Config, Detector, Reader
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.experts.named_models import (
    DETECTION_MODEL,
    RECOGNITION_MODEL,
    checkpoint_name,
    detector_path,
    ocr_name,
    paddle_home,
    reader_paths,
)
from vlrm_ray.ids import sha256_of_file
from vlrm_ray.store.models import OFFLINE_ENV, is_offline


def fetch_experts(config: Config, log: Callable[[str], None]) -> None:
    """Fetch what is missing of the experts' models to this node; with `offline`, forbid this process to fetch any.

    Args:
        config: configuration of the run.
        log: is told what is fetched.

    Raises:
        UserError: a model cannot be fetched, or `offline` forbids it.
    """
    experts = config.experts
    os.environ.update(OFFLINE_ENV if config.offline else {})
    if checkpoint_name(experts.detector.model) and not Path(detector_path(experts.detector)).exists():
        path = fetch_detector(experts.detector)
        log(f"fetched the detector {experts.detector.model} to {path} (sha256 {sha256_of_file(path)})")
    if experts.reader.enabled and not all(Path(path).exists() for path in reader_paths(experts.reader)):
        log(f"fetched the OCR models to {', '.join(fetch_reader(experts.reader))}")


def fetch_detector(settings: Detector) -> str:
    """Path of the detector on this node; a checkpoint that is given by name is fetched if it is missing.

    Raises:
        UserError: ultralytics has no such checkpoint, or it cannot be fetched.
    """
    path, name = Path(detector_path(settings)), checkpoint_name(settings.model)
    if not name or path.exists():
        return str(path)
    _refuse_offline("experts.detector.model", name, path)
    from actors.yolo import download_checkpoint, published_checkpoints

    if name not in published_checkpoints():
        raise UserError(
            f"experts.detector.model: there is no file {name} here, and ultralytics publishes no checkpoint of that name; "
            "give a path, a URI, or a name such as yolo11m.pt"
        )
    with _locked(path):
        if not path.exists():
            try:
                download_checkpoint(name, path)
            except (ConnectionError, OSError) as error:
                raise _not_fetched("experts.detector.model", name, path, error) from error
    return str(path)


def fetch_reader(settings: Reader) -> tuple[str, str]:
    """Folders of the OCR models on this node; those that are given by name are fetched if they are missing.

    Raises:
        UserError: PaddleOCR cannot fetch a model.
    """
    paths = reader_paths(settings)
    models = (settings.detection_model, settings.recognition_model)
    keys = ("experts.reader.detection_model", "experts.reader.recognition_model")
    for key, path, model, default in zip(keys, paths, models, (DETECTION_MODEL, RECOGNITION_MODEL), strict=True):
        name = ocr_name(model, default)
        if not name or Path(path).exists():
            continue
        _refuse_offline(key, name, Path(path))
        os.environ["PADDLE_PDX_CACHE_HOME"] = str(paddle_home())  # read when PaddleX is imported
        from paddlex.inference.utils.official_models import official_models

        try:
            official_models[name]
        except Exception as error:  # PaddleX raises bare exceptions
            raise _not_fetched(key, name, Path(path), error) from error
    return paths


def _refuse_offline(key: str, name: str, path: Path) -> None:
    if is_offline():
        raise UserError(
            f"{key}: {name} is not on node {socket.gethostname()}, and offline is true; put it at {path}, or set "
            "offline=false to fetch it"
        )


def _not_fetched(key: str, name: str, path: Path, error: Exception) -> UserError:
    return UserError(
        f"{key}: {name} could not be fetched on node {socket.gethostname()}: {first_line(error)}; put it at {path}, or give the path or "
        "URI of a model that you have"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Context manager: one process of the node at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
