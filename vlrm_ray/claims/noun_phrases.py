"""Noun phrases: "the two red circles", "no large windows", "a slice of pizza"."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from vlrm_ray.claims.function_words import IMAGE_REGIONS
from vlrm_ray.claims.lexicon import Lexicon, singular_of
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import Noun


@dataclass(slots=True)
class NounPhrase:
    """A noun phrase and its place in the response.

    Attributes:
        name: canonical singular head noun with its noun modifiers; empty if no expert can check it.
        start: first character in the response; -1 if only the question names it.
        end: character after the last one.
        next_index: index of the token after the phrase.
        attributes: canonical attributes that its adjectives state.
        colors: those attributes that are colors; they tell which object of that name is meant.
        number: the stated number; None for "a circle", "some circles".
        approximate: the number is approximate ("about ten").
        single: the number is "a single", so "not a single dog" denies that there is one.
        definite: it refers to something known to exist ("the circle").
        negated: it denies that such an object exists ("no circle").
        hedged: it leaves open whether such an object exists ("perhaps a circle").
        plural: the head noun is a plural.
        bare: one noun without a determiner or attributes.
        partial: it may name only some of the objects that were mentioned ("they", after "a circle and a square").
        place: it tells where something else is ("the couch" in "a cat on the couch").
        quoted_text: quoted words before the noun ("a "STOP" sign").
    """

    name: str
    start: int
    end: int
    next_index: int = 0
    attributes: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    number: int | None = None
    approximate: bool = False
    single: bool = False
    definite: bool = False
    negated: bool = False
    hedged: bool = False
    plural: bool = False
    bare: bool = False
    partial: bool = False
    place: bool = False
    quoted_text: str = ""

    @property
    def noun(self) -> Noun:
        """The noun as claims name it, with its colors."""
        return Noun(self.name, self.colors)


_NEAR = 150
"""Characters between a place and what is at it, at most."""


def spoken_of(nearest: NounPhrase, mentioned: Iterable[NounPhrase], excluded: Container[str]) -> NounPhrase:
    """What "it" or "they" refers to: of "a cat is on the couch", the cat rather than the couch.

    Args:
        nearest: the nearest noun phrase that agrees with the pronoun.
        mentioned: noun phrases that were mentioned, the latest first.
        excluded: names that "it" does not refer to.

    Returns:
        `nearest`, or if that only tells where something is, a phrase shortly before it that does not.
    """
    if not nearest.place:
        return nearest
    for phrase in mentioned:
        is_near = 0 <= nearest.start - phrase.start < _NEAR
        agrees = phrase.plural if nearest.plural else not (phrase.plural or phrase.name in excluded)
        if is_near and agrees and phrase.name and not phrase.place:
            return phrase
    return nearest


_INSIDE_PHRASE = frozenset({"content", "uncheckable", "vague", "word", "adverb"})
_MAX_TOKENS = 8
"""Most determiners, modifiers or nouns of one phrase. Longer chains are not English; the limit bounds the running time."""
_ADJECTIVE_ENDINGS = (
    "ful", "ous", "ive", "able", "ible", "less", "ish", "ic", "ical", "ary", "ant", "ent", "ed", "ing", "est", "ly", "ese", "ern", "ian", "ean", "can",
)  # fmt: skip
_SINGULAR_DETERMINERS = frozenset({"a", "an", "one", "this", "that", "each", "every", "another", "single"})
_PAIR = frozenset({"a pair of", "pair of"})
_BOTH = frozenset({"both", "both of the"})
_FURTHER = frozenset({"other", "the other", "another", "additional", "further", "extra", "remaining"})
"""Words beside which a number does not count all objects of a name: "two other people"."""
_BEFORE_NUMBERS = frozenset(
    {"at least", "more than", "less than", "fewer than", "up to", "at most", "no more than", "not more than"}
)


def parse_noun_phrase(tokens: Sequence[Token], i: int, lexicon: Lexicon, *, loose: bool = False) -> NounPhrase | None:
    """Parse the noun phrase that starts at a token.

    Args:
        tokens: a sentence, closed by a token of kind `end`.
        i: index of the first token of the phrase.
        lexicon: nouns, colors and attributes.
        loose: accept an unknown word as a noun even without a determiner or attribute before it.

    Returns:
        The phrase, or None if none starts here.
    """
    phrase = NounPhrase("", tokens[i].start, tokens[i].end)
    first = i
    i, single = _read_determiners(tokens, i, phrase)
    has_determiner = i > first
    attributes, i = _read_modifiers(tokens, i, phrase, has_determiner or loose)
    nouns, i = _read_nouns(
        tokens, i, lexicon, single=single, accept_unknown=has_determiner or loose or bool(attributes)
    )
    if not nouns:
        return None
    phrase.bare = not has_determiner and not attributes and len(nouns) == 1
    if attributes:
        phrase.attributes = tuple(dict.fromkeys(attributes))
        phrase.colors = tuple([a for a in phrase.attributes if a in lexicon.colors])
    _set_name(nouns, phrase, lexicon)
    is_joined = i < len(tokens) and tokens[i].entry.kind == "and"  # "both cats and dogs"
    if phrase.plural and phrase.number is None and tokens[first].text.lower() in _BOTH and not is_joined:
        phrase.number = 2
    phrase.next_index, phrase.end = i, tokens[i - 1].end
    if phrase.name == "glass" and tokens[first].text.lower() in _PAIR:
        phrase.name = "glasses"
    if phrase.name in lexicon.pairs or any(t.text.lower() in _FURTHER for t in tokens[first:i]):
        phrase.number = None
    return phrase


def _read_determiners(tokens: Sequence[Token], i: int, phrase: NounPhrase) -> tuple[int, bool]:
    """Read articles, numbers and amounts into the phrase; returns the next index and whether they are singular."""
    single, last = False, i + _MAX_TOKENS
    while True:
        token = tokens[i]
        kind, value = token.entry.kind, token.entry.value
        if kind == "determiner":
            phrase.definite = phrase.definite or value == "definite"
            phrase.hedged = phrase.hedged or value == "open"
            single = token.text.lower() in _SINGULAR_DETERMINERS
        elif kind == "number":
            phrase.number = int(value) if int(value) >= 0 else None
            single = phrase.number == 1
            phrase.single = "single" in token.text.lower()
            if tokens[i + 1].entry.kind == "or" and tokens[i + 2].entry.kind == "number":  # "two or three"
                phrase.number = None
                i += 2
            if phrase.number == 0:
                phrase.negated, phrase.number = True, None
        elif kind == "negator" and value == "determiner":
            phrase.negated = True
        elif kind == "approximate" and value == "or so" and phrase.number is not None:
            phrase.approximate = True
        elif kind == "approximate" and tokens[i + 1].entry.kind in ("number", "determiner"):
            phrase.approximate = not value
            if value and tokens[i + 1].text.lower() in ("a", "an"):
                phrase.number = 1
        elif kind not in ("amount", "adverb") or (kind == "adverb" and tokens[i + 1].entry.kind == "end"):
            return i, single
        if i >= last:
            return i, single
        if token.text.lower() in _BEFORE_NUMBERS:
            i += tokens[i + 1].entry.kind == "number"
        i += 1


def _read_modifiers(tokens: Sequence[Token], i: int, phrase: NounPhrase, has_determiner: bool) -> tuple[list[str], int]:
    """Read what stands before the noun; returns the attributes and the next index."""
    attributes: list[str] = []
    last = i + _MAX_TOKENS
    while True:
        token, entry = tokens[i], tokens[i].entry
        following = tokens[i + 1].entry if i + 1 < len(tokens) else entry
        continues = (
            following.kind in _INSIDE_PHRASE
            or bool(following.noun)
            or (following.kind == "activity" and not entry.noun)
        )
        if (
            entry.attribute
            and entry.kind in ("content", "activity", "uncheckable")
            and (continues or _is_coordinated(tokens, i))
        ):
            attributes.append(entry.attribute)
        elif entry.kind in ("vague", "adverb") and continues:
            pass
        elif entry.kind == "quote" and has_determiner and continues:
            phrase.quoted_text = token.text
        elif not _is_filler(tokens, i, attributes, inside=has_determiner and continues):
            return attributes, i
        i += 1
        if i >= last:
            return attributes, i


def _is_filler(tokens: Sequence[Token], i: int, attributes: list[str], *, inside: bool) -> bool:
    """Whether a token adds nothing to its phrase: "the left dog", "a barking dog", the "and" between two colors."""
    kind = tokens[i].entry.kind
    if kind in ("and", "comma"):
        return bool(attributes) and _is_coordinated(tokens, i - 1)
    if kind == "uncheckable":
        return tokens[i].text.lower() in IMAGE_REGIONS and tokens[i + 1].entry.kind == "content"
    return kind == "word" and inside and _is_adjective(tokens, i, attributes)


def _is_coordinated(tokens: Sequence[Token], i: int) -> bool:
    """Whether an attribute is coordinated with another one before the noun: "red and white umbrella"."""
    for joint in range(i + 1, min(i + _MAX_TOKENS, len(tokens) - 2), 2):
        following = tokens[joint + 1].entry
        if tokens[joint].entry.kind not in ("and", "comma") or not following.attribute or following.kind != "content":
            return False
        if tokens[joint + 2].entry.kind in _INSIDE_PHRASE:
            return True
    return False


def _is_adjective(tokens: Sequence[Token], i: int, attributes: list[str]) -> bool:
    """Whether an unknown word is an adjective. A capitalised one, such as a brand, is added to the attributes."""
    text = tokens[i].text
    if text[0].isupper() and i > 0 and not text.endswith(("an", "ish", "ese")):  # not "Italian"
        attributes.append(text)
        return True
    return text.lower().endswith(_ADJECTIVE_ENDINGS)


def _read_nouns(
    tokens: Sequence[Token], i: int, lexicon: Lexicon, *, single: bool, accept_unknown: bool
) -> tuple[list[Token], int]:
    """Read the head noun and the nouns that modify it; returns their tokens and the next index."""
    nouns: list[Token] = []
    while len(nouns) < _MAX_TOKENS:
        token, entry = tokens[i], tokens[i].entry
        if entry.noun or entry.kind == "uncheckable":
            is_color = entry.noun in lexicon.colors  # "the star orange"
            if nouns and (nouns[-1].entry.plural or entry.kind in ("activity", "relation_verb") or is_color):
                break
        elif entry.kind != "word" or not accept_unknown or _is_verb(tokens, i, nouns, single):
            break
        nouns.append(token)
        i += 1
    return nouns, i


def _is_verb(tokens: Sequence[Token], i: int, nouns: list[Token], single: bool) -> bool:
    """Whether an unknown word after the nouns read so far is a verb or adverb."""
    word = tokens[i].text.lower()
    if word.endswith(("ing", "ly", "ed")) and (nouns or word.endswith("ly")):
        return True
    following = tokens[i + 1]
    if not nouns:
        return word.endswith("ed") and following.entry.kind not in _INSIDE_PHRASE
    object_follows = following.entry.kind in ("determiner", "number", "pronoun")
    return nouns[-1].entry.plural or object_follows or (single and word.endswith("s") and not word.endswith("ss"))


def _set_name(nouns: list[Token], phrase: NounPhrase, lexicon: Lexicon) -> None:
    """Set the name and number of the phrase from its nouns; the name stays empty for an uncheckable noun."""
    head = nouns[-1]
    if head.entry.kind == "uncheckable" and not head.entry.noun:
        return
    noun, phrase.plural = head.entry.noun, head.entry.plural
    if not noun:
        noun, phrase.plural = singular_of(head.text.lower())
    # Unknown words are dropped before a known noun: a "handwritten sign" is a sign. Known nouns are kept: "kitchen counter".
    modifiers = [t.entry.noun or t.text.lower() for t in nouns[:-1] if t.entry.noun or not head.entry.noun]
    phrase.name = lexicon.canonical(" ".join((*modifiers, noun)))
