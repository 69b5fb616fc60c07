"""The wording of critiques: how one is asked for, and how its parts are found again.

A critique describes what is seen, checks the response claim by claim, and ends in a judgement:

    Seen: red circle top left, sign STOP middle right. Check: circle red found red yes. Judgement: Yes

The tiny model of the embedded world carries the `compact` wording; large models get `detailed`.
"""

import re
from dataclasses import dataclass

from vlrm_ray.types import NO, YES

SEEN, CHECK, JUDGEMENT = "Seen:", "Check:", "Judgement:"


@dataclass(frozen=True)
class CritiqueFormat:
    """One wording.

    Attributes:
        name: what the configuration calls it.
        ask: asks for a critique; has the fields question, response and hint.
        ask_direct: asks for Yes or No at once; has the fields question and response.
        hint: introduces the experts' evidence in the request; has the field evidence.
        written: there is a critique before the judgement.
        given: how a critique begins that the experts' evidence is given to, in place of the hint: what is
            seen is theirs, what follows from it the writer's. Has the field evidence; empty gives the hint.
    """

    name: str
    ask: str
    ask_direct: str
    hint: str
    written: bool = True
    given: str = ""

    def beginning(self, evidence: str | None) -> str:
        """The critique's beginning as it is given to its writer; empty where the writer begins."""
        return "" if evidence is None else self.given.format(evidence=evidence)

    def prompt(self, question: str, response: str, evidence: str | None = None) -> str:
        """The request for a critique. `evidence` is shown to the writer and never trained on."""
        hint = "" if evidence is None else self.hint.format(evidence=evidence)
        return self.ask.format(question=question, response=response, hint=hint)

    def direct_prompt(self, question: str, response: str) -> str:
        """The request for a judgement without a critique."""
        return self.ask_direct.format(question=question, response=response)


COMPACT = CritiqueFormat(
    name="compact",
    ask="Question: {question} Response: {response}{hint} Critique.",
    ask_direct="Question: {question} Response: {response} Yes or No.",
    hint=" Hint: {evidence}.",
    given=f"{SEEN} {{evidence}}.",
)
DETAILED = CritiqueFormat(
    name="detailed",
    ask=(
        "You check whether a response agrees with the image.\n\n"
        "Question: {question}\n\nResponse: {response}\n{hint}\n"
        "First describe what the image shows, after 'Seen:'. Then check each claim of the response "
        "against the image, after 'Check:'. End with 'Judgement: Yes' if every claim agrees with "
        "the image, else with 'Judgement: No'."
    ),
    ask_direct=(
        "Question: {question}\n\nResponse: {response}\n\n"
        "Does every claim of the response agree with the image? Answer Yes or No."
    ),
    hint="\nReliable detectors saw: {evidence}. Do not mention them.\n",
)
DIRECT = CritiqueFormat("direct", ask=COMPACT.ask_direct, ask_direct=COMPACT.ask_direct, hint="", written=False)
FORMATS = {f.name: f for f in (COMPACT, DETAILED, DIRECT)}


@dataclass(frozen=True)
class CritiqueParts:
    """A critique taken apart; a part that is missing is empty, an unreadable judgement is None."""

    seen: str
    check: str
    judgement: bool | None


_PARTS = re.compile(
    rf"(?:{SEEN}\s*(?P<seen>.*?))?\s*(?:{CHECK}\s*(?P<check>.*?))?\s*{JUDGEMENT}\s*(?P<word>\w+)?\W*$",
    re.DOTALL,
)


def compose(seen: str, check: str, judgement: bool) -> str:
    """Write a critique from its parts."""
    return f"{SEEN} {seen}. {CHECK} {check}. {JUDGEMENT} {YES if judgement else NO}"


def parse(text: str) -> CritiqueParts:
    """Take a critique apart; the last judgement counts, and only as the last word or the only one."""
    if text.strip() in (YES, NO):
        return CritiqueParts("", "", text.strip() == YES)
    match = _PARTS.search(text.strip())
    if match is None:
        return CritiqueParts("", "", None)
    word = (match["word"] or "").lower()
    judgement = {YES.lower(): True, NO.lower(): False}.get(word)
    return CritiqueParts(_part(match["seen"]), _part(match["check"]), judgement)


def _part(text: str | None) -> str:
    return (text or "").strip().rstrip(".").strip()
