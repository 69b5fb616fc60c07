"""Verbs: forms of "be", negation, hedges, activities ("sitting"), relation verbs ("wearing") and "there is"."""

from vlrm_ray.claims.handlers.nouns import handle_noun
from vlrm_ray.claims.reader_state import ReaderState


def handle_be(state: ReaderState, i: int) -> int:
    """A form of "be", possibly negated ("isn't")."""
    clause = state.clause
    clause.begin_predicate()
    clause.introduced_by = "be"
    if state.tokens[i].entry.value == "not":
        clause.negated = True
    return i + 1


def handle_not(state: ReaderState, i: int) -> int:
    """ "Not", "never", "doesn't": negates the rest of the clause."""
    state.clause.negated = True
    return i + 1


def handle_hedge(state: ReaderState, i: int) -> int:
    """ "Perhaps", "might be": what follows is left open."""
    subjects = state.clause.subjects
    has_that = state.tokens[i + 1].text.lower() == "that"
    if has_that or (subjects and not subjects[0].name):
        state.start_clause()  # "it seems that ..."
    clause = state.clause
    clause.hedge = state.tokens[i].entry.value
    if clause.hedge == "verbs" and clause.subjects:
        clause.begin_predicate()
        clause.introduced_by = "be"
    return i + 1 + has_that


def handle_activity(state: ReaderState, i: int) -> int:
    """A posture or activity, such as "sitting" or "parked": an attribute of the subjects."""
    clause, token = state.clause, state.tokens[i]
    if token.entry.noun and clause.introduced_by in ("of", "with") and clause.latest is not clause.subjects:
        return handle_noun(state, i)
    finite = token.entry.value == "finite"
    subjects = clause.activity_subjects(finite=finite)
    if not clause.subjects and (not subjects or (finite and clause.fronted_places)):
        if state.tokens[i + 1].entry.kind in ("content", "word", "uncheckable") and not clause.fronted_places:
            return handle_noun(state, i)  # "parked cars"
        clause.fronted_activities.append((token.entry.attribute, token.start, token.end))
        clause.introduced_by, clause.existential = "be", True
        return i + 1
    is_sit = token.entry.attribute == "sitting"  # a vase that "sits" on a shelf has no posture
    described = [s for s in subjects if not is_sit or state.may_sit(s)]
    state.add_attribute(described, token.entry.attribute, token.start, token.end)
    clause.latest, clause.introduced_by, clause.conjunction, clause.relation = subjects, "be", "", None
    clause.has_verb = clause.has_verb or finite
    return i + 1


def handle_relation_verb(state: ReaderState, i: int) -> int:
    """A verb such as "wearing" or "holds": relates the subjects to the noun phrase that follows."""
    clause, token = state.clause, state.tokens[i]
    finite = token.entry.attribute == "finite"
    subjects = clause.activity_subjects(finite=finite)
    if token.entry.value == "holding":  # a shelf that "holds" books has no hand
        subjects = [s for s in subjects if state.may_be_animate(s)]
    clause.relation = clause.new_relation(token.entry.value, subjects, token.start, token.end) if subjects else None
    clause.introduced_by, clause.conjunction = "relation_verb", ""
    clause.has_verb = clause.has_verb or finite
    return i + 1


def handle_verb(state: ReaderState, i: int) -> int:
    """Any other verb: a finite one starts the predicate, a participle does not."""
    clause = state.clause
    if state.tokens[i].text.lower().endswith(("ing", "ed", "seen", "made")):
        clause.relation = None
        clause.introduced_by = clause.introduced_by if clause.introduced_by == "be" else ""
        return i + 1
    clause.begin_predicate()
    clause.introduced_by = "verb"
    if clause.subjects:
        clause.existential = False
    return i + 1


def handle_there(state: ReaderState, i: int) -> int:
    """ "There" before a verb: the subjects follow the verb."""
    if state.tokens[i + 1].entry.kind not in ("be", "hedge", "verb", "not"):
        return i + 1
    before = state.clause
    if before.subjects:
        state.start_clause()
        if before.hedge == "verbs" and not before.subjects[0].name:  # "it is unclear whether there is"
            state.clause.hedge = before.hedge
    state.clause.existential, state.clause.conjunction = True, ""
    return i + 1
