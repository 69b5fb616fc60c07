"""Reads a response sentence by sentence and collects its claims.

The reader goes through the tokens of a sentence from left to right and calls one handler per token, chosen by the token's
kind. Handlers communicate through `ReaderState`: the current `Clause` with its subjects and pending relation, the
noun phrases mentioned so far, and the claims found.
"""

from collections.abc import Sequence
from dataclasses import replace

from vlrm_ray.claims.clause import Clause
from vlrm_ray.claims.function_words import TokenKind
from vlrm_ray.claims.handlers import conjunctions, nouns, predicates, pronouns, quantities, relations, written_text
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import Handler, ReaderState
from vlrm_ray.claims.tokens import Token

HANDLERS: dict[TokenKind, Handler] = {
    "be": predicates.handle_be,
    "not": predicates.handle_not,
    "hedge": predicates.handle_hedge,
    "activity": predicates.handle_activity,
    "relation_verb": predicates.handle_relation_verb,
    "verb": predicates.handle_verb,
    "there": predicates.handle_there,
    "text_verb": written_text.handle_text_verb,
    "text_noun": written_text.handle_text_noun,
    "quote": written_text.handle_quote,
    "pronoun": pronouns.handle_pronoun,
    "relative": pronouns.handle_relative,
    "relation": relations.handle_relation,
    "of": relations.handle_of,
    "preposition": relations.handle_preposition,
    "and": conjunctions.handle_and_or,
    "or": conjunctions.handle_and_or,
    "but": conjunctions.handle_but,
    "comma": conjunctions.handle_comma,
    "close_bracket": conjunctions.handle_comma,
    "clause_break": conjunctions.handle_clause_break,
    "colon": conjunctions.handle_colon,
    "open_bracket": conjunctions.handle_colon,
    "skip": conjunctions.handle_skip,
    "genitive": conjunctions.handle_skip,
    "end": conjunctions.handle_skip,
    "more": quantities.handle_comparison,
    "number": quantities.handle_number,
    "negator": nouns.handle_negator,
}
"""Handler of each token kind. All other kinds may start a noun phrase and go to `nouns.handle_noun`."""
_CONTRASTS = frozenset({"other", "others", "the other", "another"})


class ResponseReader:
    """Reads one response; `state.claims` collects its claims.

    Args:
        lexicon: nouns, attributes and function words.
        topic: noun phrases of the question, which the first sentence may describe without naming them.
    """

    def __init__(self, lexicon: Lexicon, topic: Sequence[NounPhrase] = ()) -> None:
        self.state = ReaderState(lexicon)
        self.set_topic(topic)

    def set_topic(self, topic: Sequence[NounPhrase]) -> None:
        """Make noun phrases of a question the subjects of the next sentence, until it names others."""
        subjects = [replace(phrase, start=-1, end=-1) for phrase in topic]
        self.state.mentions += subjects
        if subjects:
            self.state.clause = Clause(
                subjects=subjects, latest=subjects, introduced_by="be", has_verb=True, from_question=True
            )

    def read_sentence(self, tokens: Sequence[Token]) -> None:
        """Read a sentence as `tokens.sentences` gives it; the last token closes it."""
        state = self.state
        state.tokens = tokens
        state.has_contrast = any(t.text.lower() in _CONTRASTS for t in tokens)
        i, last = 0, len(tokens) - 1
        while i < last:
            i = relations.handle_place(state, i) or HANDLERS.get(tokens[i].entry.kind, nouns.handle_noun)(state, i)
        state.start_clause()
