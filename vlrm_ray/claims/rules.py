"""Claims by rules: offline, deterministic, fast enough to be free beside the experts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from vlrm_ray.claims import lexicon
from vlrm_ray.claims.phrases import PhraseReader
from vlrm_ray.claims.questions import Asked, asked, of_sentence
from vlrm_ray.claims.reader import Reader
from vlrm_ray.claims.tokens import Token, sentences
from vlrm_ray.types import Claim, ClaimType, Noun

MAX_CHARACTERS = 20_000
"""A response is read up to here; nobody checks a longer one claim by claim."""
_AFTER_ANSWER = frozenset({"comma", "end", "colon", "break"})
_PLAIN = frozenset({"word", "quote", "number", "content", "unseen", "vague"})


class RuleExtractor:
    """The rule-based extractor; a text that comes again is not read again."""

    def __init__(self, words: lexicon.Lexicon | None = None) -> None:
        self.words = words or lexicon.load()
        self.phrases = PhraseReader(self.words)
        self._asked = lru_cache(maxsize=4096)(self._understand)
        self._known = lru_cache(maxsize=4096)(self._read)

    def __reduce__(self) -> tuple[object, ...]:
        """Travels to workers without its memory."""
        return RuleExtractor, () if self.words is lexicon.load() else (self.words,)

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """See `Extractor`."""
        return self._known(response[:MAX_CHARACTERS], question[:MAX_CHARACTERS])

    def many(self, responses: Sequence[tuple[str, str]]) -> list[tuple[Claim, ...]]:
        """See `Extractor`."""
        return [self.claims(*pair) for pair in responses]

    def _understand(self, question: str) -> Asked:
        return asked(question, self.words, self.phrases)

    def _read(self, response: str, question: str) -> tuple[Claim, ...]:
        question_ = self._asked(question) if question else Asked()
        reader = Reader(self.words, self.phrases, question_.about)
        for sentence in sentences(response, self.words):
            if sentence[-1].entry.value == "?":
                question_ = of_sentence(sentence, self.words, self.phrases)
                reader.turn_to(question_.about)
                continue
            rest = self._answer(sentence, question_, reader)
            if rest is not sentence:
                question_ = Asked(about=question_.about)
            reader.sentence(rest)
        return reader.found.listed()

    def _answer(self, sentence: list[Token], question: Asked, reader: Reader) -> list[Token]:
        """Take in a leading yes or no, or words that were asked for; gives what is left to read."""
        label = 2 if len(sentence) > 2 and sentence[1].entry.kind == "colon" and not sentence[0].entry.noun else 0
        first, following = sentence[label], sentence[min(label + 1, len(sentence) - 1)]
        word = first.text.lower()
        if word == "yes" or (word == "no" and following.entry.kind in _AFTER_ANSWER):
            for claim in question.answered(yes=word == "yes"):
                reader.found.claims.append(replace(claim, span=(first.start, first.end)))
            return sentence[label + 1 :]
        if question.reads and all(t.entry.kind in _PLAIN for t in sentence[label:-1]):
            text = " ".join(t.text for t in sentence[label:-1])
            about = question.about[0].name if question.about else "text"
            reader.found.say(ClaimType.TEXT, Noun(about), (first.start, sentence[-1].start), text)
            return sentence[-1:]
        return sentence
