"""Written text and what carries it: "the sign says STOP", "the word OPEN is on the door"."""

from vlrm_ray.claims.clause import WrittenText
from vlrm_ray.claims.handlers.nouns import add_phrase
from vlrm_ray.claims.handlers.predicates import handle_verb
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import ReaderState

_COUNTABLE_TEXT = frozenset({"text", "number", "letter", "letters", "words"})


def handle_text_verb(state: ReaderState, i: int) -> int:
    """ "Says", "reads", "labeled": the text that follows is on the subject. Without text it is an ordinary verb."""
    text, next_index = _text_at(state, i + 1)
    if not text:
        return handle_verb(state, i)
    token, clause = state.tokens[i], state.clause
    describes_latest = token.text.lower().endswith(("ing", "ed")) or " " in token.text
    if describes_latest and clause.introduced_by != "be":
        carriers = clause.latest[-1:]
    else:
        carriers = clause.subjects or clause.latest
    state.add_text(carriers, text, token.start, state.tokens[next_index - 1].end)
    return _skip_manner(state, next_index)


def handle_text_noun(state: ReaderState, i: int) -> int:
    """ "The word OPEN": on what was named before, or else on what is named next."""
    text, next_index = _text_at(state, i + 1)
    clause, token = state.clause, state.tokens[i]
    if not text:
        return i + 2 if state.tokens[i + 1].entry.kind == "of" else _handle_text_as_object(state, i)
    end = state.tokens[next_index - 1].end
    carriers = clause.subjects if clause.introduced_by == "verb" else clause.latest[-1:]
    if carriers:
        state.add_text(carriers, text, token.start, end)
    else:
        clause.written_text = WrittenText(text, token.start, end)
    return _skip_manner(state, next_index)


def handle_quote(state: ReaderState, i: int) -> int:
    """Quoted text: on the latest noun phrase after "with" or a colon; at the start of a clause its carrier follows."""
    token, clause = state.tokens[i], state.clause
    after_colon = clause.introduced_by == "be" and not clause.subjects
    if (clause.introduced_by == "with" or after_colon) and clause.latest:
        state.add_text(clause.latest, token.text, token.start, token.end)
        return _skip_manner(state, i + 1)
    if not clause.subjects and state.tokens[i + 1].entry.kind in ("be", "verb"):
        clause.written_text = WrittenText(token.text, token.start, token.end)
    return i + 1


def handle_carrier(state: ReaderState, i: int) -> int:
    """A relation after waiting text: in "The word OPEN is written on the door" the door carries it.

    Must only be called while `state.clause.written_text` is set.
    """
    written = state.clause.written_text
    assert written is not None
    phrase = state.noun_phrase(i + 1, loose=True)
    if phrase is None or not phrase.name:
        return i + 1
    state.clause.written_text = None
    add_phrase(state, phrase)
    state.add_text([phrase], written.text, written.start, written.end)
    return phrase.next_index


def _handle_text_as_object(state: ReaderState, i: int) -> int:
    """ "A number", "the text" without the text itself: an object like others."""
    token = state.tokens[i]
    name = token.text.lower().split()[-1]
    if name in _COUNTABLE_TEXT:
        noun = state.lexicon.canonical(name.removesuffix("s"))
        add_phrase(state, NounPhrase(noun, token.start, token.end, i + 1))
    return i + 1


def _text_at(state: ReaderState, i: int) -> tuple[str, int]:
    """Quoted text, or words in capitals or digits, from a token on; returns it with the next index.

    Steps over "the words" and the like. The text is empty if there is none.
    """
    tokens = state.tokens
    while tokens[i].entry.kind in ("determiner", "text_noun", "colon", "skip") or tokens[i].text == "text":
        i += 1
    if tokens[i].entry.kind == "quote":
        return tokens[i].text.strip(), i + 1
    first = i
    while tokens[i].text and (tokens[i].text.isupper() or tokens[i].text[0].isdigit()):
        i += 1
    return " ".join(t.text for t in tokens[first:i]), i


def _skip_manner(state: ReaderState, i: int) -> int:
    """Step over the preposition in "in white letters" or "on its roof", which states where or how the text is written."""
    clause = state.clause
    clause.conjunction = ""
    if state.tokens[i].entry.kind == "verb":
        i += 1
    if state.tokens[i].entry.kind == "relation":
        clause.introduced_by = "with"
        return i + 1
    return i
