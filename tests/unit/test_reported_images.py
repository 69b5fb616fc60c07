"""Images that people reported, through the shipped detector to the verdicts: what counts is what a viewer shows."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from actors.experts import DetectorAdapter, load_detector
from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.config import Experts
from vlrm_ray.experts.detection import detect_objects
from vlrm_ray.experts.evidence import combine_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.store.images import load_image
from vlrm_ray.types import Evidence, Verdict

CASES = Path(__file__).parents[1] / "data" / "cases"
EXPERTS = Experts()


@cache
def detector() -> DetectorAdapter:
    return load_detector(EXPERTS.detector)


@cache
def evidence(name: str) -> Evidence:
    pixels = np.asarray(load_image(str(CASES / name)))
    return combine_evidence(detect_objects([pixels], detector().detect, EXPERTS.detector.confidence)[0])


def verdicts(name: str, text: str) -> set[Verdict]:
    checked = Verifier.from_config(EXPERTS).check_all(RuleExtractor().claims(text, ""), evidence(name))
    return {claim.finding.verdict for claim in checked}


@pytest.mark.parametrize("name", sorted(path.name for path in (CASES / "01").iterdir()))
def test_a_turned_image_is_seen_upright(name: str) -> None:
    assert verdicts(f"01/{name}", "There is a red circle left of the blue square.") == {Verdict.SUPPORTED}


@pytest.mark.parametrize("name", sorted(path.name for path in (CASES / "02").iterdir()))
def test_what_is_transparent_is_not_seen(name: str) -> None:
    assert verdicts(f"02/{name}", "There is a red circle.") == {Verdict.SUPPORTED}
    assert Verdict.SUPPORTED not in verdicts(f"02/{name}", "There is a yellow star.")


def test_16_bit_gray_is_seen_as_8_bit_gray() -> None:
    assert evidence("03/grey16.png") == evidence("03/grey8.png")
    assert {o.name for o in evidence("03/grey16.png").objects} == {"circle", "square"}


@pytest.mark.parametrize("name", sorted(path.name for path in (CASES / "04").iterdir()))
def test_absence_is_not_claimed_where_the_detector_sees_too_little(name: str) -> None:
    for text in ("There is a red circle.", "There is no star.", "There are two triangles.", "There is one sign."):
        assert verdicts(f"04/{name}", text) == {Verdict.UNVERIFIABLE}


@pytest.mark.parametrize("name", ["small_circle_1280.png", "small_circle_640.png"])
def test_what_is_detected_for_certain_in_a_large_image_stays_supported(name: str) -> None:
    assert verdicts(f"04/{name}", "There is a blue square.") == {Verdict.SUPPORTED}
