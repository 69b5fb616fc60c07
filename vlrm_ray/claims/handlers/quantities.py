"""Numbers in a predicate and comparisons of numbers."""

from vlrm_ray.claims.clause import Clause
from vlrm_ray.claims.handlers.nouns import handle_noun
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import ReaderState, union
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import ClaimType

_NOUNS = frozenset({"word", "content", "generic", "uncheckable"})


def handle_number(state: ReaderState, i: int) -> int:
    """A number: the start of a noun phrase, or on its own as in "is six" and "one black"."""
    token, following, clause = state.tokens[i], state.tokens[i + 1], state.clause
    if state.noun_phrase(i) is not None:
        return handle_noun(state, i)
    qualifies_noun = following.entry.attribute and state.tokens[min(i + 2, len(state.tokens) - 1)].entry.kind in _NOUNS
    if following.entry.kind == "content" and following.entry.attribute and clause.latest and not qualifies_noun:
        state.add_attribute(_listed(clause), following.entry.attribute, following.start, following.end)
        return i + 2
    if token.text.lower() == "one" and i and _is_modifier(state.tokens[i - 1]):
        return i + 1  # "a blue one"
    if clause.existential and not clause.latest and state.tokens[i + 1].entry.kind == "end":
        clause.latest = [
            m for m in state.mentions[-1:] if m.start < 0 and m.plural
        ]  # "there are two", after "how many dogs"
    if clause.introduced_by == "be" and clause.latest and clause.latest[0].name and token.entry.value != "-1":
        subject = clause.latest[0]
        is_step = subject.definite and not subject.plural and int(token.entry.value) > 1  # "2. the square: two"
        state.claims.add(
            ClaimType.COUNT, subject.noun, union((subject.start, subject.end), (token.start, token.end)),
            token.entry.value,
            negated=clause.negated, hedged=bool(clause.hedge) or subject.partial or is_step
            or (subject.number is not None and subject.start >= 0),  # "five birds: three on the wire"
        )  # fmt: skip
    return i + 1


def _listed(clause: Clause) -> list[NounPhrase]:
    """What "one black, one white" describes: the several things that the clause is about, not the place where they are."""
    for phrases in (clause.subjects, clause.latest):
        several = [p for p in phrases if p.plural or (p.number or 0) > 1]
        if several:
            return several if len(several) == 1 else []
    is_place = len(clause.latest) > 1 or clause.last_relation is not None
    return [] if is_place else clause.latest


def _is_modifier(token: Token) -> bool:
    return bool(token.entry.attribute) or token.entry.kind in ("determiner", "vague", "uncheckable")


def handle_comparison(state: ReaderState, i: int) -> int:
    """ "More circles than squares", "as many circles as squares"."""
    tokens, token = state.tokens, state.tokens[i]
    first = state.noun_phrase(i + 1)
    if first is None or not first.name:
        return i + 1
    joint = tokens[first.next_index]
    if joint.entry.kind == "than" or joint.text.lower() == "as":
        second = state.noun_phrase(first.next_index + 1, loose=True)
        if second is not None and second.name:
            state.claims.add(
                ClaimType.COUNT, first.noun, (token.start, second.end), token.entry.value, second.noun,
                negated=state.clause.negated, hedged=bool(state.clause.hedge),
            )  # fmt: skip
            return second.next_index
    return i + 1
