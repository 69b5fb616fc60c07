"""Asks a model for the judgement of a critique in which it wrote none.

The model continues its own text after "Judgement:". p(Yes) and p(No) of the next token are the judgement. Critiques
that have a readable judgement are not changed.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from vlrm_ray.engines import TOO_LONG, Completion, Engine, Request, score_isolated
from vlrm_ray.preferences.judgement import find_judgement, judgement_prompt
from vlrm_ray.types import NO, YES

_LETTER = re.compile(r"[^\W\d_]")
KEPT_SHARE = 0.75
"""If a critique leaves no room for its judgement in the model's context, this share of its text is kept."""


@dataclass(frozen=True)
class MissingJudgement:
    """A critique without a readable judgement.

    Attributes:
        request: the request that it answers.
        answer: the critique.
    """

    request: Request
    answer: Completion

    @classmethod
    def of(cls, request: Request, answer: Completion) -> "MissingJudgement | None":
        """The missing judgement of an answer; None if the answer has one, or if the request was refused.

        The answer is read together with the request's prefix, as selection reads it: a judgement in the prefix does not
        count, and a "Yes" without a heading does not count in a critique with headings. Nor does a judgement that an answer
        quotes before it is cut off.
        """
        text = _joined(request.prefix, answer.text)
        found = find_judgement(text)
        has_one = found is not None and found.start >= len(text) - len(answer.text)
        if found is not None and answer.cut and _LETTER.search(text, found.start + len(found.word)):
            has_one = False
        return None if answer.refused or has_one else cls(request, answer)

    def request_for_score(self) -> Request:
        """Request whose next token is the judgement."""
        return replace(self.request, prefix=judgement_prompt(_joined(self.request.prefix, self.answer.text)))

    def with_judgement(self, score: Completion) -> Completion:
        """The critique, continued by its judgement, given the score of `request_for_score`."""
        continued = judgement_prompt(_joined(self.request.prefix, self.answer.text))
        text = continued.removeprefix(self.request.prefix.strip()).lstrip()
        return Completion(f"{text} {YES if score.yes >= score.no else NO}", score.yes, score.no, asked=True)

    def shortened(self) -> "MissingJudgement | None":
        """The same with the end of the critique cut off; None if nothing is left to cut."""
        text = self.answer.text[: int(KEPT_SHARE * len(self.answer.text))].rstrip()
        return MissingJudgement(self.request, replace(self.answer, text=text)) if self.answer.text else None


def with_judgements(
    engine: Engine, requests: Sequence[Request], answers: Sequence[Sequence[Completion]]
) -> list[list[Completion]]:
    """The answers to some requests, those without a judgement with the one that the engine gives when asked.

    Args:
        engine: the engine that wrote the answers.
        requests: the requests.
        answers: the answers to each request.
    """
    complete = [list(group) for group in answers]
    missing = {
        (row, column): found
        for row, request in enumerate(requests)
        for column, answer in enumerate(complete[row])
        if (found := MissingJudgement.of(request, answer))
    }
    while missing:
        scores = score_isolated(engine, [found.request_for_score() for found in missing.values()])
        retried = {}
        for ((row, column), found), score in zip(missing.items(), scores, strict=True):
            if not score.refused:
                complete[row][column] = found.with_judgement(score)
            elif score.refused == TOO_LONG and (shorter := found.shortened()):
                retried[row, column] = shorter
        missing = retried
    return complete


async def judged(score: Callable[[Request], Awaitable[Completion]], request: Request, answer: Completion) -> Completion:
    """The answer to a request, with the judgement that the model gives when asked if it wrote none; see `with_judgements`.

    Args:
        score: computes p(Yes) and p(No) after the prefix of a request; a request that is not taken gets a refused completion.
        request: the request.
        answer: the answer.
    """
    missing = MissingJudgement.of(request, answer)
    while missing:
        found = await score(missing.request_for_score())
        if not found.refused:
            return missing.with_judgement(found)
        missing = missing.shortened() if found.refused == TOO_LONG else None
    return answer


def _joined(prefix: str, text: str) -> str:
    """The whole critique: the prefix that the engine was given, and what it wrote after it."""
    return f"{prefix} {text}".strip()
