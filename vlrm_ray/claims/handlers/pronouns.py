"""Pronouns and what they refer to."""

from dataclasses import replace

from vlrm_ray.claims.clause import Relation
from vlrm_ray.claims.function_words import OF_OTHER_SEX
from vlrm_ray.claims.noun_phrases import NounPhrase, spoken_of
from vlrm_ray.claims.reader_state import ReaderState
from vlrm_ray.claims.tokens import Token

_PREDICATE_STARTS = frozenset({"be", "relation_verb", "activity", "verb", "text_verb", "hedge"})


def handle_pronoun(state: ReaderState, i: int) -> int:
    """A pronoun: the second noun of a relation that waits for one, or the subject of a new clause."""
    clause, token = state.clause, state.tokens[i]
    pronoun, relation = token.entry.value, clause.relation
    referents = _referents(state, token, relation)
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


def _referents(state: ReaderState, token: Token, relation: Relation | None) -> list[NounPhrase]:
    """The noun phrase that a pronoun refers to: the last one that agrees with it, else the last one.

    "It" and "they" agree in number, and refer to a place only if nothing is at it; "he" and "she" refer to a person, or if there
    is none, to an animal.

    Args:
        state: the reader's state, with the noun phrases mentioned so far.
        token: the pronoun; its value is "it", "they", "person" for "he" and "she", or "each other".
        relation: the relation whose second noun the pronoun is; it does not refer to the first one.

    Returns:
        One noun phrase, or none if nothing suitable was mentioned.
    """
    pronoun, lexicon, excluded = token.entry.value, state.lexicon, relation.subjects if relation else []
    if pronoun == "each other":
        return list(excluded[1:2])
    excluded_names = {phrase.name for phrase in excluded}.union(OF_OTHER_SEX.get(token.text.lower(), ()))
    mentioned = [p for p in reversed(state.mentions) if p.name not in excluded_names]
    if pronoun == "person":
        people = (p for p in mentioned if p.name in lexicon.people)
        agreeing = (p for p in mentioned if p.name in lexicon.animate)
        nearest = next(people, None) or next(agreeing, None)
    else:
        nearest = next((p for p in mentioned if p.plural == (pronoun == "they")), None)
    if nearest is None:
        return mentioned[:1]
    is_in_sentence = nearest.start >= state.tokens[0].start
    if pronoun == "person" or (relation is not None and is_in_sentence):
        return [nearest]
    return [spoken_of(nearest, mentioned, lexicon.people if relation is None else lexicon.animate)]
