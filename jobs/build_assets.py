"""Train the assets of the embedded world from scratch, and write a model card for each.

    python jobs/build_assets.py                   build all four (the VLM alone takes 6,100 CPU seconds)
    python jobs/build_assets.py detector ocr      build only the named assets
    python jobs/build_assets.py --measure-only    measure and calibrate the existing assets, without training
    python jobs/build_assets.py --out FOLDER      write to FOLDER instead of the package

If the training of the VLM or of the extractor is interrupted, run the same command again to resume it.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from actors.local import load_vision_experts
from vlrm_ray.config import ASSETS, Config, Detector, Experts, Reader, asset_path
from vlrm_ray.engines import EngineSettings
from vlrm_ray.errors import run_as_program
from vlrm_ray.store.ledger import Ledger

log = logging.getLogger("build_assets")
CARD = "MODEL_CARD.md"


def main() -> None:
    """Parse the command line, and build or measure the chosen assets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "assets", nargs="*", metavar="detector|ocr|vlm|extractor", help="assets to build (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(asset_path(ASSETS)), help="folder of the assets (default: the package's)"
    )
    parser.add_argument(
        "--measure-only", action="store_true", help="measure and calibrate existing assets, without training"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads for training (default: %(default)s)"
    )
    parser.add_argument(
        "--vlm-state",
        type=Path,
        default=Path("vlm-training.pt"),
        help="file of the VLM's training state, to resume from (default: %(default)s)",
    )
    parser.add_argument(
        "--extractor-state",
        type=Path,
        default=Path("extractor-training.pt"),
        help="file of the extractor's training state, to resume from (default: %(default)s)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    builders = {"detector": _detector, "ocr": _ocr, "vlm": _vlm, "extractor": _extractor}
    unknown = set(arguments.assets) - set(builders)
    if unknown:
        parser.error(f"unknown asset '{sorted(unknown)[0]}', expected one of {', '.join(builders)}")
    for name in arguments.assets or builders:
        log.info("%s: %s", name, "measuring" if arguments.measure_only else "building")
        builders[name](arguments.out / name, arguments)


def _detector(out: Path, arguments: argparse.Namespace) -> None:
    from jobs.assets import detector

    recipe = {"images": 4000, "epochs": 14, "seed": 0}
    built = _timed(lambda: detector.build(out, **recipe), arguments)
    with tempfile.TemporaryDirectory() as scratch:
        quality: dict[str, float] = detector.measure_fresh(out / "detector.pt", Path(scratch))
    quality |= _expert_quality(arguments.out)
    _calibrate(arguments.out)
    _write_card(
        out,
        "Detector of the embedded scenes",
        "YOLO11 blocks, trained by ultralytics (AGPL-3.0)",
        recipe,
        built,
        quality,
    )


def _ocr(out: Path, arguments: argparse.Namespace) -> None:
    from jobs.assets import ocr

    recipe = {"detection_steps": 500, "recognition_steps": 3000, "seed": 0}
    built = _timed(lambda: ocr.build(out, **recipe), arguments)
    quality = _expert_quality(arguments.out)
    _calibrate(arguments.out)
    _write_card(
        out,
        "OCR models of the embedded scenes",
        "text detection and recognition models in ONNX, as PaddleOCR loads them",
        recipe,
        built,
        quality,
    )


def _expert_quality(assets: Path) -> dict[str, float]:
    from jobs.assets import quality

    return quality.experts(load_vision_experts(_experts_in(assets)))


def _calibrate(assets: Path) -> None:
    """Calibrate the detector and the OCR models, and write the calibrations beside them."""
    from jobs.assets.calibrate import calibrate

    experts = _experts_in(assets)
    calibrate(experts.experts, load_vision_experts(experts))


def _experts_in(assets: Path) -> Config:
    detector = Detector(model=str(assets / "detector" / "detector.pt"))
    reader = Reader(
        detection_model=str(assets / "ocr" / "detection"), recognition_model=str(assets / "ocr" / "recognition")
    )
    return Config(experts=Experts(detector=detector, reader=reader))


def _vlm(out: Path, arguments: argparse.Namespace) -> None:
    from jobs.assets import vlm

    recipe = vlm.Recipe()
    built = _timed(lambda: vlm.build(out, recipe, arguments.vlm_state, arguments.threads), arguments)
    quality = vlm_quality(str(out))
    _write_card(
        out,
        "Tiny prejudiced VLM of the embedded scenes",
        "Qwen2.5-VL architecture, 1.8 M parameters",
        asdict(recipe),
        built,
        quality,
    )


def _extractor(out: Path, arguments: argparse.Namespace) -> None:
    from jobs.assets import extractor

    recipe = extractor.Recipe()
    built = _timed(lambda: extractor.build(out, recipe, arguments.extractor_state, arguments.threads), arguments)
    _write_card(
        out,
        "Tiny claim extractor of the embedded scenes",
        "Qwen3 architecture, 0.7 M parameters; taught by the rule-based extractor",
        asdict(recipe),
        built,
        extractor_quality(str(out)),
    )


def extractor_quality(folder: str, scenes: int = 1000) -> dict[str, float]:
    """Measure an extractor, run by vLLM, on held-out statements about scenes.

    Returns:
        Exact-match F1 over all claim types and for each, and the counts of `LlmExtractor.counts`.
    """
    from actors.local import local_llm_extractor
    from vlrm_ray.scenes.extractor_quality import extractor_score
    from vlrm_ray.types import ClaimType

    with local_llm_extractor(folder) as extractor:
        score = extractor_score(extractor, scenes, seed=1)
        counts = asdict(extractor.counts)
    by_type = {f"f1_{kind}": round(score.f1([kind]), 4) for kind in ClaimType}
    return {"f1": round(score.f1(), 4), **by_type, **counts}


def vlm_quality(folder: str, scenes: int = 300) -> dict[str, float]:
    """Measure a VLM, run by transformers (`VlmQuality.measure`)."""
    from jobs.assets.quality import VlmQuality, blank_image
    from vlrm_ray.reward.transformers_engine import TransformersEngine
    from vlrm_ray.scenes.images import store_image
    from vlrm_ray.scenes.render import SIZE

    engine = TransformersEngine(EngineSettings("transformers", folder, "float32", 512, 64, 64, 0.5, 0, 1))
    with tempfile.TemporaryDirectory() as scratch:
        ledger, blank = Ledger(scratch), Path(scratch, "blank.png")
        blank_image(SIZE).save(blank)
        return VlmQuality(engine.generate, lambda scene: store_image(scene, ledger), str(blank)).measure(scenes)


def _timed(build: Callable[[], dict[str, float]], arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Build an asset; returns facts for its card, or None with --measure-only."""
    if arguments.measure_only:
        return None
    start = time.monotonic()
    facts: dict[str, Any] = dict(build())
    if "cpu_seconds" not in facts:  # includes all sessions of an interrupted training
        facts["seconds"] = round(time.monotonic() - start)
    return {"machine": f"{os.cpu_count()} cores, {platform.machine()}", **facts}


def _write_card(
    out: Path, title: str, summary: str, recipe: dict[str, Any], built: dict[str, Any] | None, quality: dict[str, float]
) -> None:
    """Write card.json and the model card; with --measure-only (`built` is None) the facts of the building are kept."""
    card_file = out / "card.json"
    built = built or (json.loads(card_file.read_text())["built"] if card_file.exists() else {})
    card = {"recipe": recipe, "built": built, "quality": quality}
    card_file.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    sections = "".join(
        f"\n## {name}\n\n| | |\n|---|---|\n"
        + "".join(f"| {key.replace('_', ' ')} | {value} |\n" for key, value in part.items())
        for name, part in (("Recipe", recipe), ("Building", built), ("Quality on fresh scenes", quality))
    )
    (out / CARD).write_text(f"# {title}\n\n{summary}. Rebuild: `python jobs/build_assets.py {out.name}`.\n{sections}")
    log.info("%s: %s", out.name, quality)


if __name__ == "__main__":
    run_as_program(main, resumes=True)
