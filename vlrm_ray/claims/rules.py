"""The rule-based claim extractor: deterministic, without a model, thousands of responses per second."""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from functools import lru_cache

from vlrm_ray.claims import Extraction, scope
from vlrm_ray.claims.claim_collector import ClaimCollector
from vlrm_ray.claims.lexicon import Lexicon, load_lexicon
from vlrm_ray.claims.questions import ParsedQuestion, parse_question, parse_question_sentence
from vlrm_ray.claims.reader import ResponseReader
from vlrm_ray.claims.tokens import Token, look_up, split_pieces
from vlrm_ray.types import Claim, ClaimType, Noun

MAX_CHARACTERS = 20_000
"""Responses and questions are cut to this length."""
_POSITIVE_ANSWERS = frozenset({"certainly", "indeed", "absolutely", "definitely", "yep", "yeah"})
_NEGATIVE_ANSWERS = frozenset({"nope", "nah"})
_AFTER_ANSWER = frozenset({"comma", "end", "colon", "clause_break"})
_PLAIN_TEXT = frozenset({"word", "quote", "number", "content", "uncheckable", "vague"})
_STATING = frozenset({"be", "verb", "there", "activity", "relation_verb", "text_verb", "hedge", "relation"})
"""Token kinds of sentences that state something by themselves, unlike a bare answer."""
_SAYING = frozenset({"be", "there", "not", "verb"})
"""Token kinds of denials that need no question: "there is nobody", unlike "nobody"."""
_STANDING_FOR_ANSWER = frozenset({"it", "this", "that", "they"})


class RuleExtractor:
    """The rule-based extractor. It caches the claims of recent responses.

    Args:
        lexicon: nouns, attributes and function words; by default the one of this package.
    """

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self.lexicon = lexicon or load_lexicon()
        self._parse_question = lru_cache(maxsize=4096)(self._parse_question_uncached)
        self._claims = lru_cache(maxsize=4096)(self._claims_uncached)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without the caches."""
        return RuleExtractor, () if self.lexicon is load_lexicon() else (self.lexicon,)

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """See `Extractor`."""
        return self._claims(response[:MAX_CHARACTERS], question[:MAX_CHARACTERS])

    def claims_batch(self, responses: Sequence[tuple[str, str]]) -> list[Extraction]:
        """See `Extractor`."""
        return [Extraction(self.claims(*pair), len(pair[0]) <= MAX_CHARACTERS) for pair in responses]

    def _parse_question_uncached(self, question: str) -> ParsedQuestion:
        return parse_question(question, self.lexicon)

    def _claims_uncached(self, response: str, question: str) -> tuple[Claim, ...]:
        parsed = self._parse_question(question) if question else ParsedQuestion()
        reader = ResponseReader(self.lexicon, parsed.topic)
        sentences = scope.split_at_corrections(split_pieces(response), response)
        return read_response(
            sentences, parsed, reader, lambda p, words, tokens, _: reader.read_pieces(p, words, tokens)
        )


ReadSentence = Callable[[list[Token], Set[str], list[Token], ParsedQuestion], None]
"""Reads a sentence, given its pieces, its words and marks in lower case, its tokens, and the question that it answers."""


def read_response(
    sentences: Iterable[tuple[list[Token], bool]],
    question: ParsedQuestion,
    reader: ResponseReader,
    read_sentence: ReadSentence,
) -> tuple[Claim, ...]:
    """The claims of a response: its bare answers, retractions and questions are read here, all else by `read_sentence`.

    Args:
        sentences: the sentences, each with whether it takes back what was said before; see `scope.split_at_corrections`.
        question: the question that the response answers.
        reader: collects the claims.
        read_sentence: reads a sentence that states something, and adds its claims to those of `reader`.
    """
    lexicon, claims = reader.state.lexicon, reader.state.claims
    for pieces, takes_back in sentences:
        if pieces[-1].entry.value == "?":
            question = parse_question_sentence(pieces, lexicon)
            reader.set_topic(question.topic)
            continue
        tokens = look_up(pieces, lexicon)
        words = {p.text.lower() for p in pieces}
        if "there" in words:
            claims.totals.append((pieces[0].start, pieces[-1].end))
        if takes_back or scope.retracts(words, pieces, lexicon):
            reader.leave_open()
        if question.deniable and scope.is_absence(words, pieces[:-1], lexicon):
            span = (pieces[0].start, pieces[-2].end)
            claims.extend(replace(c, span=span) for c in question.answered(yes=False))
            continue
        rest = read_answer(tokens, question, claims)
        if rest is not tokens:
            question = ParsedQuestion(topic=question.topic)
            pieces = [p for p in pieces if p.start >= rest[0].start]
        collected = claims.claims
        before = len(collected)
        read_sentence(pieces, words, rest, question)
        if question.restricts and _SAYING.isdisjoint(t.entry.kind for t in rest):
            collected[before:] = [_without_denial(c) for c in collected[before:]]
        if question.asks_for_name and not before and _is_bare_answer(rest):
            collected[before:] = [replace(c, hedged=True) for c in collected[before:]]
    return claims.unique()


def _without_denial(claim: Claim) -> Claim:
    """A claim, left open if it denies an object: "nobody", to "who is on the couch?", denies nobody elsewhere."""
    return replace(claim, hedged=True) if claim.negated and claim.type is ClaimType.OBJECT else claim


def _is_bare_answer(tokens: Sequence[Token]) -> bool:
    """Whether a sentence only names what was asked for: "an apple", "it is an apple"."""
    kinds = {t.entry.kind for t in tokens}
    return kinds.isdisjoint(_STATING) or tokens[0].text.lower() in _STANDING_FOR_ANSWER


def read_answer(sentence: list[Token], question: ParsedQuestion, claims: ClaimCollector) -> list[Token]:
    """Read a bare answer at the start of a sentence: "yes", "no", or the text that the question asks for.

    Returns:
        The rest of the sentence, or `sentence` itself if it starts with no bare answer.
    """
    has_label = len(sentence) > 2 and sentence[1].entry.kind == "colon" and not sentence[0].entry.noun
    start = 2 if has_label else 0
    first, following = sentence[start], sentence[min(start + 1, len(sentence) - 1)]
    word, ends = first.text.lower(), following.entry.kind in _AFTER_ANSWER
    is_yes = word == "yes" or (word in _POSITIVE_ANSWERS and following.entry.kind == "end")
    if is_yes or (word == "no" and ends) or (word in _NEGATIVE_ANSWERS and ends):
        span = (first.start, first.end)
        claims.extend(replace(claim, span=span) for claim in question.answered(yes=is_yes))
        return sentence[start + 1 :]
    answer = sentence[start:-1]
    is_name = len(answer) > 1 and answer[0].text == "The" and all(t.text[0].isupper() for t in answer)
    is_plain = all(t.entry.kind in _PLAIN_TEXT for t in answer[is_name:])
    if question.asks_for_text and answer and is_plain:
        text = " ".join(t.text for t in answer)
        carrier = question.topic[0].name if question.topic else "text"
        claims.add(ClaimType.TEXT, Noun(carrier), (first.start, sentence[-1].start), text)
        return sentence[-1:]
    return sentence
