"""Conversion of Yes/No questions to a choice between two responses.

A reward model scores responses. A Yes/No question is therefore converted to the two possible responses, and the
response with the higher reward is the model's answer. The responses are full sentences for questions of the form
"Is there a ...?", and "Yes." and "No." for all others.
"""

import re

_IS_THERE = re.compile(r"\s*Is there (an?) (\S.*?)\s*\?\s*", re.IGNORECASE)
YES, NO = 0, 1
"""Indices of the two responses."""


def answers(question: str) -> tuple[str, str]:
    """The affirmative and the negative response, for example "Yes, there is a cup." and "No, there is no cup."."""
    match = _IS_THERE.fullmatch(question)
    if match is None:
        return "Yes.", "No."
    article, noun = match.groups()
    return f"Yes, there is {article.lower()} {noun}.", f"No, there is no {noun}."


def word(pick: int | None, undecided: str) -> str:
    """The answer word, "Yes" or "No", of a response's index; `undecided` if the index is None."""
    return undecided if pick is None else ("Yes", "No")[pick]
