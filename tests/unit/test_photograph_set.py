"""The photograph set: nothing is shared by the splits, the truth is the truth, and each build gives the same."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.photographs import composites, dataset
from jobs.photographs.catalogue import OTHER, Cutout, backgrounds, cutouts, naturals
from jobs.photographs.coco import CLASSES
from jobs.photographs.composites import Material, compose
from jobs.photographs.images import segment, trim
from jobs.photographs.layout import photos
from jobs.photographs.nouns import HYPERNYMS, plural, with_article, words_of
from jobs.photographs.plates import all_words
from jobs.photographs.split import SPLITS, deal, split_cutouts, split_naturals
from jobs.photographs.statements import CONFUSABLE, Vocabulary, phrases, statements_about
from jobs.photographs.truth import TrueImage
from jobs.photos import all_parts, recipe_of
from vlrm_ray.experts.labelled_images import read_coco

CACHE = photos()
needs_set = pytest.mark.skipif(
    not CACHE.is_built(CACHE.dataset, recipe_of(all_parts(CACHE)[-1])),
    reason=f"no photograph set of this version in {CACHE.root}; build it with: make photos",
)
Row = dict[str, Any]


# --- splits -------------------------------------------------------------------------------------


def test_no_cutout_background_or_word_is_in_both_splits() -> None:
    words = deal(all_words())
    single = {side: {w.casefold() for text in words if words[text] == side for w in text.split()} for side in SPLITS}
    assert not single["calibration"] & single["test"]
    assert set(split_cutouts(cutouts())) == {c.group for c in cutouts()}
    assert len({c.name for c in cutouts()}) == len(cutouts())
    assert set(deal(backgrounds()).values()) == set(SPLITS)


def test_a_cutout_and_the_photograph_it_comes_from_are_on_one_side() -> None:
    sides, photographs = split_cutouts(cutouts()), split_naturals(naturals(), cutouts())
    segmented = [c for c in cutouts() if isinstance(c.origin, str)]
    assert segmented
    assert all(photographs[str(c.origin)] == sides[c.group] for c in segmented)


def test_every_class_with_several_cutouts_is_in_both_splits() -> None:
    sides = split_cutouts(cutouts())
    for name in {c.class_name for c in cutouts()}:
        groups = {c.group for c in cutouts() if c.class_name == name}
        count = Counter(sides[group] for group in groups)
        assert abs(count["calibration"] - count["test"]) == len(groups) % 2


def test_no_background_is_a_natural_photograph() -> None:
    assert not {n.place for n in naturals()} & set(backgrounds().values())
    assert len({n.name for n in naturals()}) == len(naturals())


# --- truth --------------------------------------------------------------------------------------

NUMBERS = {
    "one": 1,
    "single": 1,
    "two": 2,
    "couple": 2,
    "pair": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
}
PLACES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
"""Axis of the boxes' centers and direction of the first object, seen from the second one."""
NOUNS = {form: name for name in CLASSES for word in words_of(name) for form in (word, plural(word))}
"""Class of each word that the statements use for it."""


def named(text: str) -> list[str]:
    """The classes that a sentence names, in its order; the longest word counts ("teddy bear" is no bear)."""
    forms = sorted(NOUNS, key=len, reverse=True)
    return [
        NOUNS[m]
        for m in re.findall(
            rf"\b(?:{'|'.join(map(re.escape, forms))})\b", re.sub("^[A-Z](?!V)", lambda m: m[0].lower(), text)
        )
    ]


def holds(text: str, kind: str, truth: Row) -> bool | None:
    """Whether a sentence is true, read from its words and the line of truth.jsonl alone; None if it names no class."""
    if kind == "text":
        (said,) = re.findall(r'["\'“](.+)["\'”]', text)
        return said.casefold() in {t["text"].casefold() for t in truth["texts"]}
    counts, classes = Counter(o["name"] for o in truth["objects"]), named(text)
    if kind == "attribute":
        negated = bool(re.search(r"\bnot\b|n't", text))
        words = re.findall(r"[a-z]+", text.lower().replace("grey", "gray"))
        things = [name for name in classes if name != "orange"] or classes
        (color,) = (word for word in words if word in CONFUSABLE and word not in things)
        return ({o["color"] for o in truth["objects"] if o["name"] in things} >= {color}) != negated
    if not classes:
        return None
    if kind == "count":
        said = counts[classes[0]]
        if "several" in text:
            return said >= 3
        number = next(
            int(w) if w.isdigit() else NUMBERS[w]
            for w in re.findall(r"\w+", text.lower())
            if w in NUMBERS or w.isdigit()
        )
        return said == number
    if kind == "relation":
        place = next(p for p in PLACES if p in text.lower())
        first, second = (
            reversed(classes) if text.lower().startswith((place, f"to the {place}", f"on the {place}")) else classes
        )
        axis, direction = PLACES[place]
        a, b = (next(o["box"] for o in truth["objects"] if o["name"] == n) for n in (first, second))
        return (a[axis] + a[axis + 2] - b[axis] - b[axis + 2]) * direction > 0
    negated = bool(re.search(r"\bno\b|\bnot\b|n't", text, re.IGNORECASE))
    return all(counts[name] > 0 for name in classes) != negated


def check(statements: list[Row], truth: dict[str, Row]) -> Counter[str]:
    """Compare all statements with what their words say; returns the number of compared ones by type."""
    checked: Counter[str] = Counter()
    for row in statements:
        expected = holds(row["text"], row["type"], truth[row["image"]])
        if expected is not None:
            assert row["true"] == expected, (row, truth[row["image"]])
            checked[row["type"]] += 1
    return checked


@pytest.fixture(scope="module")
def material() -> Material:
    """Cut-outs that are rectangles, and one gray background."""
    colors = {
        "car": ("red", (255, 0, 0)),
        "dog": ("", (0, 255, 0)),
        "apple": ("green", (0, 0, 255)),
        "teddy bear": ("brown", (255, 0, 255)),
    }
    made: dict[str, list[tuple[Cutout, Image.Image]]] = {}
    for name, (color, rgb) in colors.items():
        image = Image.new("RGBA", (80, 50), (*rgb, 0))
        image.paste((*rgb, 255), (5, 5, 75, 45))
        made[name] = [(Cutout(name, name, "", color=color, group=name), image)]
    return Material(made, {"wall": Image.new("RGB", (900, 700), (128, 128, 128))}, ["Open", "Oak Avenue", "1984"])


def written(material: Material, number: int, split: str = "test") -> list[tuple[Image.Image, TrueImage]]:
    return [compose(material, split, index) for index in range(number)]


def test_a_composite_is_the_same_at_each_build(material: Material) -> None:
    for (first, truth), (second, same) in zip(written(material, 8), written(material, 8), strict=True):
        assert truth == same
        assert first.tobytes() == second.tobytes()
    assert written(material, 1)[0][1] != written(material, 1, "calibration")[0][1]


def test_boxes_and_counts_are_those_of_the_pixels(material: Material) -> None:
    alone = [(image, truth) for image, truth in written(material, 150) if len(truth.objects) == 1]
    assert len(alone) > 5
    for image, truth in alone:
        (obj,) = truth.objects
        color = np.array(material.cutouts[obj.name][0][1].getpixel((40, 25)))[:3]
        rows, columns = np.nonzero(np.abs(np.asarray(image).astype(int) - color).sum(2) < 160)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(obj.box, seen, atol=2)
        assert truth.counts == {obj.name: 1}


def test_objects_hide_little_of_each_other_and_texts_lie_free(material: Material) -> None:
    for image, truth in written(material, 60):
        boxes = [o.box for o in truth.objects]
        for i, box in enumerate(boxes):
            assert composites._is_free(box, boxes[:i], composites.MOST_HIDDEN)
            assert 0 <= box[0] < box[2] <= image.width
            assert 0 <= box[1] < box[3] <= image.height
        for text in truth.texts:
            assert text.box is not None
            assert composites._is_free(text.box, boxes, 0.02)


def test_every_statement_is_as_true_as_it_says(material: Material) -> None:
    vocabulary = Vocabulary(sorted([*material.cutouts, "cat", "orange", "scissors"]), [*material.words, "Closed"])
    images = [TrueImage(**{**vars(truth), "image": f"{n}.jpg"}) for n, (_, truth) in enumerate(written(material, 150))]
    statements = [s.row() for image in images for s in statements_about(image, vocabulary)]
    assert statements == [s.row() for image in images for s in statements_about(image, vocabulary)]
    checked = check(statements, {image.image: image.row() for image in images})
    assert min(checked[kind] for kind in ("object", "count", "attribute", "relation", "text")) > 20
    for kind in checked:
        assert 0.25 < sum(s["true"] for s in statements if s["type"] == kind) / checked[kind] < 0.75


def assert_nothing_unknown_is_stated(image: TrueImage) -> None:
    unsure = {form for name in image.unsure for w in words_of(name) for form in (w, plural(w))}
    uncounted = {name for name, number in image.counts.items() if not number}
    for statement in statements_about(image, Vocabulary(CLASSES, all_words())):
        classes = set(named(statement.text))
        assert not classes & image.unsure or not unsure, statement
        assert statement.type != "count" or not classes & uncounted, statement
        if image.nouns.get("person") and re.search(r"\b(man|woman)\b", statement.text) and statement.true:
            assert any(noun in statement.text for noun in image.nouns["person"])


def test_nothing_is_stated_about_what_is_not_known() -> None:
    for photograph in naturals():
        assert_nothing_unknown_is_stated(
            dataset.natural_truth(photograph, "test", f"{photograph.name}.jpg", (640, 480))
        )


def test_nothing_is_stated_about_what_a_cutout_may_show_besides(material: Material) -> None:
    unsure = frozenset({"car", "tie"})
    stock = {
        name: [(replace(cutout, unsure=unsure), image) for cutout, image in stock]
        for name, stock in material.cutouts.items()
    }
    images = [truth for _, truth in written(replace(material, cutouts=stock), 40) if truth.objects]
    for image in images:
        assert image.unsure | image.counts.keys() >= unsure
        assert image.counts.get("car", 0) == 0
        assert not image.is_absent("tie")
        assert_nothing_unknown_is_stated(replace(image, image="c.jpg"))
    assert any("car" in image.counts for image in images)


def test_statements_by_hand_are_about_photographs_of_the_catalogue() -> None:
    truth = [dataset.natural_truth(p, "test", f"test/images/n-{p.name}.jpg", (640, 480)) for p in naturals()]
    by_hand = dataset.written_by_hand(truth)
    assert len(by_hand) > 150
    assert {s.type for s in by_hand} == {"object", "count", "attribute", "text"}


def test_a_false_color_is_none_that_somebody_else_might_say() -> None:
    for color, others in CONFUSABLE.items():
        assert color not in others
        assert others <= set(CONFUSABLE)
    assert {c.color for c in cutouts()} - {""} <= set(CONFUSABLE)
    assert {color for n in naturals() for color in n.colors.values()} <= set(CONFUSABLE)


def test_words_for_classes() -> None:
    assert [plural(w) for w in ("person", "sheep", "bus", "scissors", "dog")] == [
        "people",
        "sheep",
        "buses",
        "scissors",
        "dogs",
    ]
    assert [with_article(w) for w in ("orange", "scissors", "broccoli", "sheep")] == [
        "an orange",
        "a pair of scissors",
        "some broccoli",
        "a sheep",
    ]
    assert all(classes <= set(CLASSES) for classes in HYPERNYMS.values())
    assert all(isinstance(key, str) and "{" in text for group in phrases().values() for key, text in group.items())


# --- cut-outs -----------------------------------------------------------------------------------


def test_a_segmented_object_is_opaque_and_its_surroundings_are_not() -> None:
    rng = np.random.default_rng(0)
    image = (np.full((120, 160, 3), 200) + rng.integers(-8, 8, (120, 160, 3))).astype(np.uint8)
    image[30:90, 40:110] = (20, 60, 160)
    cut = segment(image, (0.15, 0.1, 0.85, 0.9))
    assert (cut[35:85, 45:105, 3] == 255).all()
    assert (cut[:25, :, 3] == 0).all()
    np.testing.assert_allclose(trim(cut).shape[:2], (58, 68), atol=3)


# --- the set in the cache -----------------------------------------------------------------------


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@needs_set
def test_the_built_set_is_consistent() -> None:
    truth = {row["image"]: row for split in SPLITS for row in lines(CACHE.dataset / split / "truth.jsonl")}
    statements = lines(CACHE.dataset / "statements.jsonl")
    by_shape = [s for s in statements if truth[s["image"]]["kind"] == "composite"]
    assert sum(check(by_shape, truth).values()) > 0.8 * len(by_shape)
    assert {s["image"] for s in statements} <= truth.keys()
    assert all((CACHE.dataset / image).is_file() for image in truth)
    for split in SPLITS:
        labelled = read_coco(CACHE.dataset / split / "annotations.json", CACHE.dataset / split / "images")
        for file in labelled.files:
            row = truth[f"{split}/images/{file.path.name}"]
            assert sorted(file.boxes) == sorted((o["name"], tuple(o["box"])) for o in row["objects"])
    shown = {
        split: {
            o["cutout"]
            for row in truth.values()
            if row["split"] == split and row["kind"] == "composite"
            for o in (*row["objects"], *row["others"])
        }
        for split in SPLITS
    }
    assert not shown["calibration"] & shown["test"]
    grounds = {split: {row["background"] for row in truth.values() if row["split"] == split} - {""} for split in SPLITS}
    assert not grounds["calibration"] & grounds["test"]


@needs_set
def test_a_composite_of_the_built_set_can_be_drawn_again() -> None:
    rows = [row for row in lines(CACHE.dataset / "test" / "truth.jsonl") if row["kind"] == "composite"]
    material = composites.load_material(CACHE, "test")
    for index in (0, 17):
        _, truth = compose(material, "test", index)
        assert TrueImage(**{**vars(truth), "image": rows[index]["image"]}).row() == rows[index]
    assert OTHER in material.cutouts
