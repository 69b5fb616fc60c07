"""Trains the YOLO detector on scenes without correlations."""

import os
import shutil
import tempfile
from pathlib import Path

import yaml

from vlrm_ray import torchvision_shim
from vlrm_ray.scenes.render import SIZE, paint
from vlrm_ray.scenes.world import SHAPES, SIGN, World

CLASSES = (*SHAPES, SIGN)
EXPERT_WORLD = World(bias=0.0, held_out=0.1, shape_counts=(0.1, 0.2, 0.3, 0.3, 0.1))
"""The experts' training scenes; unlike the tiny VLM's, they contain the held-out combinations."""
TRAIN_SEED, VAL_SEED = 10_000_000, 11_000_000


def offline_ultralytics(folder: Path) -> None:
    """Configure ultralytics without network and telemetry, with its settings in `folder`; call before its first import."""
    settings = folder / "Ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        YOLO_OFFLINE="1",
        YOLO_AUTOINSTALL="0",
        ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1",
        YOLO_CONFIG_DIR=str(folder),
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"),
    )
    torchvision_shim.install()


def build(out: Path, *, images: int = 4000, epochs: int = 14, seed: int = 0) -> dict[str, float]:
    """Train the detector and write `detector.pt`.

    Args:
        out: folder of the asset.
        images: number of training images.
        epochs: number of epochs.
        seed: seed of ultralytics' training.

    Returns:
        mAP50 and mAP50-95 on validation scenes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        offline_ultralytics(folder)
        _place_font(folder)
        data = _write_dataset(folder / "data", images)
        import ultralytics

        ultralytics.settings.update({"sync": False})
        model = ultralytics.YOLO(str(Path(__file__).with_name("detector.yaml")), task="detect")
        model.train(
            data=str(data), epochs=epochs, imgsz=SIZE, batch=16, device="cpu", workers=0,
            cache="ram", amp=False, plots=False, seed=seed, deterministic=True, pretrained=False,
            optimizer="AdamW", lr0=0.003, warmup_epochs=1.0, mosaic=0.0, hsv_h=0.5, hsv_s=0.5,
            hsv_v=0.3, scale=0.2, project=str(folder), name="fit", exist_ok=True, verbose=False,
            val=False,
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "fit" / "weights" / "last.pt", out / "detector.pt")
        return measure(out / "detector.pt", data)


def measure_fresh(checkpoint: Path, scratch: Path, images: int = 300) -> dict[str, float]:
    """mAP50 and mAP50-95 of a checkpoint on validation scenes, which are rendered into the folder `scratch`."""
    offline_ultralytics(scratch)
    return measure(checkpoint, _write_dataset(scratch / "data", 1, images))


def measure(checkpoint: Path, data: Path) -> dict[str, float]:
    """mAP50 and mAP50-95 of a checkpoint on the validation split of an ultralytics data set (a data.yaml)."""
    import ultralytics

    box = (
        ultralytics.YOLO(str(checkpoint))
        .val(data=str(data), imgsz=SIZE, batch=16, device="cpu", workers=0, plots=False,
             verbose=False, project=str(data.parent), name="val", exist_ok=True)
        .box
    )  # fmt: skip
    return {"mAP50": round(float(box.map50), 4), "mAP50-95": round(float(box.map), 4)}


def _place_font(folder: Path) -> None:
    # ultralytics downloads this font before every training, even in offline mode
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copy(font, folder / "Ultralytics" / "Arial.ttf")


def _write_dataset(root: Path, images: int, validation: int = 300) -> Path:
    """Write an ultralytics data set with that many training and validation images; returns its data.yaml."""
    for split, count, first in (("train", images, TRAIN_SEED), ("val", validation, VAL_SEED)):
        image_folder, label_folder = root / "images" / split, root / "labels" / split
        image_folder.mkdir(parents=True)
        label_folder.mkdir(parents=True)
        for index in range(count):
            scene = EXPERT_WORLD.sample(first + index)
            rendered = paint(scene)
            rendered.image.save(image_folder / f"{index:05d}.png")
            lines = [
                f"{CLASSES.index(obj.shape)} {(x0 + x1) / 2 / SIZE:.5f} {(y0 + y1) / 2 / SIZE:.5f} "
                f"{(x1 - x0) / SIZE:.5f} {(y1 - y0) / SIZE:.5f}"
                for obj, (x0, y0, x1, y1) in zip(scene.objects, rendered.boxes, strict=True)
            ]
            (label_folder / f"{index:05d}.txt").write_text("\n".join(lines))
    data = root / "data.yaml"
    names = dict(enumerate(CLASSES))
    data.write_text(yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": names}))
    return data
