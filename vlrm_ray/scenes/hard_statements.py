"""True and false sentences in difficult English, for measuring how often true sentences are contradicted.

Claims are extracted from such sentences by rules. A rule that misreads one can make a claim that the sentence does not
make, so that a true sentence is contradicted. Two sources measure this:

    hard_statements: sentences from the templates in `vlrm_ray.scenes.hard`, about any labelled image.
    written_statements: sentences written by hand about the small scenes in `hard_statements.yaml`.

A sentence is true if what it asserts is true of the image. What it only mentions (as a possibility, a quotation, or
what somebody might say) does not count. An opinion ("I think there is a star") counts as an assertion.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.hard import formats, negation, places, quantity, reference, reported
from vlrm_ray.scenes.hard.facts import Draft, Facts, Template
from vlrm_ray.scenes.shifts import LabelledImage
from vlrm_ray.scenes.world import SIGN, Scene, SceneObject
from vlrm_ray.types import Evidence

TEMPLATES: dict[str, Template] = {
    name: template
    for module in (negation, reported, formats, quantity, reference, places)
    for name, template in module.TEMPLATES.items()
}
"""Template of each construction."""
PER_IMAGE = 20
"""Constructions that `hard_statements` draws for an image."""
_WRITTEN = Path(__file__).with_name("hard_statements.yaml")
_ARTICLE = re.compile(r"\b([Aa]) (?=[*\"]*(?:orange|EXIT|OPEN)\b)")


@dataclass(frozen=True)
class HardStatement:
    """A response of known truth.

    Attributes:
        construction: name of the construction that makes it difficult.
        text: the response.
        question: the question that the response answers; may be empty.
        true: whether what it asserts is true of the image.
    """

    construction: str
    text: str
    question: str
    true: bool


@dataclass(frozen=True)
class WrittenScene:
    """A scene of `hard_statements.yaml` as ground-truth evidence, with the sentences about it."""

    name: str
    scene: Scene
    evidence: Evidence
    statements: tuple[HardStatement, ...]


def hard_statements(image: LabelledImage, rng: random.Random) -> Iterator[HardStatement]:
    """Yield a true and a false sentence of each of `PER_IMAGE` random constructions, as far as the image allows them.

    Args:
        image: the image with its ground truth.
        rng: source of random numbers; the same state gives the same sentences.
    """
    facts = Facts.of(image, rng.getrandbits(32))
    for construction in rng.sample(tuple(TEMPLATES), PER_IMAGE):
        possible = sorted(all_statements(construction, facts), key=lambda s: (s.text, s.question))
        for true in (True, False):
            fitting = [statement for statement in possible if statement.true is true]
            if fitting:
                yield rng.choice(fitting)


def all_statements(construction: str, facts: Facts) -> Iterator[HardStatement]:
    """Yield all sentences of a construction that a scene allows, in a fixed order."""
    for draft in TEMPLATES[construction](facts):
        yield _statement(construction, draft)


def _statement(construction: str, draft: Draft) -> HardStatement:
    """The sentence with the right articles and an upper-case first letter."""
    text, question = (_ARTICLE.sub(r"\1n ", t) for t in (draft.text, draft.question))
    return HardStatement(construction, text[:1].upper() + text[1:], question, draft.true)


def written_statements() -> tuple[WrittenScene, ...]:
    """The scenes of `hard_statements.yaml`, each with its ground-truth evidence and hand-written sentences."""
    return tuple(_written_scene(i, entry) for i, entry in enumerate(yaml.safe_load(_WRITTEN.read_text("utf-8"))))


def _written_scene(index: int, entry: dict[str, Any]) -> WrittenScene:
    scene = Scene(index, tuple(sorted(map(_object, entry["objects"]), key=lambda o: o.cell)))
    statements = tuple(
        HardStatement("written", text, question, true)
        for key, true in (("true_sentences", True), ("false_sentences", False))
        for question, text in map(_question_and_text, entry[key])
    )
    return WrittenScene(str(entry["scene"]), scene, true_evidence(scene), statements)


def _object(line: str) -> SceneObject:
    """An object from a line such as "red circle top left" or "sign STOP middle right"."""
    first, second, row, col = line.split()
    place = ("top", "middle", "bottom").index(row), ("left", "center", "right").index(col)
    if first == SIGN:
        return SceneObject(SIGN, "white", *place, 0.45, 0.0, 0.0, word=second)
    return SceneObject(second, first, *place, 0.33, 0.0, 0.0)


def _question_and_text(entry: str | dict[str, str]) -> tuple[str, str]:
    """A plain text is a response without a question; a mapping has one question and its response."""
    return ("", entry) if isinstance(entry, str) else next(iter(entry.items()))
