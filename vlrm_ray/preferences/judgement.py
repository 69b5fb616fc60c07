"""Finds the judgement, Yes or No, in the text that a model wrote.

The prompts ask for "Judgement: Yes" or "Judgement: No". Models write many variants of it: Markdown, other spellings
and headings, a bare answer, an explanation after the answer. These rules apply, in this order:

1. The last heading decides: "judgement" or "judgment"; without one "verdict"; without one "answer", "conclusion" and
   the like. The word after it must be Yes or No.
2. Without a heading, the text must begin or end with a Yes or No that stands alone: "No, because ...". A critique
   that has the headings of its other parts is cut off before its judgement, and has none.
3. There is no judgement where both words are offered ("Yes/No"), where it is taken back ("Yes. But ..."), and where
   "no" belongs to a noun ("No errors found").
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrm_ray.types import NO, YES


@dataclass(frozen=True)
class Judgement:
    """A judgement in a text.

    Attributes:
        value: True for Yes, False for No.
        word: the word as it is written, for example "yes".
        start: position of the word in the text, in characters.
    """

    value: bool
    word: str
    start: int


@dataclass(frozen=True)
class Heading:
    """The heading of a judgement.

    Attributes:
        start: position of the heading in the text, in characters.
        judgement: the judgement after it; None if that cannot be read.
    """

    start: int
    judgement: Judgement | None


HEADING = "Judgement:"
"""Heading of a judgement in the prompts and critique formats."""
_YES_OR_NO = rf"(?<![^\W_])(?P<word>{YES}|{NO})(?![^\W_]|['’\-]\w)"
"""The word on its own, also between underscores; not in "No-one"."""
_HEADINGS = (r"judge?ments?", r"verdict", r"(?:answer|conclusion|decision|\\boxed|\\text)")
"""Words of a heading, in order of preference."""
_BEFORE_HEADING = r"(?:\b(?:final|overall|my|the)\s+){0,2}"
_CHOICE = r"(?:\s*[(\[][^()\[\]\n]{0,60}[)\]])?"
"""The choice between brackets, as in "Judgement (Yes or No): No"."""
_SEPARATOR = r"[\s*_`~\"'”’]*[:：=]"
_COLON = re.compile(r"[:：=]")
_GAP = r"(?:[\W_]{1,24}?(?:is[\W_]{1,24}?)?)(?:\\?\b(?:boxed|text)\b[\W_]{1,4}?){0,2}"
"""What may stand between a heading and its word: no letters, except for "is" and the commands of LaTeX."""
_PATTERNS = tuple(
    re.compile(
        rf"{_BEFORE_HEADING}(?<!</)(?<![^\W_]){heading}(?![^\W_]){_CHOICE}(?:{_GAP}{_YES_OR_NO}|(?P<colon>{_SEPARATOR}))",
        re.IGNORECASE,
    )
    for heading in _HEADINGS
)
_FIRST_WORD = re.compile(rf"[\W_]*{_YES_OR_NO}", re.IGNORECASE)
_LAST_WORD = re.compile(rf"{_YES_OR_NO}$", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W_]+")
_NO_LETTER = re.compile(r"[\W_]*")
_CONCLUSION = re.compile(r".*\b(?:so|therefore|thus|hence|overall|finally|in conclusion)[\W_]+", re.IGNORECASE)
_OTHER_PARTS = re.compile(r"\b(?:Seen|Check)\**:")
_DUE = re.compile(rf"(?<![^\W_]){HEADING}\**$")
_MARKDOWN = re.compile(r"[ \t*_#>`]*")
_GAP_LENGTH = 24
"""Characters before a heading in which the end of another choice is looked for."""
_OFFERED = re.compile(r"[\s*_\"'”’)\]]*(?:[/|\\]|\bor\b)", re.IGNORECASE)
"""After a word: the beginning of another choice."""
_OFFERED_BEFORE = re.compile(
    rf"(?<![^\W_])(?:{YES}|{NO})[\s*_\"'”’)\]]*(?:[/|\\]|\bor\b)(?:(?!\n)[\W_])*\Z", re.IGNORECASE
)
"""Before a heading: another choice, as in "'Judgement: Yes' or 'Judgement: No'"."""
_OTHER_WORD_AFTER = {
    value: re.compile(
        rf"[\W_]*(?:and\b[\W_]*)?(?<![^\W_]){other}(?=[\s*_\"'”’]*(?:[.,;:!?)\]/|*_-]|$))"
        rf"|[^.!?\n]{{0,60}}\b(?:and|but)\s+{other}\s+(?:for|to|about|on|in|regarding)\b",
        re.IGNORECASE,
    )
    for value, other in ((True, NO), (False, YES))
}
"""After a word: the other word, standing alone, or for another claim ("Yes for the color and no for the number")."""
_TAKEN_BACK = r"(?:wait|actually|or|then again|maybe|perhaps)\b"
_TAKEN_BACK_AFTER = {
    True: re.compile(rf"[\W_]*(?:but|however|although|though|except|unless|{_TAKEN_BACK})", re.IGNORECASE),
    False: re.compile(rf"[\W_]*{_TAKEN_BACK}", re.IGNORECASE),
}
_REASON = r"[ \t]+(?:because|since|as|due|the|it|its|this|that|these|those|there|they|he|she|i|we|a|an)\b"
_NO_IS_COMPLETE = re.compile(rf"$|\s*(?:\n|$)|\s*(?![.#]?\s*#?\d)[^\w\s#]|_|{_REASON}", re.IGNORECASE)
"""After "no": its end, a punctuation mark or an explanation, but neither a noun nor a number ("No. 5")."""


def find_judgement(text: str) -> Judgement | None:
    """The judgement of a text, or None if it has none that can be read."""
    heading = last_heading(text)
    if heading is not None:
        return heading.judgement
    if _OTHER_PARTS.search(text):
        return None
    words = [match for match in (_FIRST_WORD.match(text), _last_word(text)) if match]
    found = [judgement for word in words if _stands_alone(text, word) and (judgement := _checked(text, word))]
    return found[0] if found and len({judgement.value for judgement in found}) == 1 else None


def judgement_prompt(text: str) -> str:
    """A text without a readable judgement, continued to where its judgement is due: after "Judgement:".

    The heading stands in a line of its own, or as a new sentence in the line if the text has its parts in one line (the
    format `compact`). A text that was cut off after the heading has it already.
    """
    text = text.rstrip()
    if not text:
        return HEADING
    own_line, same_line = f"{text}\n{HEADING}", f"{text}{'.' if text[-1].isalnum() else ''} {HEADING}"
    in_one_line = "\n" not in text and _OTHER_PARTS.search(text) is not None
    preferred = text if _DUE.search(text) else same_line if in_one_line else own_line
    # it could not be read after "Yes or", for example
    return preferred if find_judgement(f"{preferred} {NO}") else own_line


def last_heading(text: str) -> Heading | None:
    """The heading that decides the judgement of a text, or None without one."""
    heading: Heading | None = None
    for rank, pattern in enumerate(_PATTERNS):
        for match in list(pattern.finditer(text, heading.start + 1 if heading else 0)):
            judgement = _checked(text, match) if match["word"] else None
            is_heading = judgement or match["colon"] or _COLON.search(text, match.start(), match.start("word"))
            if is_heading and (rank == 0 or _concludes(text, match)):
                heading = Heading(match.start(), judgement)
        if heading is not None and heading.judgement:
            break
    return heading


def judgement_token(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[int, Judgement] | None:
    """The token at which the judgement of an answer begins.

    Args:
        token_ids: the tokens of the answer.
        decode: decodes tokens to text; a prefix of the tokens gives a prefix of the text.

    Returns:
        Index of the first token that holds a letter of the judgement's word, and the judgement with its position in
        the decoded text. None if the answer has no judgement.
    """
    judgement = find_judgement(decode(token_ids))
    if judgement is None:
        return None
    low, high = 1, len(token_ids)  # smallest number of tokens whose text reaches the first letter
    while low < high:
        middle = (low + high) // 2
        if len(decode(token_ids[:middle])) > judgement.start:
            high = middle
        else:
            low = middle + 1
    return low - 1, judgement


def _checked(text: str, match: re.Match[str]) -> Judgement | None:
    """The judgement of a matched word; None if it is offered with the other one, taken back, or part of a sentence."""
    value = match["word"].lower() == YES.lower()
    end = match.end("word")
    if _OFFERED.match(text, end) or _OFFERED_BEFORE.search(text, max(0, match.start() - _GAP_LENGTH), match.start()):
        return None
    if _OTHER_WORD_AFTER[value].match(text, end):
        return None
    if _TAKEN_BACK_AFTER[value].match(text, end) or (not value and not _NO_IS_COMPLETE.match(text, end)):
        return None
    return Judgement(value, match["word"], match.start("word"))


def _last_word(text: str) -> re.Match[str] | None:
    """The last word of a text if it is the only one of its line, or follows a word such as "therefore"."""
    end = max((match.end() for match in _LETTERS.finditer(text)), default=0)
    match = _LAST_WORD.search(text, max(0, end - len(YES)), end)
    if match is None:
        return None
    line = _line_before(text, match.start())
    return match if _NO_LETTER.fullmatch(line) or _CONCLUSION.fullmatch(line) else None


def _concludes(text: str, match: re.Match[str]) -> bool:
    """Whether a "verdict" or "answer" is that of the whole text, not that of one claim under `Check:`."""
    if not _OTHER_PARTS.search(text) or _MARKDOWN.fullmatch(_line_before(text, match.start())):
        return True
    return match["word"] is not None and _NO_LETTER.fullmatch(text, match.end("word")) is not None


def _line_before(text: str, position: int) -> str:
    return text[text.rfind("\n", 0, position) + 1 : position]


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a word is followed by the end of the text, a punctuation mark or an explanation."""
    return _NO_IS_COMPLETE.match(text, match.end("word")) is not None
