"""Conjunctions and punctuation: what they join, and where a clause ends."""

from vlrm_ray.claims.reader_state import ReaderState


def handle_and_or(state: ReaderState, i: int) -> int:
    """ "And", "or"."""
    state.clause.conjunction = "or" if state.tokens[i].entry.kind == "or" else "and"
    return i + 1


def handle_but(state: ReaderState, i: int) -> int:
    """ "But": ends negation and hedge; what follows describes the subjects again."""
    clause = state.clause
    clause.conjunction, clause.negated, clause.hedge = "but", False, ""
    clause.latest = clause.subjects or clause.latest
    return i + 1


def handle_comma(state: ReaderState, i: int) -> int:
    """A comma, dash or closing bracket: ends the scope of an adverb such as "perhaps"."""
    clause = state.clause
    clause.conjunction = clause.conjunction or "comma"
    if clause.hedge == "adverbs" and i and state.tokens[i - 1].entry.kind != "hedge":
        clause.hedge = ""
    return i + 1


def handle_clause_break(state: ReaderState, i: int) -> int:
    """A semicolon or "while": starts a new clause, except before a participle ("while sitting")."""
    if state.tokens[i + 1].entry.kind in ("activity", "relation_verb"):
        state.clause.conjunction = "and"
    else:
        state.start_clause()
    return i + 1


def handle_colon(state: ReaderState, i: int) -> int:
    """A colon or opening bracket: what follows describes the latest noun phrases."""
    clause = state.clause
    clause.introduced_by = "be" if clause.latest else ""
    clause.conjunction, clause.relation = "", None
    return i + 1


def handle_skip(state: ReaderState, i: int) -> int:
    """A token without meaning for claims."""
    return i + 1
