"""Color words of claims, and the pixels that they describe."""

import cv2
import numpy as np
import pytest

from vlrm_ray.claims import make_extractor
from vlrm_ray.experts.colors import color_strength, region_of
from vlrm_ray.types import ClaimType, Shade


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
