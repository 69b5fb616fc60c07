"""Reads a response sentence by sentence and collects its claims.

The reader goes through the tokens of a sentence from left to right and calls one handler per token, chosen by the token's
kind. Handlers communicate through `ReaderState`: the current `Clause` with its subjects and pending relation, the
noun phrases mentioned so far, and the claims found.
"""

from collections.abc import Sequence, Set
from dataclasses import replace

from vlrm_ray.claims import scope
from vlrm_ray.claims.claim_collector import decided_claims
from vlrm_ray.claims.clause import Clause
from vlrm_ray.claims.function_words import TokenKind
from vlrm_ray.claims.handlers import conjunctions, nouns, predicates, pronouns, quantities, relations, written_text
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.reader_state import Handler, ReaderState
from vlrm_ray.claims.tokens import Token, look_up
from vlrm_ray.types import Claim, ClaimType

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
        self._left_open: tuple[NounPhrase, int] | None = None  # with the number of phrases mentioned up to it
        self.in_open_list = False
        """The items of a list follow whose heading leaves them open: "these shapes are missing:"."""
        self.set_topic(topic)

    def set_topic(self, topic: Sequence[NounPhrase]) -> None:
        """Make noun phrases of a question the subjects of the next sentence, until it names others."""
        subjects = [replace(phrase, start=-1, end=-1) for phrase in topic]
        self.state.mentions += subjects
        if subjects:
            self.state.clause = Clause(
                subjects=subjects, latest=subjects, introduced_by="be", has_verb=True, from_question=True
            )

    def leave_open(self) -> None:
        """Hedge all claims found so far: the response takes them back."""
        claims = self.state.claims.claims
        claims[:] = [replace(claim, hedged=True) for claim in claims]

    def read_pieces(self, pieces: Sequence[Token], words: Set[str], tokens: Sequence[Token]) -> None:
        """Read a sentence part by part, with the scope of its operators.

        Args:
            pieces: the sentence as `tokens.split_pieces` gives it; the last piece closes it.
            words: its words and marks in lower case.
            tokens: its tokens.
        """
        needs_analysis = scope.needs_analysis(words, tokens)
        if not needs_analysis and not self.in_open_list:
            self.read_sentence(tokens)
            return
        *body, end = pieces
        parts = scope.analyze(body, self.state.lexicon) if needs_analysis else [scope.Part(body)]
        if self.in_open_list:
            parts = [replace(part, mode=scope.Mode.OPEN) for part in parts]
        for part in parts:
            self._read_part(part, tokens if part.pieces is body else look_up([*part.pieces, end], self.state.lexicon))
        is_absence = any(part.mode is scope.Mode.ABSENT for part in parts)
        heads_list = end.entry.value == "item" and bool(body) and (body[-1].entry.kind == "colon" or is_absence)
        if heads_list or end.entry.value != "item":
            self.in_open_list = heads_list and any(part.mode is not scope.Mode.ASSERTED for part in parts)

    def _read_part(self, part: scope.Part, tokens: Sequence[Token]) -> None:
        if part.mode is scope.Mode.ABSENT:
            self._deny_last_mention(part)
            return
        collected, mentions = self.state.claims.claims, self.state.mentions
        before, mentioned_before = len(collected), len(mentions)
        self.read_sentence(tokens)
        collected[before:] = _in_scope(collected[before:], part)
        if part.mode is scope.Mode.OPEN and len(mentions) == mentioned_before + 1:
            plain = all(c.type in _EXISTENCE for c in collected[before:])
            is_name = bool(mentions[-1].name) and not mentions[-1].definite and mentions[-1].number is None
            self._left_open = (mentions[-1], len(mentions)) if plain and is_name else None

    def _deny_last_mention(self, part: scope.Part) -> None:
        """Read "there is none": deny what was left open last, if nothing else was mentioned since."""
        if self._left_open is not None and self._left_open[1] == len(self.state.mentions):
            phrase, _ = self._left_open
            start, end = part.pieces[0].start, part.pieces[-1].end
            self.state.claims.add_presence(replace(phrase, start=start, end=end, negated=True, hedged=False))

    def read_sentence(self, tokens: Sequence[Token]) -> None:
        """Read a plain sentence as `tokens.sentences` gives it; the last token closes it."""
        state = self.state
        state.tokens = tokens
        words = [token.text.lower() for token in tokens]
        state.has_contrast = not _CONTRASTS.isdisjoint(words)
        i, last = 0, len(tokens) - 1
        while i < last:
            place = relations.handle_place(state, i) if words[i] in relations.PLACE_STARTS else None
            i = place or HANDLERS.get(tokens[i].entry.kind, nouns.handle_noun)(state, i)
        state.start_clause()


_EXISTENCE = (ClaimType.OBJECT, ClaimType.ATTRIBUTE, ClaimType.STATE)
"""What "the red circle is not left of the star" asserts of the circle besides its denial."""


def _in_scope(claims: Sequence[Claim], part: scope.Part) -> list[Claim]:
    """The claims of a part as its operators leave them."""
    if part.mode is scope.Mode.DENIED:
        decided = decided_claims(claims)
        denied = [replace(c, negated=not c.negated) for c in decided if not c.hedged]
        claims = denied if len(denied) == 1 else [replace(c, hedged=True) for c in claims]
    elif part.mode is scope.Mode.OPEN:
        claims = [replace(c, hedged=True) for c in claims]
    if not part.existence:
        names = {c.subject.name for c in claims if c.negated}
        claims = [c for c in claims if c.negated or c.type not in _EXISTENCE or c.subject.name not in names]
    if part.inexact:
        claims = [replace(c, hedged=True) if _is_inexact(c, part) else c for c in claims]
    return [replace(c, span=part.span) for c in claims] if part.span else list(claims)


def _is_inexact(claim: Claim, part: scope.Part) -> bool:
    """Whether a claim about all objects of a name was made of only some of them."""
    if claim.type is not ClaimType.COUNT and not claim.negated:
        return False
    return any(start <= claim.span[0] < end for start, end in part.inexact)
