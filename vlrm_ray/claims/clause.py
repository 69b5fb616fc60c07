"""State of the clause that is being read: its subjects, negation, hedge and what still waits for a noun."""

from dataclasses import dataclass, field
from typing import Literal

from vlrm_ray.claims.noun_phrases import NounPhrase

Conjunction = Literal["", "and", "or", "but", "comma"]
Introducer = Literal["", "be", "verb", "of", "with", "relation", "relation_verb"]


@dataclass(slots=True)
class Relation:
    """A relation whose second noun has not been read yet. Without subjects, the first one is still missing too.

    Attributes:
        value: canonical name ("left_of", "wearing"); empty for a relation that no claim can state.
        subjects: the noun phrases before it.
        start: first character of its words in the response.
        end: character after the last one.
        negated: the clause denies it.
        hedged: the clause leaves it open.
    """

    value: str
    subjects: list[NounPhrase]
    start: int
    end: int
    negated: bool = False
    hedged: bool = False

    @property
    def denies_object(self) -> bool:
        """Whether it does not imply that its second noun exists: "is not wearing a hat", "nobody wears a hat"."""
        return self.negated or (bool(self.subjects) and all(s.negated and s.name for s in self.subjects))


@dataclass(slots=True)
class FrontedPlace:
    """A place named before its subject: "On the table is ...", "On the left, ...".

    `phrase` is None for a place in the image.
    """

    value: str
    phrase: NounPhrase | None
    start: int
    end: int
    hedged: bool


@dataclass(slots=True)
class WrittenText:
    """Written text whose carrier has not been named yet: "The word OPEN is on ..."."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Clause:
    """State of a clause.

    Attributes:
        subjects: noun phrases that are its subjects.
        latest: noun phrases named last; what follows directly describes them. May be the same list as `subjects`.
        introduced_by: kind of the token that introduces what is read next.
        has_verb: a verb was read, so the subjects are complete.
        existential: it starts with "there is"; the subjects follow.
        in_list: commas separate the latest noun phrases.
        conjunction: the conjunction or comma just read.
        relation: a relation that waits for its second noun.
        last_relation: the relation completed last.
        fronted_places: places that wait for their subject.
        fronted_activities: activities that wait for their subject ("Parked outside is ..."), each with its span.
        written_text: written text that waits for its carrier.
        negated: a "not" is in force.
        hedge: kind of the hedge in force, "adverbs" or "verbs" as in the lexicon; empty if there is none.
        from_question: the subjects are those of the question, until the answer names others.
        without: a "without" is in force.
    """

    subjects: list[NounPhrase] = field(default_factory=list)
    latest: list[NounPhrase] = field(default_factory=list)
    introduced_by: Introducer = ""
    has_verb: bool = False
    existential: bool = False
    in_list: bool = False
    conjunction: Conjunction = ""
    relation: Relation | None = None
    last_relation: Relation | None = None
    fronted_places: list[FrontedPlace] = field(default_factory=list)
    fronted_activities: list[tuple[str, int, int]] = field(default_factory=list)
    written_text: WrittenText | None = None
    negated: bool = False
    hedge: str = ""
    from_question: bool = False
    without: bool = False

    def begin_predicate(self) -> None:
        """Start the predicate: a verb was read, and what follows describes the subjects."""
        if self.subjects:
            self.latest = self.subjects
            self.has_verb = True
        self.conjunction, self.relation = "", None

    def new_relation(self, value: str, subjects: list[NounPhrase], start: int, end: int) -> Relation:
        """A relation under the negation and hedge of the clause."""
        return Relation(value, list(subjects), start, end, self.negated, bool(self.hedge))

    def relation_subjects(self) -> list[NounPhrase]:
        """Subjects of a relation or place that is read now."""
        if not self.subjects and not self.latest:
            return []
        if self.conjunction in ("and", "or", "but") and self.last_relation:
            return self.last_relation.subjects
        if self.conjunction and self.subjects:
            return self.subjects
        if self.introduced_by == "be" or (self.existential and len(self.latest) == 2 and not self.in_list):
            return self.latest
        return self.latest[-1:]

    def activity_subjects(self, *, finite: bool) -> list[NounPhrase]:
        """Subjects of an activity or relation verb that is read now; `finite` tells "sits" from "sitting"."""
        if self.introduced_by == "be":
            return self.latest
        if finite or self.conjunction or self.introduced_by in ("with", "relation_verb", "of"):
            return self.subjects or self.latest[-1:]
        return self.latest[-1:]
