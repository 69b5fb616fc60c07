"""Claims by rules: offline, deterministic, fast enough to be free beside the experts.

Reads a response sentence by sentence. Written texts, comparisons and relations are looked for
first; what noun phrases are left then say that something is there, how many, and of what colour.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vlrm_ray.claims import lexicon
from vlrm_ray.types import Claim, ClaimType, Noun

MAX_CHARACTERS = 20_000
"""A response is read up to here; nobody checks a longer one claim by claim."""


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase: "the two red circles"."""

    noun: Noun
    number: int | None
    definite: bool
    negated: bool
    start: int
    end: int


@dataclass
class _Sentence:
    """One sentence at its place in the response, and what is known while reading it."""

    text: str
    offset: int
    negated: bool = False
    hedged: bool = False
    claims: list[Claim] = field(default_factory=list)
    used: list[tuple[int, int]] = field(default_factory=list)

    def say(
        self,
        kind: ClaimType,
        subject: Noun,
        span: tuple[int, int],
        value: str | None = None,
        other: Noun | None = None,
        *,
        negated: bool = False,
    ) -> None:
        """Record a claim; the span is relative to the sentence."""
        place = (self.offset + span[0], self.offset + span[1])
        self.claims.append(Claim(kind, subject, value, other, negated, self.hedged, place))

    def free(self, start: int, end: int) -> bool:
        """Whether no earlier reading has used this part."""
        return all(end <= a or b <= start for a, b in self.used)


class RuleExtractor:
    """The rule-based extractor."""

    def __init__(self, words: lexicon.Lexicon | None = None) -> None:
        self.words = words or lexicon.load()
        self._phrase = re.compile(
            rf"\b(?:(?P<det>the|this|that|these|those|its|exactly|only)\s+)?"
            rf"(?:(?P<num>not any|no|only one|a single|{'|'.join(lexicon.NUMBERS)}|\d{{1,3}})\s+)?"
            rf"(?P<adj>(?:(?:small|large|big|tiny|little|bright|dark|light|{self.words.color})(?:\s+|,\s*|\s+and\s+))*)"
            rf"(?P<noun>{self.words.noun})\b",
            re.IGNORECASE,
        )
        self._relation = re.compile(
            rf"\s*(?:,?\s*(?:which|that)\s+)?(?:(?:is|are|was|stands?|sits?|lies)\s+)?(?P<not>not\s+)?(?:(?:directly|just)\s+)?(?P<rel>{self.words.relation})\s+",
            re.IGNORECASE,
        )
        self._further = re.compile(
            rf"\s*,?\s*(?:and|but)\s+(?:(?:is|are)\s+)?(?P<not>not\s+)?(?P<rel>{self.words.relation})\s+", re.IGNORECASE
        )
        self._copula = re.compile(
            rf"\s+(?:is|are|was|were)(?P<not>\s+not|n't)?\s+(?:colored\s+|painted\s+)?(?P<color>{self.words.color})\b",
            re.IGNORECASE,
        )
        self._pronoun = re.compile(
            rf"\b(?:it|they)\s+(?:is|are)(?P<not>\s+not|n't)?\s+(?P<color>{self.words.color})\b", re.IGNORECASE
        )
        self._compare = re.compile(
            rf"\b(?P<how>more|fewer|less|as many)\s+(?P<one>{self.words.noun})\s+(?:than|as)\s+(?P<two>{self.words.noun})\b",
            re.IGNORECASE,
        )

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """See `Extractor`."""
        bare = re.fullmatch(r"\W*(yes|no)\W*", response, re.IGNORECASE)
        if bare:
            return self._answered(question, bare.group(1).lower() == "no", len(response))
        found: list[Claim] = []
        last: Noun | None = None
        for sentence in _sentences(response[:MAX_CHARACTERS], self.words.hedges):
            last = self._read(sentence, last)
            found += sentence.claims
        return tuple(sorted(found, key=lambda c: c.span))

    def many(self, responses: Sequence[tuple[str, str]]) -> list[tuple[Claim, ...]]:
        """See `Extractor`."""
        return [self.claims(*pair) for pair in responses]

    def _answered(self, question: str, denied: bool, length: int) -> tuple[Claim, ...]:
        """A bare yes or no asserts or denies what the question asks."""
        asked = re.sub(
            r"^\s*(?:is|are|do you see|does|can you see)\s+(?:there\s+)?",
            "There is ",
            question.rstrip("?! ."),
            flags=re.IGNORECASE,
        )
        claims = self.claims(asked) if asked.strip() else ()
        return tuple(replace(c, negated=c.negated != denied, span=(0, length)) for c in claims[-1:])

    def _read(self, sentence: _Sentence, last: Noun | None) -> Noun | None:
        phrases = list(self._phrases(sentence))
        self._read_texts(sentence)
        self._read_comparisons(sentence)
        self._read_relations(sentence, phrases)
        self._read_colors(sentence, phrases, last)
        for phrase in phrases:
            if sentence.free(phrase.start, phrase.end):
                self._read_presence(sentence, phrase)
        return phrases[-1].noun if phrases else last

    def _phrases(self, sentence: _Sentence) -> Iterator[_Phrase]:
        for match in self._phrase.finditer(sentence.text):
            number = (match["num"] or "").lower()
            colors = [self.words.colors[w] for w in re.findall(r"\w+", match["adj"].lower()) if w in self.words.colors]
            yield _Phrase(
                Noun(self.words.nouns[match["noun"].lower()], tuple(dict.fromkeys(colors))),
                self._number(number, (match["det"] or "").lower(), match["noun"].lower()),
                (match["det"] or "").lower() in ("the", "this", "that", "these", "those", "its"),
                number in ("no", "not any", "zero", "0"),
                match.start(),
                match.end(),
            )

    def _number(self, number: str, determiner: str, noun: str) -> int | None:
        """The number a phrase insists on; "a circle" insists on none, "only one circle" does."""
        if number in ("", "no", "a", "an", "not any"):
            return 1 if determiner in ("only", "exactly") and noun not in self.words.plurals else None
        if number in ("only one", "a single"):
            return 1
        return int(number) if number.isdigit() else lexicon.NUMBERS[number]

    def _read_texts(self, sentence: _Sentence) -> None:
        for match in _SAYS.finditer(sentence.text):
            words = match["quoted"] or match["bare"]
            subject = Noun(self.words.nouns.get(match["what"].lower(), "sign"))
            denied = bool(match["not"])
            sentence.say(ClaimType.OBJECT, subject, match.span("what"))
            sentence.say(ClaimType.TEXT, subject, match.span(), words.strip(), negated=denied)
            sentence.used.append(match.span())

    def _read_comparisons(self, sentence: _Sentence) -> None:
        for match in self._compare.finditer(sentence.text):
            value = {"less": "fewer", "as many": "as_many"}.get(match["how"].lower(), match["how"].lower())
            one, two = (Noun(self.words.nouns[match[k].lower()]) for k in ("one", "two"))
            sentence.say(ClaimType.COUNT, one, match.span(), value, two, negated=sentence.negated)
            sentence.used.append(match.span())

    def _read_relations(self, sentence: _Sentence, phrases: list[_Phrase]) -> None:
        starts = {p.start: p for p in phrases}
        for phrase in phrases:
            at, subject = phrase.end, phrase
            pattern = self._relation
            while link := pattern.match(sentence.text, at):
                other = starts.get(link.end())
                if other is None:
                    break
                relation = self.words.relations[link["rel"].lower()]
                sentence.say(
                    ClaimType.RELATION,
                    subject.noun,
                    (subject.start, other.end),
                    relation,
                    other.noun,
                    negated=bool(link["not"]),
                )
                at, pattern = other.end, self._further

    def _read_colors(self, sentence: _Sentence, phrases: list[_Phrase], last: Noun | None) -> None:
        for phrase in phrases:
            match = self._copula.match(sentence.text, phrase.end)
            if match:
                color = self.words.colors[match["color"].lower()]
                sentence.say(
                    ClaimType.ATTRIBUTE, phrase.noun, (phrase.start, match.end()), color, negated=bool(match["not"])
                )
        for match in self._pronoun.finditer(sentence.text):
            before = [p.noun for p in phrases if p.end <= match.start()]
            meant = before[-1] if before else last
            if meant is not None:
                sentence.say(
                    ClaimType.ATTRIBUTE,
                    meant,
                    match.span(),
                    self.words.colors[match["color"].lower()],
                    negated=bool(match["not"]),
                )

    def _read_presence(self, sentence: _Sentence, phrase: _Phrase) -> None:
        span = (phrase.start, phrase.end)
        negated = phrase.negated or (sentence.negated and not phrase.definite)
        thing = Noun(phrase.noun.name)
        if negated:
            if phrase.noun.attributes:
                for color in phrase.noun.attributes:
                    sentence.say(ClaimType.ATTRIBUTE, thing, span, color, negated=True)
            else:
                sentence.say(ClaimType.OBJECT, thing, span, negated=True)
            return
        sentence.say(ClaimType.OBJECT, thing, span)
        for color in phrase.noun.attributes:
            sentence.say(ClaimType.ATTRIBUTE, thing, span, color)
        if phrase.number is not None:
            sentence.say(ClaimType.COUNT, phrase.noun, span, str(phrase.number))


_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
_NEGATION = re.compile(r"\b(?:is|are|does|do|was|were|can)(?:n't| not)\b|\bwithout\b|\bno sign of\b", re.IGNORECASE)
_SAYS = re.compile(
    r"\b(?:the|a|an|this)?\s*(?P<what>stop sign|sign|text|label|word|poster|billboard|banner)s?\s+"
    r"(?:that\s+|which\s+)?(?P<not>does not\s+|doesn't\s+)?(?:says?|reads?|saying|reading|shows? the word|with the words?)\s+"
    r"(?:[\"'“‘«](?P<quoted>[^\"'”’»]{1,200})[\"'”’»]|(?P<bare>(?-i:[A-Z0-9][A-Z0-9&'-]*(?:\s+[A-Z0-9][A-Z0-9&'-]*)*)))",
    re.IGNORECASE,
)


def _sentences(text: str, hedges: frozenset[str]) -> Iterator[_Sentence]:
    for match in _SENTENCE.finditer(text):
        words = set(re.findall(r"[a-z]+", match.group().lower()))
        yield _Sentence(match.group(), match.start(), bool(_NEGATION.search(match.group())), bool(words & hedges))
