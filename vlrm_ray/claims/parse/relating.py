"""Relations that a sentence states: between objects, to places in the image, by verbs such as "wearing", and comparisons."""

from collections.abc import Sequence
from dataclasses import replace

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.mentions import SETTINGS
from vlrm_ray.claims.parse.reading import Reading
from vlrm_ray.claims.parse.relations import Place, PlaceFinder
from vlrm_ray.types import ClaimType

_ANOTHER = frozenset({"one", "another", "others"})
_WHOLES = frozenset({"nsubj", "nsubjpass", "dobj", "attr", "ROOT"})
"""Roles of a noun that a list after "with" may belong to."""


class Relating:
    """Adds the relations of a sentence."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.sentence, self.nouns, self.clauses = (
            reading,
            reading.sentence,
            reading.nouns,
            reading.clauses,
        )
        self.scope, self.claims, self.lexicon = reading.scope, reading.claims, reading.claims.lexicon

    def read_places(self) -> None:
        """Add the relations that prepositions state."""
        for place in PlaceFinder(self.sentence, self.nouns, self.clauses, self.reading.taken).places:
            self._add_place(place)

    def read_link(self, i: int) -> None:
        """Read word `i`, if it is a verb that relates its subject to its object."""
        s = self.sentence
        is_link = s.entry(i).kind == "relation_verb" and s.is_verb(i) and i not in self.nouns.at
        if not is_link or s.deps[i] in ("amod", "compound", "pcomp"):
            return
        subjects = [p for p in self.clauses.subjects(i) if p.name]
        if s.entry(i).value == "holding":
            subjects = [p for p in subjects if p.name in self.lexicon.animate or p.name not in self.lexicon.entries]
        objects = s.with_dep(i, "dobj")
        head = objects[0] if objects else self.nouns.starting_at(s.phrase_end(i))
        if head is None or any(s.deps[c] in ("agent", "auxpass") for c in s.children(i)):
            return
        if s.entry(i).value == "wearing":
            for phrase in self._objects(head, set()):
                phrase.name = "glasses" if phrase.name == "glass" else phrase.name
        others = self._objects(head, {p.name for p in subjects})
        others += [p for p in self._coordinated_after(head) if not any(p is o for o in others)]
        apart = [self.nouns.at[h] for h in self._conjuncts(head)[1:] if self.clauses.starts_another(h, verbal=True)]
        others = [p for p in others if not any(p is a for a in apart)]
        self._relate(subjects, (s.entry(i).value,), i, i, others)

    def _conjuncts(self, head: int) -> list[int]:
        return self.nouns.conjuncts(head) if head in self.nouns.at else [head]

    def _coordinated_after(self, head: int) -> list[NounPhrase]:
        """Phrases after "and" right behind an object: "wearing glasses and a striped tie". None that a verb follows."""
        s, found = self.sentence, list[NounPhrase]()
        while head + 1 < len(s) and s.entry(head + 1).kind in ("and", "comma") and head in self.nouns.at:
            start = (
                head + 1 + (s.entry(head + 1).kind == "comma" and head + 2 < len(s) and s.entry(head + 2).kind == "and")
            )
            following = self.nouns.starting.get(start + 1)
            if following is None:
                break
            after = following + 1
            if (after < len(s) and (s.is_verb(after) or s.tags[after] in ("MD", "WDT", "WP", "IN"))) or self.nouns.at[
                following
            ].negated:
                break
            found.append(self.nouns.at[following])
            head = following
        return (
            found
            if head + 1 >= len(s) or s.entry(head + 1).kind in ("end", "clause_break") or s.tags[head + 1] == "."
            else []
        )

    def _objects(self, i: int, excluded: set[str]) -> list[NounPhrase]:
        """The noun phrases that word `i` stands for as a second noun; a pronoun refers to none of the first ones."""
        s = self.sentence
        if i not in self.nouns.at and (pronoun := self.clauses.pronoun_class(i)):
            if pronoun == "each other":
                return []
            referent = self._whole(i, excluded) or self._referent(pronoun, i, excluded)
            return [replace(referent, start=s.words[i].start, end=s.words[i].end, definite=True)] if referent else []
        return self.clauses.phrases(i)

    def _referent(self, pronoun: str, i: int, excluded: set[str]) -> NounPhrase | None:
        """What a pronoun refers to. Of an earlier sentence, a thing that was spoken of rather than the place where it is."""
        here = self.reading.mentioned(i)
        found = self.reading.referent(pronoun, here, (*excluded, *self.reading.of_other_sex(i)))
        if found is None or any(found is p for p in here):
            return found
        found = self.reading.spoken_of(found, pronoun, i, self.lexicon.animate)
        return None if found.name in excluded else found

    def _whole(self, i: int, excluded: set[str]) -> NounPhrase | None:
        """What has the subjects, for the pronoun in "a desk with a lamp and a mouse on it"."""
        s, nouns = self.sentence, self.nouns
        for head in reversed(nouns.order):
            if head >= i or nouns.at[head].name not in excluded:
                continue
            while s.deps[head] in ("conj", "appos") and s.heads[head] in nouns.at:
                head = s.heads[head]
            above = s.heads[s.heads[head]]
            if (
                s.deps[head] == "pobj"
                and s.lower[s.heads[head]] == "with"
                and above in nouns.at
                and nouns.at[above].name not in excluded
            ):
                return nouns.at[above]
            return self._before_list(i)
        return None

    def _before_list(self, i: int) -> NounPhrase | None:
        """What has the things of a list, for "it": the blanket in "a blanket lies here, with cups, a bottle of milk and plates on it"."""
        s = self.sentence
        opening = next((j for j in range(i - 1, 0, -1) if s.lower[j] == "with"), 0)
        is_list = opening and not any(s.is_verb(j) for j in range(opening, i))
        if self.clauses.pronoun_class(i) != "it" or not is_list or not {"and", ","} & set(s.lower[opening:i]):
            return None
        for head in (h for h in self.nouns.order if h < opening and s.deps[h] in _WHOLES):
            phrase = self.nouns.at[head]
            if phrase.name and not (phrase.negated or phrase.plural or phrase.name in self.lexicon.animate):
                return phrase
        return None

    def _add_place(self, place: Place) -> None:
        subjects = [p for p in place.subjects if p.name and id(p) not in self.reading.compared]
        if place.object < 0:
            self._relate(subjects, place.values, place.first, place.last, [None])
            return
        before = self.nouns.at.get(place.first - 1)
        if before in subjects and id(before) in self.reading.none_of:
            return  # "none of the cars in the lot are red"
        names = {p.name for p in subjects}
        if place.object not in self.nouns.at and place.first and self.sentence.lower[place.first - 1] in _ANOTHER:
            return  # "a sign, and another one below it": "it" may be the first one
        objects = self._objects(place.object, names)
        if self._is_ambiguous(place.object, names):
            for phrase in subjects:
                phrase.hedged = phrase.hedged or phrase.negated
        if len(objects) > 1 and "between" not in place.values and not self._shares(place):
            objects = objects[:1]
        self._relate(subjects, place.values, place.first, place.last, [p for p in objects if p.name])

    def _is_ambiguous(self, i: int, subjects: set[str]) -> bool:
        """Whether a pronoun may refer to several things: "there is a plate on the table but no food on it"."""
        if i in self.nouns.at or self.clauses.pronoun_class(i) != "it":
            return False
        names = {p.name for p in self.reading.mentioned(i) if not p.plural and not p.hedged}
        return len(names - subjects) > 1

    def _shares(self, place: Place) -> bool:
        """Whether a place also holds for the further nouns of a coordination: "is next to a cup and a plate"."""
        s = self.sentence
        verb = self.clauses.governing_verb(place.first)
        heads = self.nouns.conjuncts(place.object)
        in_list = any(s.entry(j).kind == "comma" for j in range(heads[0], heads[-1]))
        in_list = in_list or any(self.clauses.starts_another(h) for h in heads[1:])
        return verb is not None and not self.clauses.is_showing(verb) and not in_list

    def _relate(
        self, subjects: Sequence[NounPhrase], values: Sequence[str], first: int, last: int, objects: Sequence[NounPhrase | None]
    ) -> None:  # fmt: skip
        """Relate each subject to each object by the words `first` to `last`; the object None is the image."""
        denied = first in self.scope.denied
        for other in objects:
            names = [
                p
                for p in subjects
                if p is not other and (other is None or (p.name, p.start) != (other.name, other.start))
            ]
            is_denied = denied and other is not None and not other.definite and not other.negated
            if is_denied and any(not p.negated for p in names):
                self.reading.silent.add(id(other))
            if other is not None and other.negated and not denied:
                continue
            for value in values:
                for subject in names:
                    self._add_relation(subject, value, (first, last), other)

    def _add_relation(self, subject: NounPhrase, value: str, words: tuple[int, int], other: NounPhrase | None) -> None:
        if subject.negated:
            self._restrict(subject, value, words, other)
            return
        if other is None and (subject.number or 1) > 1:
            subject.approximate = True  # "two dogs on the left"
        self.claims.add(
            ClaimType.RELATION, subject.noun, self.reading.span(*words, subject, other), value, other.noun if other else None,
            negated=words[0] in self.scope.denied,
            hedged=words[0] in self.scope.open or subject.hedged or (other is not None and other.hedged),
        )  # fmt: skip

    def _restrict(self, subject: NounPhrase, value: str, words: tuple[int, int], other: NounPhrase | None) -> None:
        """ "There is no cup on the table" denies only that one is there."""
        if subject.hedged or (other is not None and other.name in SETTINGS):
            return
        self.reading.silent.add(id(subject))
        if subject.number is None and set(subject.attributes) <= set(subject.colors):
            span = self.reading.span(*words, subject, other)
            self.claims.add(ClaimType.RELATION, subject.noun, span, value, other.noun if other else None, negated=True)

    def read_comparisons(self) -> None:
        """ "More circles than squares", "as many circles as squares"."""
        s = self.sentence
        for i in range(len(s)):
            if s.inside[i] != i or s.entry(i).kind != "more":
                continue
            first = self._phrase_from(s.phrase_end(i))
            if first is None or first + 2 >= len(s) or s.lower[first + 1] not in ("than", "as"):
                continue
            second = self._phrase_from(first + 2)
            if second is None or not self.nouns.at[first].name or not self.nouns.at[second].name:
                continue
            a, b = self.nouns.at[first], self.nouns.at[second]
            self.reading.silent |= {id(a), id(b)}
            self.reading.compared |= {id(a), id(b)}
            self.claims.add(
                ClaimType.COUNT, a.noun, (s.words[i].start, b.end), s.entry(i).value, b.noun,
                negated=i in self.scope.denied, hedged=i in self.scope.open,
            )  # fmt: skip

    def _phrase_from(self, i: int) -> int | None:
        return next((h for h in self.nouns.order if self.nouns.first[h] <= i <= h), None)
