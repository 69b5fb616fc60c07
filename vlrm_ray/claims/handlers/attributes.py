"""Attributes that a predicate states: "is orange", "is a light blue color"."""

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import ReaderState


def handle_adjective(state: ReaderState, i: int) -> int:
    """An adjective after "is", a colon or an opening bracket; any other unknown word counts as a verb."""
    clause, token = state.clause, state.tokens[i]
    if token.entry.attribute and clause.introduced_by == "be" and clause.latest:
        state.add_attribute(clause.latest, token.entry.attribute, token.start, token.end)
    elif token.entry.kind == "word" and not token.text.lower().endswith("ly") and clause.subjects:
        clause.has_verb = True
    return i + 1


def add_uncheckable_phrase(state: ReaderState, phrase: NounPhrase) -> None:
    """Add the attributes of a phrase whose noun cannot be checked: "is a light blue color"."""
    clause = state.clause
    is_several = clause.introduced_by == "with" and (phrase.number or 1) > 1  # "with three red shapes"
    if clause.introduced_by in ("be", "with") and not clause.existential and not is_several:
        for value in phrase.attributes:
            subjects = clause.subjects if clause.has_verb else clause.latest
            state.add_attribute(subjects, value, phrase.start, phrase.end)
    clause.relation = None
