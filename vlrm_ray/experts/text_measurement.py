"""Measures how often claims about text are true by the strength of their evidence, on labelled images; see `claim_tables.py`.

For each image, the labelled texts are asked, texts of other images, and texts with one other letter.
"""

import random
import string
from collections.abc import Iterator, Sequence

from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.claim_tables import ClaimTable, ReaderClaims
from vlrm_ray.experts.score_calibration import Proportion
from vlrm_ray.experts.text_matching import height_group, skeleton, tallest, text_strength

FALSE_TEXTS = 4
"""False claims about text for each labelled one, and for each image without text."""


def measure_text_claims(images: Sequence[LabelledEvidence], stated: float) -> ReaderClaims:
    """Tables for claims about text; arguments as for `measure_object_claims`."""
    texts = sorted({word.text for image in images for word in image.truth.words})
    answers = [
        (tallest(image.detected.words), a) for i, image in enumerate(images) for a in _text_answers(image, texts, i)
    ]
    return ReaderClaims(
        stated,
        {group: ClaimTable.of([a for g, a in answers if g == group]) for group in sorted({g for g, _ in answers})},
    )


def recall_by_height(images: Sequence[LabelledEvidence]) -> dict[str, Proportion]:
    """Share of the labelled texts that were read, but for what readers confuse, by their height in pixels."""
    outcomes: dict[str, list[bool]] = {}
    for image in images:
        read = skeleton(" ".join(w.text for w in image.detected.words)).replace(" ", "")
        for word in image.truth.words:
            group = height_group(word.box[3] - word.box[1])
            outcomes.setdefault(group, []).append(skeleton(word.text).replace(" ", "") in read)
    return {group: Proportion.of(hits) for group, hits in sorted(outcomes.items(), key=lambda item: int(item[0]))}


def _text_answers(image: LabelledEvidence, texts: Sequence[str], number: int) -> Iterator[tuple[float, bool]]:
    rng, words = random.Random(number), image.detected.words
    true = [word.text for word in image.truth.words]
    all_true = skeleton(" ".join(true))
    others = [text for text in texts if skeleton(text) not in all_true]
    false = rng.sample(others, min(len(others), FALSE_TEXTS * max(1, len(true))))
    false += [_misspelled(text, rng) for text in true]
    yield from ((text_strength(text, words)[0], True) for text in true)
    yield from ((text_strength(text, words)[0], False) for text in false)


def _misspelled(text: str, rng: random.Random) -> str:
    """The text with one other digit, or with one letter that readers do not confuse with the true one."""
    places = [i for i, c in enumerate(text) if c.isalnum()]
    if not places:
        return text + "x"
    place = rng.choice(places)
    others = string.digits.replace(text[place], "") if text[place].isdigit() else string.ascii_uppercase
    letters = [c for c in others if c.isdigit() or skeleton(text[:place] + c + text[place + 1 :]) != skeleton(text)]
    return text[:place] + rng.choice(letters) + text[place + 1 :]
