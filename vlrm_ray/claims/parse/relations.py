"""Relations in a parsed sentence: prepositions between objects, places in the image, and verbs such as "wearing"."""

from typing import NamedTuple

from vlrm_ray.claims.function_words import IMAGE_NOUNS, IMAGE_REGIONS, REGION_NOUNS
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.clauses import Clauses
from vlrm_ray.claims.parse.nouns import NounFinder
from vlrm_ray.claims.parse.sentence import NOMINAL, SUBJECTS, Sentence

_PLACE_STARTS = frozenset({"on", "in", "at", "to", "toward", "towards", "from", "near", "the"})
_NEED_ARTICLE = frozenset({"top", "bottom", "front", "back", "far"})
_RELATION_TO_OBJECT = {"left_of": "left_of", "right_of": "right_of", "above": "on", "in_middle": "in"}
_RESTING = frozenset(
    {
        "sitting",
        "standing",
        "lying",
        "docked",
        "parked",
        "hanging",
        "leaning",
        "perched",
        "kneeling",
        "floating",
        "flying",
    }
)
_LOOKING = frozenset(
    {"looks", "look", "looking", "looked", "stares", "staring", "gazing", "gazes", "points", "pointing", "overlooking"}
)
_AIMING = frozenset({"aiming", "swinging", "swings", "smiling", "smiles", "laughing", "waving", "barking"})
_COVERED = frozenset({"dressed", "covered", "clad", "wrapped", "painted", "written", "made", "focused", "focusing", "interested", "engaged", "decorated", "involved", "participating"})  # fmt: skip
"""Words after which a preposition tells no place: any, "at", "in" and "on"."""
_OBJECTS = frozenset({"pobj", "dobj"})
"""Roles of a noun without a name that has a place of its own: "a man with a smile on his face"."""
_LAID = frozenset({"draped", "slung", "thrown", "spread", "folded", "poured", "drizzled", "sprinkled", "worn", "laid", "tossed", "wrapped", "pulled", "bent", "leaning", "leans", "bends", "bending"})  # fmt: skip
"""Words after which "over" does not mean above."""
_GARMENTS = frozenset({"shirt", "t-shirt", "dress", "jacket", "sweater", "hoodie", "vest", "blouse", "top", "jeans", "pants", "suit", "uniform", "leggings", "coat", "undershirt", "turtleneck", "shorts", "skirt", "clothes", "clothing"})  # fmt: skip
_DEMONSTRATIVES = frozenset({"that", "this", "those", "these", "which", "whom"})
_BOARDING = frozenset({"get", "gets", "getting", "got", "hop", "hops", "hopping"})
_INTENDING = frozenset({"about", "going", "ready", "trying", "tries", "preparing", "prepares", "attempting", "attempts", "waiting", "waits", "wants", "wanting", "starting", "poised", "set", "learning"})  # fmt: skip
_JOINTS = frozenset({"and", "or", "but", "comma", "close_bracket", "clause_break"})


class Place(NamedTuple):
    """A preposition with what it relates.

    Attributes:
        values: relations; several for "in the top left corner".
        first: index of its first word.
        last: index of its last word.
        object: head of the noun phrase, or index of the pronoun, that it relates to; -1 for the image.
        subjects: the noun phrases that are there.
    """

    values: tuple[str, ...]
    first: int
    last: int
    object: int
    subjects: list[NounPhrase]


class PlaceFinder:
    """Finds the places of a sentence."""

    def __init__(self, sentence: Sentence, nouns: NounFinder, clauses: Clauses, taken: frozenset[int]) -> None:
        self.sentence, self.nouns, self.clauses, self.taken = sentence, nouns, clauses, taken
        self.places: list[Place] = []
        i = 0
        while i < len(sentence):
            i = (i not in taken and (self._region(i) or self._relation(i))) or i + 1

    def _relation(self, i: int) -> int | None:
        """Read a preposition of the lexicon at word `i`; returns the next index."""
        s = self.sentence
        size, entry = s.phrases.get(i, (1, s.entry(i)))
        last = i + size - 1
        if entry.kind != "relation" or s.inside[i] != i or s.tags[i] == "RP" or s.deps[last] == "agent":
            return None
        if self._is_not_yet(i, entry.value):
            return None
        if i - 1 in self.taken:
            return None  # "in white letters" and "on its roof" after the text tell how or where it is written
        if size == 1 and (s.deps[i] in ("mark", "prt", "quantmod", "cc") or self._follows_action(i, entry.value)):
            return None
        target = self._object(last + 1)
        if target is None or (entry.value == "around" and s.tags[last + 1] == "CD"):
            return None
        if (entry.value == "at" and self._is_aimed(i)) or (entry.value == "in" and self._is_color(target)):
            return None
        if s.lower[i] == "over" and self._is_laid(i, target):
            return None
        value = "against" if entry.value == "on" and i and s.entry(i - 1).attribute == "leaning" else entry.value
        self._add((value,), i, last, target)
        return last + 1

    def _is_not_yet(self, i: int, value: str) -> bool:
        """Whether a place is where something moves, or will be: "gets on the bus", "is about to land on the boat"."""
        s, verb = self.sentence, self.sentence.heads[i]
        if value not in ("on", "in") or not s.is_verb(verb):
            return False
        above = s.lower[s.heads[verb]]
        return s.lower[verb] in _BOARDING or (s.tags[verb] == "VB" and s.deps[verb] == "xcomp" and above in _INTENDING)

    def _follows_action(self, i: int, value: str) -> bool:
        """Whether a preposition belongs to a word that says nothing about a place: "looking at", "covered in"."""
        s, before = self.sentence, i - 1
        words = {s.lower[s.heads[i]]} if s.heads[i] >= i - 2 else set[str]()
        if i and (s.is_verb(before) or s.tags[before] == "JJ"):
            words.add(s.lower[before])
            is_action = s.entry(before).kind == "verb" and s.tags[before] != "VBN"
            if value == "at" and is_action and s.entry(before).attribute not in _RESTING:
                return True
        empty = _LOOKING | (_AIMING if value == "at" else _COVERED if value in ("in", "on") else frozenset())
        return not words.isdisjoint(empty)

    def _is_aimed(self, i: int) -> bool:
        """Whether "at" tells what an action is aimed at: "swings her racket at the ball"."""
        s, verb = self.sentence, self.sentence.heads[i]
        return (
            s.is_verb(verb)
            and bool(s.with_dep(verb, "dobj"))
            and s.entry(verb).kind not in ("activity", "relation_verb", "be")
            and not self.clauses.is_showing(verb)
        )

    def _is_laid(self, i: int, target: int) -> bool:
        """Whether "over" says that something lies on or around a thing: "draped over a chair", "over a white shirt"."""
        s, phrase = self.sentence, self.nouns.at.get(target)
        is_worn = phrase is not None and phrase.name.rpartition(" ")[2] in _GARMENTS
        return is_worn or not _LAID.isdisjoint((s.lower[i - 1] if i else "", s.lower[s.heads[i]]))

    def _is_color(self, head: int) -> bool:
        s = self.sentence
        return (
            self.nouns.at.get(head) is not None
            and self.nouns.at[head].bare
            and s.entry(head).attribute in s.lexicon.colors
        )

    def _object(self, i: int) -> int | None:
        """Head of the noun phrase, or the pronoun, that starts at word `i`."""
        s = self.sentence
        head = self.nouns.starting_at(i)
        if head is not None:
            end = head + 1
            if end + 1 < len(s) and s.entry(end).kind == "genitive" and s.heads[head] in self.nouns.at:
                return s.heads[head]
            return head
        while (
            i < len(s)
            and not self.clauses.pronoun_class(i)
            and s.tags[i] in ("RB", "PRP$", "DT")
            and s.tags[min(i + 1, len(s) - 1)] not in ("IN",)
        ):
            i += 1
            if i in self.nouns.starting:
                return self.nouns.starting[i]
        return i if i < len(s) and self.clauses.pronoun_class(i) else None

    def _region(self, i: int) -> int | None:
        """Read a place in the image, or a side of an object, at word `i`; returns the next index."""
        s = self.sentence
        if s.lower[i] not in _PLACE_STARTS or (s.inside[i] != i):
            return None
        at = i + (s.lower[i] != "the")
        has_article = at < len(s) and s.lower[at] == "the"
        at += has_article
        if not has_article and i and s.lower[i] == "to" and s.lower[i - 1] in IMAGE_REGIONS:
            return self._region_words(at)[1]  # "from left to right"
        if at + 1 < len(s) and s.tags[at] == "PRP$" and s.lower[at + 1] in IMAGE_REGIONS:
            return self._region_words(at + 1)[1]  # "on its left"
        if at + 1 < len(s) and s.lower[at] in IMAGE_NOUNS and s.entry(at + 1).kind == "genitive":
            at += 2
        values, end = self._region_words(at)
        if not values or (not has_article and (s.lower[i] == "from" or s.lower[at] in _NEED_ARTICLE)):
            return None
        if end < len(s) and s.tags[end] in ("NN", "NNS", "JJ") and s.lower[end - 1] != "of":
            return None
        if end < len(s) and s.lower[end] == "of":
            noun = end + 1
            head = self.nouns.starting_at(noun)
            target = head if head is not None else self._object(noun)
            if target is None and noun < len(s) and s.lower[noun] in _DEMONSTRATIVES:
                return end + 1  # "to the left of that"
            if target is not None and s.lower[target] not in IMAGE_NOUNS:
                value = _RELATION_TO_OBJECT.get(values[0], "") if len(values) == 1 else ""
                if value:
                    self._add((value,), i, end, target)
                return end + 1
            end = (target or noun) + 1
        named = tuple(filter(None, dict.fromkeys(values)))
        if named:
            self._add(named, i, end - 1, -1)
        return end

    def _region_words(self, i: int) -> tuple[list[str], int]:
        s, values = self.sentence, list[str]()
        while i < len(s):
            parts = s.lower[i].split("-")
            if s.lower[i] in IMAGE_REGIONS or all(p in IMAGE_REGIONS for p in parts):
                values += [IMAGE_REGIONS[p] for p in ([s.lower[i]] if s.lower[i] in IMAGE_REGIONS else parts)]
            elif (not (s.lower[i] in REGION_NOUNS and values) and s.lower[i] not in ("and", "very", "immediate")) or (
                s.lower[i] == "and" and (i + 1 >= len(s) or s.lower[i + 1] not in IMAGE_REGIONS)
            ):
                break
            i += 1
        return values, i

    def _add(self, values: tuple[str, ...], first: int, last: int, target: int) -> None:
        subjects = self._subjects(first, last)
        self.places.append(Place(values, first, last, target, subjects))

    def _subjects(self, first: int, last: int) -> list[NounPhrase]:
        """What is at a place: the noun phrase right before it, else what the parse attaches it to."""
        s = self.sentence
        before = first - 1
        if self._is_inverted(before, last):
            head = self.nouns.starting_at(last + 3)
            return self.clauses.phrases(head) if head is not None else []
        while before > 0 and s.tags[before] == "RB" and s.entry(before).kind in ("adverb", "word", "vague"):
            before -= 1
        head = self.nouns.ending_at(before) if before >= 0 else None
        if head is not None and head not in self.taken:
            return self._after_noun(head, first)
        is_pronoun = before >= 0 and s.entry(before).kind == "pronoun" and s.deps[before] not in SUBJECTS
        if is_pronoun and (found := self.clauses.phrases(before)):
            return found
        attached = self._attachment(first, last)
        if before >= 0 and s.entry(before).kind in _JOINTS:
            return self._after_joint(first, attached)
        if before >= 0 and s.is_verb(before) and s.entry(before).kind != "be":
            subjects = self.clauses.subjects(before)
            if subjects:
                return subjects
        return self._of_attachment(attached, first)

    def _is_inverted(self, before: int, last: int) -> bool:
        """Whether the subject follows the verb: "under it is a dog", but not "the cat lying under it is a tabby"."""
        s = self.sentence
        has_subject = before in self.nouns.at or (before > 0 and s.is_verb(before))
        if has_subject or last + 2 >= len(s):
            return False
        return bool(self.clauses.pronoun_class(last + 1)) and s.entry(last + 2).kind == "be"

    def _after_noun(self, head: int, first: int) -> list[NounPhrase]:
        """ "A cup on a table": the noun right before, or the whole that it is part of in "a plate of pasta"."""
        s = self.sentence
        attached = self._attachment(first, first)
        while s.deps[head] == "pobj" and s.lower[s.heads[head]] == "of" and attached != head:
            above = s.heads[s.heads[head]]
            if above not in self.nouns.at:
                break
            head = above
        if not self.nouns.at[head].name:
            is_thing = attached == head and s.tags[head] in NOMINAL and not s.entry(head).attribute
            is_thing = is_thing and s.lower[head] not in IMAGE_NOUNS and s.lower[head] not in IMAGE_REGIONS
            return [] if is_thing and s.deps[head] in _OBJECTS else self._of_attachment(attached, first)
        if s.entry(first).value == "next_to" and (beside := self._beside(head)):
            return beside
        if s.deps[head] in SUBJECTS and s.heads[head] == attached and head > attached:
            return self.clauses.phrases(head)
        return self.clauses.pair_or_last(head)

    def _beside(self, head: int) -> list[NounPhrase]:
        """The laptop in "a laptop sits on the desk next to a cup": what the verb's place is said of is next to the cup, too."""
        s = self.sentence
        verb = s.heads[s.heads[head]]
        is_place = s.deps[head] == "pobj" and s.entry(s.heads[head]).kind == "relation"
        if (
            not is_place
            or s.tags[verb] not in ("VBZ", "VBP", "VBD")
            or (self.clauses.is_showing(verb) and s.with_dep(verb, "expl"))
        ):
            return []
        return self.clauses.subjects(verb)

    def _attachment(self, first: int, last: int) -> int:
        """The word above the preposition that is outside of it."""
        s, above = self.sentence, first
        for _ in range(4):
            above = s.heads[above]
            if not first <= above <= last:
                return above
        return above

    def _after_joint(self, first: int, attached: int) -> list[NounPhrase]:
        """After "and" or a comma a place describes the subject: "is left of the circle and above the square"."""
        for place in reversed(self.places):
            if place.first <= attached <= place.last and place.subjects:
                return place.subjects
        return self._of_attachment(attached, first, climb=True)

    def _of_attachment(self, attached: int, first: int, *, climb: bool = False) -> list[NounPhrase]:
        s = self.sentence
        for _ in range(6):
            if attached in self.nouns.at and not (climb and s.deps[attached] == "pobj"):
                if (
                    climb
                    and s.deps[attached] == "dobj"
                    and not self.clauses.is_showing(s.heads[attached])
                    and s.is_verb(s.heads[attached])
                ):
                    attached = s.heads[attached]
                    continue
                if self.nouns.at[attached].name:
                    return self.clauses.phrases(attached) if attached > first else self.clauses.pair_or_last(attached)
            elif s.is_verb(attached) or s.tags[attached] in ("MD", "JJ"):
                return self._of_verb(attached, first)
            if s.heads[attached] == attached:
                return self._of_verb(attached, first)
            attached = s.heads[attached]
        return []

    def _of_verb(self, verb: int, first: int) -> list[NounPhrase]:
        s = self.sentence
        if self.clauses.is_showing(verb):
            objects = [
                c
                for c in s.children(verb)
                if s.deps[c] in ("attr", "dobj", "nsubj") and c in self.nouns.at and c > verb and self.nouns.at[c].name
            ]
            if objects:
                return self.clauses.phrases(objects[0])
            if s.deps[verb] in ("ROOT", "conj") and (found := self.clauses.subjects(verb)):
                return found if not any(c in self.nouns.at and c > verb for c in s.with_dep(verb, "dobj")) else []
        subjects = self.clauses.subjects(verb)
        if not subjects and s.deps[verb] == "ROOT":
            after = [
                h
                for h in self.nouns.order
                if h > first and self.nouns.at[h].name and s.deps[h] in ("nsubj", "nsubjpass", "attr", "dobj", "ROOT")
            ]
            return self.clauses.phrases(after[0]) if after else []
        return subjects
