"""Noun phrases and their role in the clause: subject, second noun of a relation, or part of a coordination."""

from dataclasses import replace

from vlrm_ray.claims.clause import Relation
from vlrm_ray.claims.handlers.attributes import add_uncheckable_phrase, handle_adjective
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import ReaderState


def handle_noun(state: ReaderState, i: int) -> int:
    """A noun phrase; a token that starts none may be an adjective. This is the handler of all kinds without their own."""
    clause, tokens = state.clause, state.tokens
    token = tokens[i]
    loose = clause.relation is not None or clause.introduced_by in ("of", "with") or _is_list_item(state, i)
    phrase = state.noun_phrase(i, loose=loose)
    if phrase is None:
        return handle_adjective(state, i)
    if phrase.bare and clause.introduced_by == "be" and not clause.existential and token.entry.attribute:
        return handle_adjective(state, i)  # "is orange", "made of glass"
    if not phrase.name:
        add_uncheckable_phrase(state, phrase)
        return phrase.next_index
    if state.has_contrast and phrase.number == 1:  # "one dog is brown and the other is white"
        phrase.number = None
    if clause.introduced_by == "of" and phrase.bare and token.entry.kind == "word" and token.text[0].isupper():
        state.add_attribute(clause.latest[-1:], token.text, token.start, token.end)
        return phrase.next_index  # "a can of Coca-Cola"
    add_phrase(state, phrase)
    return phrase.next_index


def handle_negator(state: ReaderState, i: int) -> int:
    """ "No" starts a noun phrase, "nobody" is one, and "without" denies the next one."""
    token, clause = state.tokens[i], state.clause
    if token.entry.value == "determiner":
        return handle_noun(state, i)
    if token.entry.value == "others":  # "no other people" leaves open who is there
        phrase = state.noun_phrase(i + 1)
        return phrase.next_index if phrase else i + 1
    if token.entry.value == "nobody":
        add_phrase(state, NounPhrase("person", token.start, token.end, i + 1, negated=True))
        return i + 1
    clause.without, clause.introduced_by = True, "with"
    denied = state.noun_phrase(i + 1, loose=True)
    if denied is not None and denied.name:
        add_phrase(state, denied)
        i = denied.next_index - 1
    state.clause.without = False
    return i + 1


def add_phrase(state: ReaderState, phrase: NounPhrase) -> None:
    """Add the claims of a noun phrase and give it its role in the clause. Starts a new clause if it is its subject."""
    clause = state.clause
    if (clause.conjunction or clause.from_question) and clause.subjects and _starts_clause(state, phrase.next_index):
        state.start_clause()
        clause = state.clause
    relation = clause.relation
    if relation is not None and relation.value == "wearing" and phrase.name == "glass":
        phrase.name = "glasses"
    nor = clause.conjunction == "or" and bool(clause.latest) and clause.latest[-1].negated
    phrase.negated = phrase.negated or (clause.negated and not phrase.definite) or clause.without or nor
    phrase.hedged = phrase.hedged or (bool(clause.hedge) and not phrase.definite)
    if relation is None or phrase.definite or not relation.denies_object:
        state.claims.add_presence(phrase)
    if not phrase.negated:
        state.mentions.append(phrase)
    _assign_role(state, phrase)
    clause.conjunction = ""


def _assign_role(state: ReaderState, phrase: NounPhrase) -> None:
    """Make the phrase the second noun of a relation, a subject, a further conjunct or the latest phrase.

    A phrase before "'s" is an owner: the subject or second noun is the phrase after it.
    """
    clause = state.clause
    is_owner = state.tokens[phrase.next_index].entry.kind == "genitive"
    if clause.relation is not None:
        phrase.place = clause.introduced_by == "relation" and bool(clause.relation.subjects)
        state.complete_relation(clause.relation, phrase)
        if not is_owner:
            clause.last_relation, clause.relation = clause.relation, None
    elif not clause.subjects:
        clause.latest = clause.subjects = [] if is_owner else [phrase]
        if not is_owner:
            clause.introduced_by = ""
            state.add_fronted(phrase)
    elif clause.conjunction in ("and", "or", "comma"):
        _coordinate(state, phrase)
    else:
        clause.latest, clause.in_list = [phrase], False
        if clause.introduced_by == "be":
            clause.introduced_by = ""


def _coordinate(state: ReaderState, phrase: NounPhrase) -> None:
    """Add a conjunct to the latest noun phrases: to the subjects, or to the second nouns of a relation."""
    clause = state.clause
    clause.in_list = clause.in_list or clause.conjunction == "comma"
    if clause.hedge == "adverbs" and clause.conjunction == "comma":  # "a man, perhaps a tourist,"
        clause.latest = [phrase]
        return
    if clause.introduced_by in ("relation", "relation_verb") and clause.last_relation is not None:
        if not _shares_relation(state, clause.last_relation, phrase):
            clause.latest, clause.introduced_by = [phrase], ""
            return
        before = clause.latest
        state.complete_relation(replace(clause.last_relation), phrase)
        clause.latest = [*before, phrase]
        return
    if clause.latest is clause.subjects or clause.introduced_by in ("", "verb", "of"):
        conjuncts = clause.subjects if not clause.has_verb or clause.existential else clause.latest
        conjuncts.append(phrase)
        clause.latest, clause.introduced_by = conjuncts, ""
        if conjuncts is clause.subjects:
            state.add_fronted(phrase)
        return
    clause.latest = [*clause.latest, phrase]


def _shares_relation(state: ReaderState, relation: Relation, phrase: NounPhrase) -> bool:
    """Whether a relation also holds for a further conjunct: "between the book and the cup"."""
    clause = state.clause
    if state.tokens[phrase.next_index].entry.kind in ("relation_verb", "activity", "relation"):
        return False
    if clause.introduced_by == "relation_verb" or relation.value == "between":
        return True
    in_list = clause.in_list and clause.conjunction == "comma"
    return not in_list and clause.has_verb and not clause.existential


def _starts_clause(state: ReaderState, next_index: int) -> bool:
    """Whether the phrase before `next_index` is the subject of a new clause, because a finite verb follows it."""
    clause = state.clause
    if not (clause.has_verb or clause.existential or clause.last_relation):
        return False
    token = state.tokens[next_index]
    kind = token.entry.kind
    if kind in ("be", "hedge", "text_verb"):
        return True
    if kind in ("verb", "relation_verb", "activity"):
        return not token.text.lower().endswith(("ing", "ed", "seen", "visible", "present"))
    return False


def _is_list_item(state: ReaderState, i: int) -> bool:
    """Whether an unknown word is an item of a list: between commas, conjunctions, colons or line ends."""
    tokens = state.tokens
    if tokens[i].entry.kind != "word":
        return False
    before = tokens[i - 1].entry.kind if i else "end"
    if before == "genitive":
        return True
    after = next((t.entry.kind for t in tokens[i : i + 8] if t.entry.kind not in ("word", "content")), "end")
    return (
        state.clause.introduced_by != "be"
        and before in ("end", "comma", "and", "colon")
        and after in ("end", "comma", "and", "open_bracket", "colon")
    )
