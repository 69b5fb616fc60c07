"""Critique formats: the prompts that ask for a critique, and the layout and parsing of its text.

A critique describes the image, checks the response claim by claim, and ends in a judgement:

    Seen: red circle top left, sign STOP middle right. Check: circle red found red yes. Judgement: Yes

The tiny model of the embedded world uses the `compact` format. Large models use `detailed`.
"""

import re
from dataclasses import dataclass

from vlrm_ray.preferences.judgement import HEADING, find_judgement, last_heading
from vlrm_ray.types import NO, YES, ScoredCritique

SEEN, CHECK, JUDGEMENT = "Seen:", "Check:", HEADING
"""Headings of a critique's three parts."""


@dataclass(frozen=True)
class CritiqueFormat:
    """Prompt templates for one style of critique.

    Attributes:
        name: value of `critic.format` in the configuration.
        prompt_template: prompt for a critique; placeholders {question}, {response} and {hint}.
        direct_prompt_template: prompt for a bare Yes or No; placeholders {question} and {response}.
        hint_template: text for the placeholder {hint}, with the experts' evidence; placeholder {evidence}.
        has_critique: False if the answer is a bare Yes or No without a critique.
        prefix_template: prefix of a critique, filled with the experts' evidence; placeholder {evidence}. The model
            continues after it. If empty, the evidence goes into the prompt as a hint instead.
    """

    name: str
    prompt_template: str
    direct_prompt_template: str
    hint_template: str
    has_critique: bool = True
    prefix_template: str = ""

    def prefix(self, evidence: str | None) -> str:
        """Prefix of the critique that the model continues; empty without evidence or without a prefix template."""
        return "" if evidence is None else self.prefix_template.format(evidence=evidence)

    def description(self, evidence: str) -> str:
        """The beginning of a critique that describes an image as the experts saw it."""
        return f"{SEEN} {evidence}."

    def prompt(self, question: str, response: str, evidence: str | None = None) -> str:
        """Prompt for a critique; `evidence` is added as a hint for the critic. Training prompts are made without it."""
        hint = "" if evidence is None else self.hint_template.format(evidence=evidence)
        return self.prompt_template.format(question=question, response=response, hint=hint)

    def direct_prompt(self, question: str, response: str) -> str:
        """Prompt for a bare Yes or No."""
        return self.direct_prompt_template.format(question=question, response=response)


COMPACT = CritiqueFormat(
    name="compact",
    prompt_template="Question: {question} Response: {response}{hint} Critique.",
    direct_prompt_template="Question: {question} Response: {response} Yes or No.",
    hint_template=" Hint: {evidence}.",
    prefix_template=f"{SEEN} {{evidence}}.",
)
DETAILED = CritiqueFormat(
    name="detailed",
    prompt_template=(
        "You check whether a response agrees with the image.\n\n"
        "Question: {question}\n\nResponse: {response}\n{hint}\n"
        "First describe what the image shows, after 'Seen:'. Then check each claim of the response "
        "against the image, after 'Check:'. End with 'Judgement: Yes' if every claim agrees with "
        "the image, else with 'Judgement: No'."
    ),
    direct_prompt_template=(
        "Question: {question}\n\nResponse: {response}\n\n"
        "Does every claim of the response agree with the image? Answer Yes or No."
    ),
    hint_template="\nReliable detectors, which know some kinds of things only, saw: {evidence}. Do not mention the detectors.\n",
)
DIRECT = CritiqueFormat(
    name="direct",
    prompt_template=COMPACT.direct_prompt_template,
    direct_prompt_template=COMPACT.direct_prompt_template,
    hint_template="",
    has_critique=False,
)
FORMATS = {f.name: f for f in (COMPACT, DETAILED, DIRECT)}
"""All formats by name, the values of `critic.format`."""


@dataclass(frozen=True)
class CritiqueParts:
    """The three parts of a parsed critique.

    Attributes:
        seen: text after `Seen:`, empty if missing.
        check: text after `Check:`, empty if missing.
        judgement: True for Yes, False for No, None if it cannot be read.
    """

    seen: str
    check: str
    judgement: bool | None


_SEEN_AND_CHECK = re.compile(rf"(?:{SEEN}\s*(?P<seen>.*?))?\s*(?:{CHECK}\s*(?P<check>.*?))?\s*$", re.DOTALL)
_MARKDOWN = re.compile(rf"[*_#]+(?={SEEN}|{CHECK})|(?<={SEEN})[*_]+|(?<={CHECK})[*_]+")
_OWN_HEADING = re.compile(r"^[ \t*_#>-]*(?P<part>seen|check)[ \t*_]*(?::[*_]*|$)", re.IGNORECASE | re.MULTILINE)
"""The heading of a part at the beginning of a line, in any case, with Markdown around it, and alone in its line without a colon."""
_MARKS = " \t\r\n*_#>`-"
"""Characters between the parts of a critique that belong to none of them."""


def prefers_chosen(chosen: ScoredCritique, rejected: ScoredCritique) -> bool:
    """Whether the chosen response has the higher reward; false for a tie, and if a critique has no judgement."""
    return min(chosen.label_mass, rejected.label_mass) > 0 and chosen.reward > rejected.reward


def format_critique(seen: str, check: str, judgement: bool) -> str:
    """Write a critique from its parts."""
    return f"{SEEN} {seen}. {CHECK} {check}. {JUDGEMENT} {YES if judgement else NO}"


def parse_critique(text: str) -> CritiqueParts:
    """Split a critique into its parts; the judgement is the one that `find_judgement` finds."""
    heading = last_heading(text)
    if heading is None:
        found = find_judgement(text)
        return CritiqueParts("", "", None if found is None else found.value)
    before = _OWN_HEADING.sub(lambda match: f"{match['part'].capitalize()}:", _MARKDOWN.sub("", text[: heading.start]))
    parts = _SEEN_AND_CHECK.search(before.rstrip(_MARKS))
    seen, check = (parts["seen"], parts["check"]) if parts else ("", "")
    return CritiqueParts(_stripped(seen), _stripped(check), heading.judgement.value if heading.judgement else None)


def _stripped(text: str | None) -> str:
    return (text or "").strip().rstrip(".").strip()
