"""Rebuild the assets of the embedded scenes from nothing, each with a model card beside it.

    python jobs/build_assets.py                   all four (about an hour on two cores)
    python jobs/build_assets.py detector ocr      some
    python jobs/build_assets.py --measure-only    only measure what is there, and write the cards
    python jobs/build_assets.py --out FOLDER      elsewhere than in the package

The trainings of the VLM and of the extractor go on where they were interrupted.
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
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "assets", nargs="*", metavar="detector|ocr|vlm|extractor", help="which to build; all without any"
    )
    parser.add_argument("--out", type=Path, default=Path(asset_path(ASSETS)), help="folder of the assets")
    parser.add_argument("--measure-only", action="store_true", help="train nothing")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument(
        "--vlm-state",
        type=Path,
        default=Path("vlm-training.pt"),
        help="where the VLM's training is kept between sessions",
    )
    parser.add_argument(
        "--extractor-state",
        type=Path,
        default=Path("extractor-training.pt"),
        help="where the extractor's training is kept between sessions",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    makers = {"detector": _detector, "ocr": _ocr, "vlm": _vlm, "extractor": _extractor}
    unknown = set(arguments.assets) - set(makers)
    if unknown:
        parser.error(f"unknown asset {sorted(unknown)[0]}; choose from {', '.join(makers)}")
    for name in arguments.assets or makers:
        log.info("%s: %s", name, "measuring" if arguments.measure_only else "building")
        makers[name](arguments.out / name, arguments)


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
    """Measure both experts' trustworthiness, and store it beside them."""
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
    """Measure an extractor folder by vLLM, on statements that its training has not seen."""
    from actors.local import local_llm_extractor
    from vlrm_ray.scenes.extractor_quality import extractor_score
    from vlrm_ray.types import ClaimType

    with local_llm_extractor(folder) as extractor:
        score = extractor_score(extractor, scenes, seed=1)
        losses = asdict(extractor.losses)
    by_type = {f"f1_{kind}": round(score.f1([kind]), 4) for kind in ClaimType}
    return {"f1": round(score.f1(), 4), **by_type, **losses}


def vlm_quality(folder: str, scenes: int = 300) -> dict[str, float]:
    """Measure a VLM folder by the transformers engine."""
    from actors.transformers_engine import TransformersEngine
    from jobs.assets.quality import VlmQuality, blank_picture
    from vlrm_ray.scenes.pictures import store_picture
    from vlrm_ray.scenes.render import SIZE

    engine = TransformersEngine(EngineSettings("transformers", folder, "float32", 512, 64, 64, 0.5, 0, 1))
    with tempfile.TemporaryDirectory() as scratch:
        ledger, blank = Ledger(scratch), Path(scratch, "blank.png")
        blank_picture(SIZE).save(blank)
        return VlmQuality(engine.generate, lambda scene: store_picture(scene, ledger), str(blank)).measure(scenes)


def _timed(build: Callable[[], dict[str, float]], arguments: argparse.Namespace) -> dict[str, Any] | None:
    if arguments.measure_only:
        return None
    began = time.monotonic()
    facts: dict[str, Any] = dict(build())
    if "cpu_seconds" not in facts:  # which counts all sessions of a training that was interrupted
        facts["seconds"] = round(time.monotonic() - began)
    return {"machine": f"{os.cpu_count()} cores, {platform.machine()}", **facts}


def _write_card(
    out: Path, title: str, what: str, recipe: dict[str, Any], built: dict[str, Any] | None, quality: dict[str, float]
) -> None:
    """Write the card; measuring alone keeps what the card says of the building."""
    known = out / "card.json"
    built = built or (json.loads(known.read_text())["built"] if known.exists() else {})
    card = {"recipe": recipe, "built": built, "quality": quality}
    known.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    sections = "".join(
        f"\n## {name}\n\n| | |\n|---|---|\n"
        + "".join(f"| {key.replace('_', ' ')} | {value} |\n" for key, value in part.items())
        for name, part in (("Recipe", recipe), ("Building", built), ("Quality on fresh scenes", quality))
    )
    (out / CARD).write_text(f"# {title}\n\n{what}. Rebuild: `python jobs/build_assets.py {out.name}`.\n{sections}")
    log.info("%s: %s", out.name, quality)


if __name__ == "__main__":
    run_as_program(main)
