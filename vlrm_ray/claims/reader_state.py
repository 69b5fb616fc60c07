"""The state of a response reader, shared by its token handlers, and the operations on it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vlrm_ray.claims.claim_collector import ClaimCollector
from vlrm_ray.claims.clause import Clause, FrontedPlace, Relation
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase, parse_noun_phrase
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import ClaimType, Noun

FIGURES = frozenset({"teddy bear", "doll", "statue", "sculpture", "snowman", "toy", "puppet", "figure"})
"""Nouns that name figures of people and animals, which have postures."""


class ReaderState:
    """What is known while a response is read.

    Attributes:
        lexicon: nouns, attributes and function words.
        claims: the claims found so far.
        mentions: noun phrases that a pronoun may refer to, oldest first.
        clause: the clause that is being read.
        tokens: the sentence that is being read, closed by a token of kind `end`.
        has_contrast: the sentence contains "other" or "another", so "one dog" states no count.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.claims = ClaimCollector(lexicon)
        self.mentions: list[NounPhrase] = []
        self.clause = Clause()
        self.tokens: Sequence[Token] = ()
        self.has_contrast = False

    def noun_phrase(self, i: int, *, loose: bool = False) -> NounPhrase | None:
        """The noun phrase that starts at a token; see `parse_noun_phrase`."""
        return parse_noun_phrase(self.tokens, i, self.lexicon, loose=loose)

    def start_clause(self) -> None:
        """Close the current clause and start a new one, without its negation and hedge."""
        written = self.clause.written_text
        if written is not None:  # nothing was named that carries it
            self.claims.add(ClaimType.TEXT, Noun("text"), (written.start, written.end), written.text)
        self.clause = Clause()

    def complete_relation(self, relation: Relation, phrase: NounPhrase) -> None:
        """Add a relation whose second noun has been read, or keep it as a fronted place if it has no subject yet."""
        clause = self.clause
        if not relation.subjects:
            if relation.value:
                clause.fronted_places.append(
                    FrontedPlace(relation.value, phrase, relation.start, relation.end, relation.hedged)
                )
            clause.latest, clause.introduced_by = [phrase], "relation"
            return
        for subject in relation.subjects:
            if subject.negated or subject is phrase or (phrase.negated and not relation.negated):
                continue
            self.add_relation(subject, relation, phrase)
        if phrase.negated or relation.negated:
            phrase.negated = phrase.negated or not phrase.definite
        clause.latest = [phrase]
        clause.introduced_by = "relation_verb" if clause.introduced_by == "relation_verb" else "relation"

    def add_relation(self, subject: NounPhrase, relation: Relation | FrontedPlace, phrase: NounPhrase | None) -> None:
        """Add a relation claim. `phrase` is None for a relation to the image."""
        other_span = [(phrase.start, phrase.end)] if phrase else []
        self.claims.add(
            ClaimType.RELATION, subject.noun, union((subject.start, subject.end), (relation.start, relation.end), *other_span),
            relation.value, phrase.noun if phrase else None,
            negated=isinstance(relation, Relation) and relation.negated, hedged=relation.hedged,
        )  # fmt: skip

    def add_attribute(self, subjects: Sequence[NounPhrase], value: str, start: int, end: int) -> None:
        """Add an attribute or state claim for each subject that is not denied.

        "The red circle is not small" does not deny that another circle is small, so such a claim is hedged.
        """
        for subject in subjects:
            if not subject.negated:
                partial = self.clause.negated and bool(subject.attributes or subject.partial)
                self.claims.add(
                    self.lexicon.attribute_type(value), Noun(subject.name), union((subject.start, subject.end), (start, end)), value,
                    negated=self.clause.negated, hedged=bool(self.clause.hedge) or partial,
                )  # fmt: skip

    def add_text(self, carriers: Sequence[NounPhrase], text: str, start: int, end: int) -> None:
        """Add a claim about written text on the last of the carriers; without a carrier, none."""
        for carrier in carriers[-1:]:
            span = union((carrier.start, carrier.end), (start, end))
            if not carrier.name:  # "it says", where nothing was named
                carrier = NounPhrase("text", start, end)
            self.claims.add(
                ClaimType.TEXT, Noun(carrier.name), span, text,
                negated=self.clause.negated or carrier.negated, hedged=bool(self.clause.hedge),
            )  # fmt: skip

    def add_fronted(self, subject: NounPhrase) -> None:
        """Add the claims of the fronted places and activities, whose subject has been read now."""
        clause = self.clause
        for place in clause.fronted_places:
            if not subject.negated:
                self.add_relation(subject, replace(place, hedged=place.hedged or bool(clause.hedge)), place.phrase)
        for value, start, end in clause.fronted_activities:
            self.add_attribute([subject], value, start, end)
        clause.fronted_activities = []

    def may_sit(self, phrase: NounPhrase) -> bool:
        """Whether "sitting" may be the posture of a noun phrase: of a person, an animal or the figure of one."""
        return self.may_be_animate(phrase) or phrase.name in FIGURES

    def may_be_animate(self, phrase: NounPhrase) -> bool:
        """Whether a noun phrase may name a person or an animal. A noun that is not in the lexicon may."""
        return phrase.name in self.lexicon.animate or phrase.name not in self.lexicon.entries


Handler = Callable[[ReaderState, int], int]
"""Handles the token at an index and returns the index of the next token to handle."""


def union(*spans: tuple[int, int]) -> tuple[int, int]:
    """The smallest span that contains all spans. A phrase that only the question names (start -1) has no span."""
    known = [span for span in spans if span[0] >= 0]
    return min(start for start, _ in known), max(end for _, end in known)
