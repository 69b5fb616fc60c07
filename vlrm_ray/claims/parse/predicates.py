"""Attributes, states and numbers that a predicate states: "is orange", "made of wood", "standing", "the number is six"."""

from collections.abc import Sequence

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.reading import Reading
from vlrm_ray.claims.parse.sentence import SUBJECTS
from vlrm_ray.claims.reader_state import FIGURES
from vlrm_ray.types import ClaimType, Noun

_WITHIN = frozenset({"with", "in"})
_QUALITIES = frozenset({"color", "colour", "hue", "shade", "tone", "pattern", "material"})
_MODIFIES = frozenset({"amod", "appos", "nmod", "compound", "acomp", "attr", "oprd", "advmod", "nsubj", "dobj", "npadvmod", "dep", "xcomp"})  # fmt: skip
_STANDING_FOR_NOUNS = frozenset({"one", "ones", "others", "other", "two", "three", "both"})
_COPULAS = frozenset({"is", "are", "was", "were", "be", "'s", "'re", "looks", "look"})


class Predicates:
    """Reads what single words state of their subjects."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.sentence, self.nouns, self.clauses = (
            reading,
            reading.sentence,
            reading.nouns,
            reading.clauses,
        )
        self.scope, self.claims, self.lexicon = reading.scope, reading.claims, reading.claims.lexicon

    def read(self, i: int) -> None:
        """Read word `i`, if it states an attribute, a state or a number."""
        s, entry, nouns = self.sentence, self.sentence.entry(i), self.nouns
        starts, last = s.inside[i] == i, s.phrase_end(i) - 1
        if entry.kind == "activity":
            if i not in nouns.at and not self.reading.in_phrase(i):
                self._read_state(i)
        elif entry.kind == "be" and entry.value == "made" and starts:
            self._read_material(i)
        elif entry.attribute and entry.kind in ("content", "uncheckable", "adverb", "vague"):
            if starts and (last not in nouns.at or self._is_bare_predicate(i)) and not self.reading.in_phrase(i):
                self._read_attribute(i)
        elif s.tags[i] == "CD" and i not in nouns.at and not self.reading.in_phrase(i):
            self._read_number(i)
        if i in nouns.at and not nouns.at[i].name:
            self._read_nameless(i)

    def _read_nameless(self, i: int) -> None:
        """A noun that names no object: a color or material, or a brand as in "a can of Coca-Cola"."""
        s = self.sentence
        if self.nouns.at[i].attributes:
            self._read_uncheckable(i)
        elif (
            s.tags[i] in ("NNP", "NNPS")
            and s.deps[i] == "pobj"
            and s.lower[s.heads[i]] == "of"
            and s.entry(i).kind == "word"
        ):
            self._add_attribute(self.clauses.last_of(s.heads[s.heads[i]]), s.words[i].text, i)

    def _is_bare_predicate(self, i: int) -> bool:
        """Whether an adjective was taken for a noun: "is orange"."""
        s = self.sentence
        last = s.phrase_end(i) - 1
        phrase = self.nouns.at.get(last)
        if (
            phrase is not None
            and self.nouns.first[last] == i
            and not s.entry(i).noun
            and i
            and s.entry(i - 1).kind in ("colon", "open_bracket")
        ):
            return True
        return phrase is not None and self.nouns.first[last] == i and s.deps[last] in ("attr", "acomp", "oprd") and (
            s.lower[s.heads[last]] in _COPULAS
        ) and not any(s.deps[c] == "expl" for c in s.children(s.heads[last]))  # fmt: skip

    def _read_state(self, i: int) -> None:
        s = self.sentence
        subjects = self.clauses.subjects(i)
        if s.entry(i).attribute == "sitting":
            subjects = [
                p for p in subjects if p.name in self.lexicon.animate | FIGURES or p.name not in self.lexicon.entries
            ]
        self._add_attribute(subjects, s.entry(i).attribute, i)

    def _read_attribute(self, i: int) -> None:
        s = self.sentence
        last = s.phrase_end(i) - 1
        if last in self.nouns.at:
            self.reading.silent.add(id(self.nouns.at[last]))
        subjects = self._predicate_subjects(last)
        if (
            (not subjects or s.deps[last] == "appos")
            and i
            and s.entry(i - 1).kind in ("colon", "open_bracket", "comma", "and")
        ):
            before = [h for h in self.nouns.order if h < i and self.nouns.at[h].name]
            opens = any(s.entry(j).kind in ("colon", "open_bracket") for j in range(before[-1] if before else i, i))
            subjects = self.clauses.last_of(before[-1]) if before and opens else []
        self._add_attribute(subjects, s.entry(i).attribute, i)

    def _predicate_subjects(self, i: int) -> list[NounPhrase]:
        """What an adjective outside of noun phrases describes."""
        s, dep, head = self.sentence, self.sentence.deps[i], self.sentence.heads[i]
        if dep in ("acomp", "attr") and (owners := self._owners_of_quality(head)):
            return owners
        auxiliary = [c for c in s.with_dep(i, "aux", "auxpass") if s.with_dep(c, *SUBJECTS)]
        if auxiliary:
            return self.clauses.subjects(auxiliary[0])
        if s.with_dep(i, *SUBJECTS) or s.is_verb(i) or dep in ("ROOT", "ccomp", "relcl", "advcl", "acl"):
            return self.clauses.subjects(i)
        if dep == "conj":
            return self._predicate_subjects(head) if head not in self.nouns.at else self.clauses.last_of(head)
        if dep not in _MODIFIES:
            return []
        if head in self.nouns.at:
            return self.clauses.last_of(head)
        if s.lower[head] in _STANDING_FOR_NOUNS:
            return self.clauses.phrases(head)
        return (
            self.clauses.subjects(head) if s.is_verb(head) or s.tags[head] == "MD" else self._predicate_subjects(head)
        )

    def _owners_of_quality(self, verb: int) -> list[NounPhrase]:
        """The cup in "the color of the cup is red", and the car in "the car's color is blue"."""
        s = self.sentence
        for quality in s.with_dep(verb, *SUBJECTS):
            if s.lower[quality] in _QUALITIES:
                of = [c for c in s.with_dep(quality, "prep") if s.lower[c] == "of"]
                owners = [h for c in (quality, *of) for h in s.with_dep(c, "poss", "pobj") if h in self.nouns.at]
                return self.clauses.last_of(owners[0]) if owners else []
        return []

    def _read_material(self, i: int) -> None:
        """ "Made of wood and glass"."""
        s, at = self.sentence, self.sentence.phrase_end(i)
        subjects = self.clauses.subjects(i)
        while at < len(s) and (
            s.entry(at).kind in ("and", "comma", "adverb", "determiner", "vague")
            or s.entry(at).attribute
            or s.tags[at] == "JJ"
        ):
            if s.entry(at).attribute and s.inside[at] == at:
                last = s.phrase_end(at) - 1
                if last in self.nouns.at:
                    self.reading.silent.add(id(self.nouns.at[last]))
                self._add_attribute(subjects, s.entry(at).attribute, at)
            at += 1

    def _read_uncheckable(self, i: int) -> None:
        """ "Is a light blue color", "striped with red and white colors", "in a bright red color"."""
        s, dep, head = self.sentence, self.sentence.deps[i], self.sentence.heads[i]
        if dep == "attr" and not any(s.deps[c] == "expl" for c in s.children(head)):
            subjects = self.clauses.subjects(head)
        elif dep == "pobj" and s.lower[head] in _WITHIN and s.lower[i].rstrip("s") in _QUALITIES:
            above = s.heads[head]
            subjects = self.clauses.last_of(above) if above in self.nouns.at else self.clauses.subjects(above)
        else:
            return
        if (self.nouns.at[i].number or 1) == 1:
            for value in self.nouns.at[i].attributes:
                self._add_attribute(subjects, value, i)

    def _read_number(self, i: int) -> None:
        """ "The number of candles is six", "there are three"."""
        s, head = self.sentence, self.sentence.heads[i]
        if (
            s.deps[i] not in ("attr", "acomp")
            or s.entry(head).kind != "be"
            or s.entry(i).kind != "number"
            or s.entry(i).value == "-1"
        ):
            return
        for subject in self.clauses.subjects(head)[:1]:
            if subject.plural and subject.name:
                self.claims.add(
                    ClaimType.COUNT, subject.noun, self.reading.span(i, i, subject), s.entry(i).value,
                    negated=i in self.scope.denied, hedged=i in self.scope.open or subject.partial,
                )  # fmt: skip

    def _add_attribute(self, subjects: Sequence[NounPhrase], value: str, i: int) -> None:
        denied = i in self.scope.denied
        for subject in subjects:
            if not subject.name:
                continue
            if subject.negated and not subject.hedged and not denied:
                self._deny_restricted(subject, self.lexicon.attribute_type(value), value, i)
            elif not subject.negated:
                partial = denied and bool(subject.attributes or subject.partial)
                self.claims.add(
                    self.lexicon.attribute_type(value), Noun(subject.name), self.reading.span(i, i, subject), value,
                    negated=denied, hedged=i in self.scope.open or subject.hedged or partial,
                )  # fmt: skip

    def _deny_restricted(self, subject: NounPhrase, kind: ClaimType, value: str, i: int) -> None:
        """ "No circle is red" denies that one is red, not that there is one."""
        if subject.attributes:
            subject.hedged = True
            return
        self.reading.silent.add(id(subject))
        self.claims.add(kind, subject.noun, self.reading.span(i, i, subject), value, negated=True)
