"""The claim extractor on spaCy's dependency parse.

Sentences that state something are read by their parse. The rules of the parent package read the rest: short answers, lists,
and sentences in whose scope analysis something is denied, left open or said more simply.
"""

from collections.abc import Sequence, Set
from functools import lru_cache

from vlrm_ray.claims import Extraction, scope
from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon, load_lexicon
from vlrm_ray.claims.parse.pipeline import Parser, split_words
from vlrm_ray.claims.parse.reader import ParsedReader
from vlrm_ray.claims.parse.sentence import Sentence
from vlrm_ray.claims.questions import ParsedQuestion, parse_question
from vlrm_ray.claims.reader import ResponseReader
from vlrm_ray.claims.rules import MAX_CHARACTERS, read_response
from vlrm_ray.claims.tokens import Token, look_up, split_pieces
from vlrm_ray.types import Claim

MAX_WORDS = 150
"""Longer sentences are read by the rules."""
_SHORT = 5
"""Pieces of an answer that may rest on its question, with the piece that closes it. The rules read it."""
_VERBS = frozenset({"VB", "VBZ", "VBP", "VBD", "VBG", "VBN", "MD"})
_QUANTIFIERS = frozenset({"double", "triple", "both"})
_NEGATIONS = frozenset({"not", "no", "n't", "never", "nothing", "neither", "isn't", "aren't", "only", "would"})
_PARTITIVES = frozenset({"none", "some", "many", "several", "few"})
_SIDES = frozenset({"side", "sides", "end", "hand"})
_LABELS = frozenset({"content", "uncheckable", "word", "vague", "determiner", "and"})
_SENTENCE_STARTS = frozenset({"determiner", "number", "pronoun", "there", "approximate"})
_STATING = frozenset({"be", "relation_verb", "activity", "verb"})
"""Kinds of tokens of a label, of the first word of a sentence after it, and of a verb that such a sentence has."""
_DOUBTFUL = frozenset({
    "false", "wrong", "incorrect", "untrue", "missing", "absent", "invisible", "hypothesis", "claim", "statement", "assumption", "guess",
    "rumor", "question", "example", "hallucination", "error", "mistake", "myth", "fiction", "prompt", "hypothetical", "inaccurate", "unlikely",
    "unseen", "opposite",
})  # fmt: skip
"""Words of labels after which a sentence need not be true."""
_PLACES = frozenset({"relation", "skip", "preposition"})
"""Kinds of the first token of an answer such as "to the left of the cat"."""
_ABSENT = frozenset({"missing", "absent", "invisible"})
_LIST_MARKS = frozenset({"colon", "open_bracket"})
_LIST_TEXTS = frozenset({"×", "|", "=", "+", "✓", "✔", "✅", "✗", "✘", "❌"})


class ParseExtractor:
    """The extractor on spaCy's parse. The pipeline is loaded with the first response.

    Args:
        lexicon: nouns, attributes and function words; by default the one of this package.
    """

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self.lexicon = lexicon or load_lexicon()
        self._parser = Parser(self.lexicon)
        self._question = lru_cache(maxsize=4096)(lambda question: parse_question(question, self.lexicon))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without the pipeline and the caches."""
        return ParseExtractor, () if self.lexicon is load_lexicon() else (self.lexicon,)

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """See `Extractor`."""
        return self.claims_batch([(response, question)])[0].claims

    def claims_batch(self, responses: Sequence[tuple[str, str]]) -> list[Extraction]:
        """See `Extractor`. All sentences are parsed as one batch; responses that repeat are read once."""
        unique = dict.fromkeys(
            (response[:MAX_CHARACTERS], question[:MAX_CHARACTERS]) for response, question in responses
        )
        sentences = {
            r: [(part, back) for found, back in scope.split_at_corrections(split_pieces(r), r) for part in self._unlabelled(found)]
            for r, _ in unique
        }  # fmt: skip
        pieces = (p for found in sentences.values() for p, _ in found if 2 < len(p) <= MAX_WORDS)
        self._parser.parse(split_words(p, self.lexicon) for p in pieces)
        claims = {pair: self._read(sentences[pair[0]], pair[1]) for pair in unique}
        return [
            Extraction(claims[response[:MAX_CHARACTERS], question[:MAX_CHARACTERS]], len(response) <= MAX_CHARACTERS)
            for response, question in responses
        ]

    def _unlabelled(self, pieces: list[Token]) -> list[list[Token]]:
        """A sentence and the noun that labels it as two: "Pedestrians: Several people are walking." Other labels are left out.

        Only whole sentences are parted.
        """
        colon = next((i for i, p in enumerate(pieces[: _SHORT + 1]) if p.entry.kind == "colon"), 0)
        rest = pieces[colon + 1 :]
        if not colon or len(rest) <= _SHORT or not rest[0].text[:1].isupper():
            return [pieces]
        label, said = look_up(pieces[:colon], self.lexicon), look_up(rest, self.lexicon)
        is_label = {t.entry.kind for t in label} <= _LABELS and _DOUBTFUL.isdisjoint(t.text.lower() for t in label)
        kinds = [t.entry.kind for t in said]
        starts = said[0].entry.kind in _SENTENCE_STARTS
        if not is_label or not starts or _STATING.isdisjoint(kinds) or not _LIST_MARKS.isdisjoint(kinds):
            return [pieces]
        if not label[-1].entry.noun:
            return [rest]  # "Foreground: A man is sitting on a bench."
        mark = pieces[colon]
        return [[*pieces[:colon], Token(mark.text, Entry("end"), mark.start, mark.end)], rest]

    def _read(self, sentences: Sequence[tuple[list[Token], bool]], question: str) -> tuple[Claim, ...]:
        asked = self._question(question) if question else ParsedQuestion()
        rules = ResponseReader(self.lexicon, asked.topic)
        reader = ParsedReader(rules.state.claims, rules.state.mentions)

        def read(pieces: list[Token], words: Set[str], tokens: list[Token], answered: ParsedQuestion) -> None:
            prose = None if rules.in_open_list else self._prose(pieces, words, tokens, bool(answered.topic))
            if prose is not None:
                rules.state.start_clause()
                reader.read(prose)
            elif (plain := _without_ones(pieces, self.lexicon)) is not pieces:
                rules.read_pieces(plain, words, look_up(plain, self.lexicon))
            else:
                rules.read_pieces(pieces, words, tokens)
            rules.in_open_list = rules.in_open_list or _heads_absent(pieces, tokens)

        return read_response(sentences, asked, rules, read)

    def _prose(
        self, pieces: Sequence[Token], words: Set[str], tokens: Sequence[Token], answers: bool
    ) -> Sentence | None:
        """The parsed sentence, unless it is a list, a short answer, or something that needs an analysis of scope."""
        if len(pieces) <= (_SHORT if answers else 1) or len(pieces) > MAX_WORDS:
            return None
        if any(t.entry.kind in _LIST_MARKS or t.text in _LIST_TEXTS for t in tokens[:-1]):
            return None
        if scope.needs_analysis(words, tokens):
            parts = scope.analyze(_simplified(pieces[:-1]), self.lexicon)
            if any(part.mode is not scope.Mode.ASSERTED or part.span is not None for part in parts):
                return None
        split = split_words(pieces, self.lexicon)
        parse = self._parser.of(split)
        is_short = any(p.entry.kind == "comma" for p in pieces) or (answers and tokens[0].entry.kind in _PLACES)
        return None if is_short and _VERBS.isdisjoint(parse.tags) else Sentence(split, parse, self.lexicon)


def _heads_absent(pieces: Sequence[Token], tokens: Sequence[Token]) -> bool:
    """Whether a sentence is the heading, without a colon, of a list of what is not there: "Not visible"."""
    is_heading = pieces[-1].entry.value == "item" and len(tokens) <= _SHORT
    starts = tokens[0].text.lower() in _ABSENT or tokens[0].entry.kind == "not"
    return is_heading and starts and not any(t.entry.noun for t in tokens)


def _without_ones(pieces: list[Token], lexicon: Lexicon) -> list[Token]:
    """The pieces without brackets of "one" and a color: "2 cats (one black, one orange)" has no orange; `pieces` if there is none."""
    kept, opening = list[Token](), -1
    for piece in pieces:
        opening = len(kept) if piece.entry.kind == "open_bracket" else opening
        kept.append(piece)
        if piece.entry.kind == "close_bracket" and opening >= 0:
            inside = [p.text.lower() for p in kept[opening + 1 : -1]]
            words = [w for w in inside if w not in (",", ";", "and", "the", "other")]
            colors = [lexicon.entries.get(w, UNKNOWN).attribute in lexicon.colors for w in words if w != "one"]
            if "one" in words and all(colors):
                del kept[opening:]
            opening = -1
    return kept if len(kept) < len(pieces) else pieces


def _simplified(pieces: Sequence[Token]) -> list[Token]:
    """The pieces with plain words for some that the parse reads better than the scope analysis: "both", "without"."""
    lower = [p.text.lower() for p in pieces]
    following = [*lower[1:], ""]
    replaced = dict.fromkeys(_QUANTIFIERS, "the") | {"doing": "making"}
    if "either" in lower and following[lower.index("either")] in _SIDES:
        replaced["either"] = "the"
    if lower.count("without") == 1 and _NEGATIONS.isdisjoint(lower):
        replaced["without"] = "with"
    return [
        p._replace(text=replaced.get(word, "the" if word in _PARTITIVES and after == "of" else p.text))
        for p, word, after in zip(pieces, lower, following, strict=True)
    ]
