"""Color words of claims, and the pixels that they describe."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.unit.test_claim_tables import CLAIMS, C, S, U, box, finding, seen
from vlrm_ray.claims import make_extractor
from vlrm_ray.experts.claim_tables import ClaimTable
from vlrm_ray.experts.colors import color_strength, region_of
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Noun, Shade


def shade(*rgb: int) -> Shade:
    lab = cv2.cvtColor(np.array([[rgb]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    return Shade(*(float(v) for v in lab), share=1.0)


def stated_color(text: str) -> str:
    (claim,) = (c for c in make_extractor("rule").claims(text) if c.type is ClaimType.ATTRIBUTE)
    return claim.value or ""


@pytest.mark.parametrize(("word", "rgb"), [
    ("tan", (210, 180, 140)), ("navy", (10, 15, 40)), ("maroon", (80, 0, 10)), ("burgundy", (90, 20, 40)), ("teal", (0, 75, 80)),
    ("olive", (128, 128, 0)), ("lavender", (230, 220, 250)), ("sky blue", (135, 206, 235)), ("light blue", (190, 215, 230)),
    ("light pink", (255, 200, 210)), ("dark gray", (60, 60, 62)), ("dark green", (10, 50, 20)), ("light gray", (215, 215, 218)),
])  # fmt: skip
def test_a_claim_keeps_the_word_for_a_color_so_that_its_own_region_is_measured(word: str, rgb: tuple[int, ...]) -> None:
    assert color_strength(stated_color(f"There is a {word} car."), (shade(*rgb),)) == 1


@pytest.mark.parametrize(("text", "color"), [
    ("A crimson car.", "red"), ("A grey car.", "gray"), ("A light grey car.", "light gray"), ("A navy blue car.", "navy")
])  # fmt: skip
def test_words_for_the_same_color_are_one(text: str, color: str) -> None:
    assert stated_color(text) == color


@pytest.mark.parametrize(("word", "rgb"), [
    ("light brown", (200, 165, 120)), ("light blue", (190, 215, 230)), ("light red", (240, 130, 120))
])  # fmt: skip
def test_light_colors_are_lighter_than_the_color_itself(word: str, rgb: tuple[int, ...]) -> None:
    assert color_strength(word, (shade(*rgb),)) == 1
    light, base = region_of(word), region_of(word.split()[1])
    assert light is not None and base is not None
    assert light.lightness[0] > base.lightness[0] and light.lightness[1] >= base.lightness[1]


def test_colors_are_those_of_the_objects_pixels() -> None:
    image = seen(("cat", 0.9), color="blue")
    for color, verdict in (("blue", S), ("red", C), ("striped", U), ("large", U)):
        assert finding(Claim(ClaimType.ATTRIBUTE, Noun("cat"), color), image).verdict is verdict, color
    assert finding(Claim(ClaimType.ATTRIBUTE, Noun("cat"), "striped"), image).reason == "unknown_attribute"
    assert finding(Claim(ClaimType.ATTRIBUTE, Noun("car"), "striped"), image).verdict is C  # there is no car
    assert finding(Claim(ClaimType.OBJECT, Noun("cat", ("red",))), image).verdict is C


def test_where_colors_were_not_measured_nothing_is_concluded_from_them() -> None:
    image, unmeasured = seen(*[("car", 0.9)] * 3), replace(CLAIMS, colors=ClaimTable())
    red_cars = Noun("car", ("red",))
    verdicts = [finding(Claim(ClaimType.COUNT, red_cars, str(n)), image, unmeasured).verdict for n in (2, 3)]
    assert verdicts == [U, U]
    assert finding(Claim(ClaimType.COUNT, red_cars, "5"), image, unmeasured).verdict is C  # there are three cars only
    with_dog = seen(("car", 0.9), ("dog", 0.9))
    left = Claim(ClaimType.RELATION, red_cars, "left_of", Noun("dog"))
    assert (finding(left, with_dog).verdict, finding(left, with_dog, unmeasured).verdict) == (S, U)
    without_pixels = Evidence(240, 180, tuple(replace(o, shades=()) for o in image.objects))
    assert finding(Claim(ClaimType.COUNT, red_cars, "3"), image).verdict is S
    assert finding(Claim(ClaimType.COUNT, red_cars, "3"), without_pixels).reason == "unknown_attribute"


def test_the_color_of_a_traffic_light_is_not_that_of_its_housing() -> None:
    claims = replace(
        CLAIMS, images=CLAIMS.images | {"traffic light": 600}, objects={"traffic light": CLAIMS.any_object}
    )
    black = Detection("traffic light", box(0, 0), 0.9, shades=(Shade(10, 0, 0, 1.0),))
    image = Evidence(240, 180, (black,))
    for color in ("red", "black"):
        found = finding(Claim(ClaimType.ATTRIBUTE, Noun("traffic light"), color), image, claims)
        assert (found.verdict, found.reason) == (U, "unknown_attribute")
