"""Noun phrases: "the two red circles", "no large windows", "a slice of pizza"."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlrm_ray.claims.grammar import PLACES
from vlrm_ray.claims.lexicon import Lexicon, singular_of
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import Noun


@dataclass(slots=True)
class Phrase:
    """A noun phrase at its place in the response.

    Attributes:
        name: singular head noun with its noun modifiers; empty for what nobody can look for.
        attributes: what its adjectives say, canonical.
        colors: those of them that pick out which one is meant.
        number: the number it insists on; "a circle" insists on none.
        approximate: "about ten".
        definite: it speaks of something known to be there.
        negated: it says that there is none.
        hedged: it leaves open whether there is one.
        words: quoted words that stand before the noun ("a "STOP" sign").
        after: index of the token behind it.
    """

    name: str
    start: int
    end: int
    after: int = 0
    attributes: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    number: int | None = None
    approximate: bool = False
    definite: bool = False
    negated: bool = False
    hedged: bool = False
    plural: bool = False
    bare: bool = False
    words: str = ""

    @property
    def noun(self) -> Noun:
        """As claims name it."""
        return Noun(self.name, self.colors)


_INSIDE = frozenset({"content", "unseen", "vague", "word", "adverb"})
_LONGEST = 8
"""Determiners, adjectives or nouns in one phrase; a longer chain is no English, and must not cost time."""
_ADJECTIVE = (
    "ful", "ous", "ive", "able", "ible", "less", "ish", "ic", "ical", "ary", "ant", "ent", "ed", "ing", "est", "ly", "ese", "ern", "ian", "ean", "can",
)  # fmt: skip
_ONE = frozenset({"a", "an", "one", "this", "that", "each", "every", "another", "single"})


class PhraseReader:
    """Reads the noun phrase that begins at a token, if one does."""

    def __init__(self, words: Lexicon) -> None:
        self.words = words

    def read(self, tokens: Sequence[Token], at: int, *, loose: bool = False) -> Phrase | None:
        """The phrase at `at`; `loose` admits unknown words that nothing announces."""
        phrase = Phrase("", tokens[at].start, tokens[at].end)
        begin = at
        at, single = self._determiners(tokens, at, phrase)
        announced = at > begin
        attributes, at = self._modifiers(tokens, at, phrase, announced or loose)
        run, at = self._nouns(tokens, at, single, announced or loose or bool(attributes))
        if not run:
            return None
        phrase.bare = not announced and not attributes and len(run) == 1
        phrase.attributes = tuple(dict.fromkeys(attributes))
        phrase.colors = tuple(a for a in phrase.attributes if a in self.words.colors)
        self._name(run, phrase)
        phrase.after, phrase.end = at, tokens[at - 1].end
        if phrase.name in self.words.pairs:
            phrase.number = None
        return phrase

    def _determiners(self, tokens: Sequence[Token], at: int, phrase: Phrase) -> tuple[int, bool]:
        """Step over articles, numbers and amounts; whether they announce one thing only."""
        single, last = False, at + _LONGEST
        while True:
            token = tokens[at]
            kind, value = token.entry.kind, token.entry.value
            if kind == "determiner":
                phrase.definite = phrase.definite or value == "definite"
                single = token.text.lower() in _ONE
            elif kind == "number":
                phrase.number = int(value) if int(value) >= 0 else None
                single = phrase.number == 1
                if tokens[at + 1].entry.kind == "or" and tokens[at + 2].entry.kind == "number":  # "two or three"
                    phrase.number = None
                    at += 2
                if phrase.number == 0:
                    phrase.negated, phrase.number = True, None
            elif kind == "none" and value == "determiner":
                phrase.negated = True
            elif kind == "approximate" and tokens[at + 1].entry.kind in ("number", "determiner"):
                phrase.approximate = not value
                if value and tokens[at + 1].text.lower() in ("a", "an"):
                    phrase.number = 1
            elif kind not in ("amount", "adverb") or (kind == "adverb" and tokens[at + 1].entry.kind == "end"):
                return at, single
            if at >= last:
                return at, single
            if token.text.lower() in ("at least", "more than", "less than", "fewer than", "up to"):
                at += tokens[at + 1].entry.kind == "number"
            at += 1

    def _modifiers(self, tokens: Sequence[Token], at: int, phrase: Phrase, announced: bool) -> tuple[list[str], int]:
        """Step over what stands before the noun; gives the attributes among it."""
        found: list[str] = []
        last = at + _LONGEST
        while True:
            token, entry = tokens[at], tokens[at].entry
            following = tokens[at + 1].entry if at + 1 < len(tokens) else entry
            continues = (
                following.kind in _INSIDE or bool(following.noun) or (following.kind == "state" and not entry.noun)
            )
            if (
                entry.attribute
                and entry.kind in ("content", "state", "unseen")
                and (continues or self._listed(tokens, at))
            ):
                found.append(entry.attribute)
            elif entry.kind in ("vague", "adverb") and continues:
                pass
            elif entry.kind == "quote" and announced and continues:
                phrase.words = token.text
            elif not self._is_filler(tokens, at, found, inside=announced and continues):
                return found, at
            at += 1
            if at >= last:
                return found, at

    def _is_filler(self, tokens: Sequence[Token], at: int, found: list[str], *, inside: bool) -> bool:
        """Whether a token inside a phrase adds nothing to it: "the left dog", "a barking dog", the "and" of two colours."""
        kind = tokens[at].entry.kind
        if kind in ("and", "comma"):
            return bool(found) and self._listed(tokens, at - 1)
        if kind == "unseen":
            return tokens[at].text.lower() in PLACES and tokens[at + 1].entry.kind == "content"
        return kind == "word" and inside and self._is_adjective(tokens, at, found)

    def _listed(self, tokens: Sequence[Token], at: int) -> bool:
        """Whether an attribute is followed by another one before the noun: "red and white umbrella"."""
        for joint in range(at + 1, min(at + _LONGEST, len(tokens) - 2), 2):
            value = tokens[joint + 1].entry
            if tokens[joint].entry.kind not in ("and", "comma") or not value.attribute or value.kind != "content":
                return False
            if tokens[joint + 2].entry.kind in _INSIDE:
                return True
        return False

    def _is_adjective(self, tokens: Sequence[Token], at: int, found: list[str]) -> bool:
        """Whether an unknown word before others is none of the noun's; a brand becomes an attribute."""
        text = tokens[at].text
        if text[0].isupper() and at > 0 and not text.endswith(("an", "ish", "ese")):  # not "Italian"
            found.append(text)
            return True
        return text.lower().endswith(_ADJECTIVE)

    def _nouns(self, tokens: Sequence[Token], at: int, single: bool, announced: bool) -> tuple[list[Token], int]:
        run: list[Token] = []
        while len(run) < _LONGEST:
            token, entry = tokens[at], tokens[at].entry
            if entry.noun or entry.kind == "unseen":
                if run and (run[-1].entry.plural or entry.kind in ("state", "link")):
                    break
            elif entry.kind != "word" or not announced or self._is_verb(tokens, at, run, single):
                break
            run.append(token)
            at += 1
        return run, at

    def _is_verb(self, tokens: Sequence[Token], at: int, run: list[Token], single: bool) -> bool:
        word = tokens[at].text.lower()
        if word.endswith(("ing", "ly", "ed")) and (run or word.endswith("ly")):
            return True
        following = tokens[at + 1]
        if not run:
            return word.endswith("ed") and following.entry.kind not in _INSIDE
        object_follows = following.entry.kind in ("determiner", "number", "pronoun")
        return run[-1].entry.plural or object_follows or (single and word.endswith("s") and not word.endswith("ss"))

    def _name(self, run: list[Token], phrase: Phrase) -> None:
        head = run[-1]
        if head.entry.kind == "unseen" and not head.entry.noun:
            return
        noun, phrase.plural = head.entry.noun, head.entry.plural
        if not noun:
            noun, phrase.plural = singular_of(head.text.lower())
        # a known noun needs no unknown word before it: a "handwritten sign" is a sign, a "kitchen counter" more than a counter
        before = [t.entry.noun or t.text.lower() for t in run[:-1] if t.entry.noun or not head.entry.noun]
        phrase.name = self.words.canonical(" ".join((*before, noun)))
