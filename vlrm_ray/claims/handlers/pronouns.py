"""Pronouns and what they refer to."""

from collections.abc import Sequence
from dataclasses import replace

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import ReaderState

_PREDICATE_STARTS = frozenset({"be", "relation_verb", "activity", "verb", "text_verb", "hedge"})


def handle_pronoun(state: ReaderState, i: int) -> int:
    """A pronoun: the second noun of a relation that waits for one, or the subject of a new clause."""
    clause, token = state.clause, state.tokens[i]
    pronoun, relation = token.entry.value, clause.relation
    referents = _referents(state, pronoun, relation.subjects if relation else [])
    if relation is not None and referents:
        clause.relation = None
        for phrase in referents:
            if pronoun == "each other":
                relation.subjects = relation.subjects[:1]
            state.complete_relation(replace(relation), replace(phrase, start=token.start, end=token.end))
        clause.last_relation = relation
    elif not clause.subjects or clause.conjunction or state.tokens[i + 1].entry.kind in _PREDICATE_STARTS:
        state.start_clause()
        if not referents:  # refers to something that was not named, so no claim can follow
            referents = [NounPhrase("", token.start, token.end, negated=True)]
        subjects = [
            replace(p, start=token.start, end=token.end, partial=pronoun == "they" and not p.plural) for p in referents
        ]
        state.clause.subjects = state.clause.latest = subjects
        state.clause.fronted_places = clause.fronted_places
        state.clause.hedge = clause.hedge if not clause.subjects else ""
    return i + 1


def handle_relative(state: ReaderState, i: int) -> int:
    """ "Which" or "who": what follows describes the latest noun phrase."""
    clause = state.clause
    if clause.latest:
        clause.subjects, clause.conjunction = clause.latest[-1:], ""
    return i + 1


def _referents(state: ReaderState, pronoun: str, excluded: Sequence[NounPhrase]) -> list[NounPhrase]:
    """The noun phrase that a pronoun refers to: the last one that agrees with it, else the last one.

    "It" and "they" agree in number; "he" and "she" refer to a person or an animal.

    Args:
        state: the reader's state, with the noun phrases mentioned so far.
        pronoun: "it", "they", "person" for "he" and "she", or "each other".
        excluded: noun phrases of the same relation, which the pronoun cannot refer to.

    Returns:
        One noun phrase, or none if nothing suitable was mentioned.
    """
    if pronoun == "each other":
        return list(excluded[1:2])
    excluded_names = {phrase.name for phrase in excluded}
    mentioned = [p for p in reversed(state.mentions) if p.name not in excluded_names]
    for phrase in mentioned:
        animate = phrase.name in state.lexicon.animate
        if animate if pronoun == "person" else phrase.plural == (pronoun == "they"):
            return [phrase]
    return mentioned[:1]
