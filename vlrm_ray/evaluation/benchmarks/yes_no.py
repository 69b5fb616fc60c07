"""Yes/No questions as two statements to compare.

A reward model judges responses, so the question is turned into the two responses it allows, and the
one with the higher reward is the model's answer. A full sentence says what is claimed; where the
question has no simple one, the bare words stand.
"""

import re

_THERE = re.compile(r"\s*Is there (an?) (\S.*?)\s*\?\s*", re.IGNORECASE)
YES, NO = 0, 1
"""Indices of the two answers."""


def answers(question: str) -> tuple[str, str]:
    """The affirming and the denying response: "Yes, there is a red circle.", "No, there is no red circle."."""
    match = _THERE.fullmatch(question)
    if match is None:
        return "Yes.", "No."
    article, thing = match.groups()
    return f"Yes, there is {article.lower()} {thing}.", f"No, there is no {thing}."


def word(pick: int | None, undecided: str) -> str:
    """The one-word answer of a pick."""
    return undecided if pick is None else ("Yes", "No")[pick]
