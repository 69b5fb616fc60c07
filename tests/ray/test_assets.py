"""The shipped assets reach their required quality on fresh scenes."""

from pathlib import Path

import pytest

from vlrm_ray.config import Config, asset_path

ASSETS = Path(asset_path("assets:"))


def test_assets_are_small_and_have_cards() -> None:
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 15 << 20
    assert all((ASSETS / name / "MODEL_CARD.md").is_file() for name in ("detector", "ocr", "vlm"))


def test_the_detector_finds_objects_and_the_reader_reads_signs() -> None:
    from actors.local import load_vision_experts
    from jobs.assets.quality import experts

    found = experts(load_vision_experts(Config()), scenes=200)
    assert found["objects_found"] >= 0.95
    assert found["color_accuracy"] >= 0.98
    assert found["signs_read_exactly"] >= 0.95


def test_the_detector_has_the_mean_average_precision(tmp_path: Path) -> None:
    from jobs.assets.detector import measure_fresh

    assert measure_fresh(ASSETS / "detector" / "detector.pt", tmp_path, images=120)["mAP50"] >= 0.90


@pytest.fixture(scope="module")
def vlm() -> dict[str, float]:
    from jobs.build_assets import vlm_quality

    return vlm_quality(str(ASSETS / "vlm"), scenes=120)


def test_the_tiny_vlm_uses_the_image(vlm: dict[str, float]) -> None:
    assert vlm["existence_with_image"] >= vlm["existence_blank_image"] + 0.15


def test_the_tiny_vlm_is_biased_towards_its_prior(vlm: dict[str, float]) -> None:
    assert vlm["attribute_agreeing_with_prior"] >= vlm["attribute_against_prior"] + 0.15


def test_some_of_its_responses_are_contradicted(vlm: dict[str, float]) -> None:
    assert 0.2 <= vlm["responses_contradicted"] <= 0.6


def test_the_tiny_vlm_reasons_soundly_from_given_facts(vlm: dict[str, float]) -> None:
    """It writes the critiques of the rounds, so what it cannot do is never taught."""
    told = {name: value for name, value in vlm.items() if name.startswith("told_")}
    assert (told.pop("told_count_true") + told.pop("told_count_false")) / 2 >= 0.88
    assert told.pop("told_compare") >= 0.78
    assert min(told.values()) >= 0.95
