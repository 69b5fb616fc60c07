"""A parsed sentence: its words, their place in the tree, and the phrases of the lexicon among them."""

from collections.abc import Iterator, Sequence

from vlrm_ray.claims.lexicon import UNKNOWN, Entry, Lexicon
from vlrm_ray.claims.parse.pipeline import Parse
from vlrm_ray.claims.tokens import Token

NOMINAL = frozenset({"NN", "NNS", "NNP", "NNPS"})
SUBJECTS = frozenset({"nsubj", "nsubjpass"})


class Sentence:
    """A parsed sentence.

    Attributes:
        words: its words.
        lower: their text in lower case.
        tags: their parts of speech.
        deps: their relations to their heads.
        heads: the indices of their heads.
        phrases: first word of each lexicon phrase, with the number of its words and its meaning. Each word that starts no
            longer phrase is a phrase of its own.
        inside: first word of the lexicon phrase that a word belongs to.
    """

    def __init__(self, words: Sequence[Token], parse: Parse, lexicon: Lexicon) -> None:
        self.words, self.lexicon = words, lexicon
        self.lower = [w.text.lower() for w in words]
        self.tags, self.deps, self.heads = parse.tags, list(parse.deps), list(parse.heads)
        keys = tuple([low if w.entry is UNKNOWN else "" for w, low in zip(words, self.lower, strict=True)])
        self.phrases: dict[int, tuple[int, Entry]] = {}
        self.inside = [0] * len(words)
        for i, size, entry in lexicon.phrases(keys):
            self.phrases[i] = size, entry if entry is not UNKNOWN else words[i].entry
            self.inside[i : i + size] = [i] * size
        self.tags = tuple(
            [
                t.replace("P", "") if t.startswith("NNP") and w.text[0].islower() else t
                for t, w in zip(self.tags, words, strict=True)
            ]
        )
        self._repair()
        self._part_clauses()
        self._children: list[list[int]] = [[] for _ in words]
        for i, head in enumerate(self.heads):
            if head != i:
                self._children[head].append(i)

    def _repair(self) -> None:
        """Attach participles that were taken for the head of a compound: "a giraffe standing in an enclosure"."""
        for i in range(1, len(self.words)):
            if (
                self.deps[i - 1] != "compound"
                or self.heads[i - 1] != i
                or self.tags[i] not in ("VBG", "VBN", "NN", "VBZ", "VBD", "VBP")
            ):
                continue
            if self.tags[i] in ("VBZ", "VBD", "VBP"):  # "an umbrella leans"
                self._move_modifiers(i)
                if self.deps[i] in ("pobj", "dobj") and (root := self._root(i)) != i:  # "a girl with long hair smiles"
                    self.heads[i - 1], self.deps[i - 1] = self.heads[i], self.deps[i]
                    self.heads[i], self.deps[i] = root, "acl"
                else:
                    self.deps[i - 1] = "nsubj"
                continue
            if self.entry(i).kind in ("activity", "relation_verb") and not self.entry(i).noun:
                top = self.heads[i]
                self.heads[i - 1], self.deps[i - 1] = (top if top != i else i - 1), self.deps[i]
                self._move_modifiers(i)
                self.heads[i], self.deps[i] = i - 1, "acl"

    def _part_clauses(self) -> None:
        """Give verbs their subjects that were taken for a further object: "people sit on benches and dogs run"."""
        for i in range(2, len(self.words)):
            noun, above = i - 1, self.heads[i - 1]
            if (
                self.deps[i] in ("conj", "advcl", "ccomp")
                and self.tags[i] in ("VBP", "VBZ", "VBD")
                and self.deps[noun] == "conj"
                and above != noun
                and self.deps[above] in ("pobj", "dobj")
                and not any(h == i and d in SUBJECTS for h, d in zip(self.heads, self.deps, strict=True))
            ):
                self.heads[noun], self.deps[noun] = i, "nsubj"

    def _root(self, i: int) -> int:
        while self.heads[i] != i:
            i = self.heads[i]
        return i

    def _move_modifiers(self, i: int) -> None:
        """Give the modifiers before verb `i` to the noun right before it."""
        for word, head in enumerate(self.heads):
            if head == i and word < i - 1 and self.deps[word] in ("det", "amod", "compound", "nummod", "poss", "nmod"):
                self.heads[word] = i - 1

    def __len__(self) -> int:
        return len(self.words)

    def children(self, i: int) -> list[int]:
        """Indices of the words whose head is word `i`, in order."""
        return self._children[i]

    def with_dep(self, i: int, *deps: str) -> list[int]:
        """The children of word `i` with one of some relations."""
        return [c for c in self._children[i] if self.deps[c] in deps]

    def entry(self, i: int) -> Entry:
        """Meaning of the lexicon phrase that word `i` belongs to."""
        return self.phrases[self.inside[i]][1]

    def phrase_end(self, i: int) -> int:
        """Index after the lexicon phrase that word `i` belongs to."""
        start = self.inside[i]
        return start + self.phrases[start][0]

    def ancestors(self, i: int) -> Iterator[int]:
        """The heads above word `i`, nearest first."""
        while self.heads[i] != i:
            i = self.heads[i]
            yield i

    def subtree(self, i: int) -> Iterator[int]:
        """Word `i` and all words below it, in no order."""
        stack = [i]
        while stack:
            word = stack.pop()
            yield word
            stack += self._children[word]

    def is_verb(self, i: int) -> bool:
        """Whether the tagger calls word `i` a verb."""
        return self.tags[i].startswith("VB") or self.deps[i] == "acl"

    def span(self, *indices: int) -> tuple[int, int]:
        """Characters from the first of some words to the last."""
        return min(self.words[i].start for i in indices), max(self.words[i].end for i in indices)
