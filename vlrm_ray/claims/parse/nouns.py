"""Finds the noun phrases of a parsed sentence, and which ones are coordinated."""

from dataclasses import replace

from vlrm_ray.claims.function_words import IMAGE_NOUNS, IMAGE_REGIONS
from vlrm_ray.claims.lexicon import UNKNOWN, Entry, singular_of
from vlrm_ray.claims.noun_phrases import NounPhrase, parse_noun_phrase
from vlrm_ray.claims.parse.sentence import NOMINAL, Sentence
from vlrm_ray.claims.tokens import Token, is_capitalized, is_in_lower_case

_BEFORE_NOUN = frozenset(
    {"det", "amod", "compound", "nummod", "nmod", "predet", "quantmod", "advmod", "neg", "punct", "preconj", "cc", "conj", "npadvmod", "poss", "dep"}
)  # fmt: skip
_HEAD_ROLES = frozenset(
    {"nsubj", "nsubjpass", "dobj", "pobj", "attr", "conj", "appos", "ROOT", "dative", "oprd", "dep"}
)
_MODIFYING = frozenset({"compound", "nmod", "amod", "nummod", "det"})
_AMOUNTS = frozenset({"amount", "number", "determiner"})
_NO_HEAD = frozenset(
    {
        "relation",
        "pronoun",
        "relative",
        "not",
        "there",
        "negator",
        "skip",
        "adverb",
        "more",
        "than",
        "be",
        "quote",
        "comma",
        "hedge",
    }
)
_END = Token("", Entry("end"), 0, 0)
_MODIFIER, _HEAD = Entry("vague"), UNKNOWN
_INDEFINITE = frozenset(
    {"one", "ones", "someone", "somebody", "everyone", "everybody", "anyone", "anybody", "something", "somewhere"}
)
_MEASURES = (
    "year-old",
    "years-old",
    "month-old",
    "week-old",
    "day-old",
    "story",
    "storey",
    "legged",
    "wheeled",
    "sided",
    "foot-",
    "feet-",
)
"""Beginnings of words after a number that counts none of the objects."""
_DECADES = frozenset(
    {"teens", "twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties"}
)
_MAX_LENGTH = 12


class NounFinder:
    """The noun phrases of a sentence.

    Attributes:
        at: the phrase of each word that is the head of one, also of an amount ("group" in "a group of people").
        first: first word of the phrase of each of these words.
        starting: head of the phrase that starts at a word.
        order: heads in the order of the text, without those of amounts.
    """

    def __init__(self, sentence: Sentence, taken: frozenset[int]) -> None:
        """Find the phrases; `taken` are words of written text, which belong to none."""
        self.sentence, self.taken = sentence, taken
        self.at: dict[int, NounPhrase] = {}
        self.first: dict[int, int] = {}
        self.starting: dict[int, int] = {}
        self.order: list[int] = []
        covered = 0
        for i in range(len(sentence)):
            if i >= covered and self._is_head(i):
                self._add(i)
                covered = i + 1

    def _is_head(self, i: int) -> bool:
        """Whether word `i` is the last word of a noun phrase."""
        s, entry, last = self.sentence, self.sentence.entry(i), self.sentence.phrase_end(i) - 1
        if i in self.taken:
            return False
        if entry.kind in _NO_HEAD and not entry.noun:
            return entry.kind == "negator" and entry.value == "nobody" and i == last
        if i < last and entry.kind in ("content", "text_noun"):
            return False
        if " " in s.lower[i] and entry.noun:
            return not (s.deps[i] in ("compound", "nmod") and s.heads[i] == i + 1 and s.tags[i + 1] in NOMINAL)
        if entry.kind == "text_noun":
            return s.lower[i].rstrip("s") in ("text", "number", "letter", "word")
        if entry.noun and not entry.attribute and self._ends_item(i):
            return True
        if s.lower[i] in _INDEFINITE or self._modifies_next(i) or self._is_decade(i) or self.is_comparative(i):
            return False
        if s.tags[i] in NOMINAL:
            return s.deps[i] != "npadvmod" or bool(entry.noun)
        return self._is_used_as_noun(i) or self._is_known_noun(i)

    def _is_decade(self, i: int) -> bool:
        """Whether a word tells somebody's age: "in his forties"."""
        s = self.sentence
        is_owned = any(s.tags[j] == "PRP$" for j in range(max(0, i - 2), i))
        return is_owned and (s.lower[i] in _DECADES or (s.lower[i][:1].isdigit() and s.lower[i].endswith("0s")))

    def is_comparative(self, i: int) -> bool:
        """Whether a comparative stands for one of the things that follow: "the taller of the two men"."""
        s, word = self.sentence, self.sentence.lower[i]
        if i + 1 >= len(s) or s.lower[i + 1] != "of" or s.entry(i).kind != "word" or not word.endswith(("er", "est")):
            return False
        stem = word.removesuffix("r").removesuffix("st")
        stems = (stem, stem.removesuffix("e"), stem.removesuffix("e")[:-1])
        return any(s.lexicon.entries.get(form, UNKNOWN).attribute for form in stems)

    def _ends_item(self, i: int) -> bool:
        """Whether an item of a coordination of denied phrases ends here: "no oven and no microwave"."""
        s = self.sentence
        return (
            i > 0
            and i + 2 < len(s)
            and s.lower[i - 1] == s.lower[i + 2] == "no"
            and s.entry(i + 1).kind in ("and", "or")
        )

    def _modifies_next(self, i: int) -> bool:
        """Whether a noun or adjective belongs to the noun after it: "coffee" in "coffee table"."""
        s = self.sentence
        if i + 1 >= len(s) or i + 1 in self.taken or s.heads[i] <= i or s.deps[i] not in _MODIFYING:
            return False
        if s.entry(i + 1).kind in ("and", "or", "comma") and s.tags[i] in NOMINAL:
            return False
        return s.tags[i + 1] in NOMINAL or s.heads[i] != i + 1 or bool(s.entry(i + 1).noun)

    def _is_known_noun(self, i: int) -> bool:
        """Whether a noun of the lexicon that was tagged as another part of speech stands where a noun may."""
        s, entry = self.sentence, self.sentence.entry(i)
        if not entry.noun:
            return False
        if s.deps[i] == "conj" and s.tags[s.heads[i]] in NOMINAL:
            return True
        if not entry.attribute and entry.kind != "activity":
            return s.deps[i] in _HEAD_ROLES and (not s.is_verb(i) or (i > 0 and s.lexicon.is_modifier(s.lower[i - 1])))
        return s.deps[i] in ("dobj", "pobj", "nsubj", "attr") and i > 0 and s.tags[i - 1] in ("DT", "CD", "JJ")

    def _is_used_as_noun(self, i: int) -> bool:
        """Whether a word that was tagged as an adjective or participle stands where a noun must: "in a stable"."""
        s, entry = self.sentence, self.sentence.entry(i)
        if s.tags[i] not in ("JJ", "VBG", "VBN") or entry.attribute or entry.kind not in ("word", "content"):
            return False
        ends = i + 1 == len(s) or s.tags[i + 1] in ("IN", "CC", ".", ",", "VBZ", "VBP")
        return s.deps[i] in ("pobj", "dobj", "nsubj", "conj", "ROOT") and ends and i > 0 and (
            s.tags[i - 1] in ("DT", "CD", "PRP$") or (s.tags[i - 1] == "JJ" and s.deps[i] != "ROOT")
        )  # fmt: skip

    def _add(self, i: int) -> None:
        """Add the phrase with head `i`."""
        start, amount = self._start(i)
        phrase = self._phrase(start, i)
        if amount is not None:
            self.at[amount], self.first[amount] = phrase, start
            if phrase.number is not None and self.sentence.entry(amount).kind == "amount":
                phrase.number = None
        self.at[i], self.first[i] = phrase, start
        self.starting.setdefault(start, i)
        self.order.append(i)

    def _start(self, i: int) -> tuple[int, int | None]:
        """First word of the phrase with head `i`, and the head of the amount that it contains."""
        s, start, amount = self.sentence, self._left_edge(i), None
        for _ in range(2):
            opening = s.inside[start - 1] if start else 0
            is_number = start > 1 and s.lower[start - 2 : start] == ["number", "of"]
            if not is_number and (not start or s.lower[start - 1] != "of" or s.entry(start - 1).kind not in _AMOUNTS):
                break
            opening = start - 2 if is_number else opening
            heads = [w for w in range(opening, start - 1) if s.tags[w] in NOMINAL]
            amount = heads[-1] if heads else amount
            start = self._left_edge(heads[0]) if heads else opening
            start = min(start, opening)
        return start, amount

    def _left_edge(self, i: int) -> int:
        """First of the words before head `i` that modify it."""
        s, start = self.sentence, i
        while start > 0 and i - start < _MAX_LENGTH:
            before = start - 1
            if before in self.taken and s.words[before].entry.kind != "quote":
                break
            if before in self.at or not self._modifies(before, i):
                break
            start = before
        while start < i and (
            s.deps[start] in ("punct", "cc") or s.words[start].entry.kind in ("comma", "open_bracket", "close_bracket")
        ):
            start += 1
        return start

    def _modifies(self, word: int, head: int) -> bool:
        """Whether a word before a noun belongs to its phrase."""
        s = self.sentence
        if s.entry(word).kind in (
            "relation",
            "be",
            "genitive",
            "relative",
            "pronoun",
            "colon",
            "clause_break",
            "but",
            "open_bracket",
        ):
            return s.entry(word).kind == "relation" and s.deps[word] in ("quantmod",)
        if s.words[word].entry.kind == "quote":
            return s.heads[word] == head or word + 1 == head
        path = word
        for _ in range(5):
            above = s.heads[path]
            if above == head:
                if s.deps[path] == "poss" and s.tags[path] != "PRP$":
                    return False
                return (s.deps[path] in _BEFORE_NOUN and s.tags[word] not in ("IN", "MD", "EX")) or s.entry(
                    word
                ).kind == "determiner"
            if above == path or above > head or (above < word and s.deps[path] not in ("cc", "punct", "conj")):
                break
            path = above
        return s.lower[word] in ("a", "an", "the") or (
            word + 1 == head
            and (
                s.tags[word] in ("JJ", "CD", "DT", "PRP$") or (s.tags[word] == "VBN" and s.entry(word).attribute != "")
            )
            and s.deps[word] not in ("acomp", "nsubj")
        )

    def _phrase(self, start: int, i: int) -> NounPhrase:
        s = self.sentence
        tokens = self._tokens(start, i)
        phrase = parse_noun_phrase(tokens, 0, s.lexicon, loose=True)
        last = s.words[i]
        if phrase is None or phrase.end < last.end:
            known = phrase
            phrase = self._plain_phrase(i)
            if known is not None:
                phrase = replace(phrase, number=known.number, definite=known.definite, negated=known.negated)
            phrase.start, phrase.end = s.words[start].start, last.end
        if s.entry(i).kind == "negator":
            return NounPhrase("person", s.words[s.inside[i]].start, last.end, negated=True, hedged=True)
        is_unknown = phrase.bare and tokens[-2].entry is UNKNOWN
        if s.tags[i] in ("NNP", "NNPS") and i and (is_unknown or self._is_written_as_name(i)):
            phrase.name = ""  # the name of a place or a person
        if s.tags[i] == "NNS" or s.tags[i] == "NNPS":
            phrase.plural = True
        if not phrase.name:
            self._name_region(phrase, i)
        return phrase

    def _is_written_as_name(self, i: int) -> bool:
        """Whether a noun is capitalized in a sentence that is not: "the Chicago Bears"."""
        words = self.sentence.words
        return is_capitalized(words[i].text) and is_in_lower_case(w.text for w in words)

    def _name_region(self, phrase: NounPhrase, i: int) -> None:
        """Mark a phrase that names the image, or a place in it, as known."""
        if self.sentence.lower[i] in IMAGE_NOUNS or self.sentence.lower[i] in IMAGE_REGIONS:
            phrase.definite = True

    def _plain_phrase(self, i: int) -> NounPhrase:
        """A phrase of the head and the nouns right before it."""
        s, start = self.sentence, i
        while (
            start and s.deps[start - 1] == "compound" and s.heads[start - 1] == i and s.inside[start - 1] != s.inside[i]
        ):
            start -= 1
        if s.entry(i).noun:
            return NounPhrase(s.entry(i).noun, s.words[i].start, s.words[i].end, plural=s.entry(i).plural)
        if s.entry(i).kind == "uncheckable":
            return NounPhrase("", s.words[i].start, s.words[i].end)
        last = s.lower[i].rpartition(" ")[2] if s.entry(i).kind == "text_noun" else s.lower[i]
        name, plural = singular_of(last)
        return NounPhrase(" ".join([*s.lower[start:i], name]), s.words[i].start, s.words[i].end, plural=plural)

    def _tokens(self, start: int, i: int) -> list[Token]:
        """The words of a phrase as tokens of the lexicon, with unknown adjectives marked, closed by an end."""
        s, tokens, word = self.sentence, [], start
        while word <= i:
            size, entry = s.phrases.get(word, (1, UNKNOWN))
            if word + size > i + 1:
                size, entry = 1, s.lexicon.entries.get(s.lower[word], UNKNOWN)
            first = s.words[word]
            text = first.text if size == 1 else " ".join(w.text for w in s.words[word : word + size])
            tokens.append(Token(text, self._meaning(word, i, size, entry), first.start, s.words[word + size - 1].end))
            word += size
        return [*tokens, _END]

    def _meaning(self, word: int, head: int, size: int, entry: Entry) -> Entry:
        s = self.sentence
        if entry.kind == "approximate" and s.tags[word + 1] != "CD":
            return Entry("determiner")
        if entry.kind == "number" and self._measures(word, head):
            return _MODIFIER
        if word + size == head + 1:
            return (
                entry
                if entry.noun or entry.kind in ("uncheckable", "content", "word")
                else Entry("content", noun=singular_of(s.lower[head])[0])
            )
        if entry.attribute and entry.kind in ("content", "activity"):
            return entry
        is_modifier = s.tags[word] in ("JJ", "JJR", "JJS", "VBN", "VBG") and not entry.noun
        if is_modifier and entry.kind in ("word", "verb", "text_verb", "skip", "preposition", "relation_verb"):
            return _MODIFIER
        if entry is UNKNOWN and s.tags[word] == "NN" and s.deps[word] == "compound" and size == 1:
            return Entry("content", noun=s.lower[word])  # "a gas stove"
        return _HEAD if s.tags[word] == "NN" and entry.kind in ("verb", "text_verb", "vague") else entry

    def _measures(self, word: int, head: int) -> bool:
        """Whether a number counts no objects of a phrase: "a 10-year-old girl", "a three-legged stool"."""
        s, above = self.sentence, self.sentence.heads[word]
        is_inside = word < above < head and s.tags[above] in ("JJ", "NN") and not s.entry(above).noun
        return word + 1 < head + 1 and (is_inside or s.lower[word + 1].startswith(_MEASURES))

    def conjuncts(self, i: int) -> list[int]:
        """Heads coordinated with phrase `i`, itself first; those that follow it only."""
        found, queue = [i], [i]
        s = self.sentence
        while queue:
            for c in s.with_dep(queue.pop(0), "conj", "appos"):
                is_item = s.deps[c] == "conj" or self._is_listed(c)
                if c in self.at and c > i and is_item and self.at[c] is not self.at[i]:
                    found.append(c)
                    queue.append(c)
        return sorted(found)

    def _is_listed(self, i: int) -> bool:
        """Whether the parser took an item of a list for an apposition: "a plate, a fork, and a knife"."""
        s = self.sentence
        return any(s.deps[c] == "cc" for c in s.children(i)) or any(c in self.at for c in s.with_dep(i, "conj"))

    def ending_at(self, i: int) -> int | None:
        """Head of the phrase whose last word is `i`."""
        return i if i in self.first else None

    def starting_at(self, i: int) -> int | None:
        """Head of the phrase that starts at word `i`, stepping over adverbs."""
        s = self.sentence
        while (
            i < len(s)
            and i not in self.starting
            and s.tags[i] in ("RB",)
            and s.entry(i).kind in ("adverb", "word", "vague", "skip")
        ):
            i += 1
        return self.starting.get(i)
