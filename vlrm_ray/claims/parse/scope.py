"""Which words of a parsed sentence are denied, and which are left open: negation, hedges, conditions, reported speech.

An operator applies to the part of the tree below the word that it modifies. The parse gives that part, so a few classes of
words replace the patterns of `vlrm_ray.claims.scope`.
"""

from collections.abc import Iterable, Iterator

from vlrm_ray.claims.parse.sentence import SUBJECTS, Sentence

_OPEN_AUXILIARIES = frozenset({"might", "may", "could", "would", "should", "must", "ought", "'d", "will", "'ll"})
_MODALS = frozenset({"might", "may", "could"})
"""Auxiliaries that leave open whether an indefinite subject is there: "a person may be standing behind the fence"."""
_CONDITIONS = frozenset({"if", "whether", "unless", "lest"})
_SHOWING = frozenset((
    "see", "sees", "seen", "show", "shows", "shown", "showing", "notice", "noticed", "note", "observe", "observed", "reveals", "confirm",
    "depicts", "is", "are", "be", "so", "such", "mean", "means", "captures", "sure", "clear", "certain", "evident", "visible", "add", "adds",
    "know", "confirmed", "mention", "worth", "noting", "noted", "noticing", "looks", "observing", "spot", "spotted",
))  # fmt: skip
"""Words whose complement clause is asserted: "I can see that ...". The complement of any other word is left open."""
_REPORTING = frozenset((
    "say", "says", "said", "claim", "claims", "claimed", "states", "asks", "asked", "imagine", "imagines", "suppose", "assume", "assumes", "assuming",
    "expect", "hope", "hopes", "wish", "wishes", "guess", "doubt", "doubts", "wonder", "wonders", "pretend", "pretends", "believes", "thinks", "want", "wants",
    "mentions", "mentioned", "suggested", "looking for", "described",
))  # fmt: skip
_VAGUE_AMOUNTS = frozenset(
    {
        "most",
        "hardly",
        "barely",
        "scarcely",
        "rarely",
        "usually",
        "typically",
        "normally",
        "generally",
        "often",
        "sometimes",
    }
)
_FALSE = frozenset({"false", "untrue", "wrong", "incorrect", "inaccurate", "true", "correct", "mistaken"})
_AUXILIARIES = frozenset({"VBZ", "VBP", "VBD", "MD"})
_REASONS = frozenset({"as", "because", "since", "although", "though", "while"})
"""Words before a clause that is asserted beside a hedged one: "it seems to be a cook, as he wears an apron"."""
_COPULAS = frozenset({"is", "are", "was", "were", "be", "'s", "'re", "been", "being"})


class Scope:
    """Marks the words of a sentence that are denied or left open.

    Attributes:
        denied: words in the scope of a negation.
        open: words in the scope of a hedge, a condition or reported speech.
        without: words after "without" and the like, of which existence is denied.
    """

    def __init__(self, sentence: Sentence) -> None:
        self.sentence = sentence
        self.denied: set[int] = set()
        self.open: set[int] = set()
        self.without: set[int] = set()
        for i in range(len(sentence)):
            self._apply(i)

    def _apply(self, i: int) -> None:
        s = self.sentence
        lower, kind, value = s.lower[i], s.entry(i).kind, s.entry(i).value
        first = s.inside[i] == i
        if kind == "not" and first and lower != "to" and value != "nobody":
            self._deny(i)
        elif kind == "negator" and first and value in ("with", "others"):
            self._deny_following(i)
        elif lower == "nor" and i + 1 < len(s) and s.tags[i + 1] in _AUXILIARIES:
            self._deny_inverted(i)
        elif lower == "as" and (compared := self._compared_quality(i)) >= 0:
            self.open.add(compared)
        elif (kind == "hedge" and first) or (
            s.deps[i] == "aux" and (lower in _OPEN_AUXILIARIES or self._is_ability(i))
        ):
            self._hedge(i, value)
        elif lower in _CONDITIONS and s.deps[i] in ("mark", "advmod", "prep"):
            self.open.update(self._clause(s.heads[i], i))
        elif lower in _VAGUE_AMOUNTS and s.tags[i] != "NN":
            self.open.update(self._clause(self._governor(i), 0))
        if s.deps[i] == "ccomp" and s.heads[i] < i and not self._shows_text(s.heads[i]):
            self._report(i)
        if s.deps[i] == "ROOT" and s.tags[i] == "VB" and self._is_imperative(i):
            self.open.update(s.subtree(i))

    def _is_ability(self, i: int) -> bool:
        """Whether "can" tells what is possible, unlike in "can be seen"."""
        s = self.sentence
        words = {s.lower[s.heads[i]], *(s.lower[c] for c in s.with_dep(s.heads[i], "acomp"))} - _COPULAS
        return s.lower[i] == "can" and not words & (_SHOWING | {"make", "find", "found", "count", "observed"})

    def _is_imperative(self, i: int) -> bool:
        s = self.sentence
        before = [
            c for c in s.children(i) if c < i and (s.deps[c] in SUBJECTS or s.deps[c] in ("aux", "expl", "csubj"))
        ]
        return not before and s.lower[i] not in _SHOWING and (i == 0 or s.entry(i - 1).kind in ("skip", "comma", "and"))

    def _report(self, i: int) -> None:
        """Leave a complement clause open unless the word above it says that it is so."""
        s, head = self.sentence, self.sentence.heads[i]
        words = {s.lower[head], *(s.lower[c] for c in s.with_dep(head, "acomp", "attr"))}
        if words & _FALSE:
            negated = any(s.entry(c).kind == "not" for c in s.children(head))
            if bool(words & {"true", "correct"}) == negated:
                self.denied.update(s.subtree(i))
        elif not words & _SHOWING or words & _REPORTING:
            self.open.update(s.subtree(i))

    def _shows_text(self, i: int) -> bool:
        """Whether a quotation follows: 'a sign saying "STOP" is visible'."""
        s = self.sentence
        return s.entry(i).kind == "text_verb" and i + 1 < len(s) and s.words[i + 1].entry.kind == "quote"

    def _governor(self, i: int) -> int:
        """The verb above word `i`, or the root."""
        s = self.sentence
        if s.is_verb(i):
            return i
        above = i
        for above in s.ancestors(i):
            if s.is_verb(above) or s.tags[above] == "MD":
                return above
        return above

    def _deny(self, i: int) -> None:
        """The scope of "not": what follows it below the word that it modifies, up to "but" or a new clause."""
        s = self.sentence
        head = s.heads[i]
        if s.is_verb(head) or s.tags[head] == "MD":
            top = self._governor(head)
            self.denied.update(self._until_contrast(i, self._clause(top, i)))
        else:
            self.denied.update(self._until_contrast(i, set(s.subtree(head))))
            follows = i + 1
            while follows < len(s) and s.tags[follows] in ("DT", "RB", "IN", "TO", "JJ", "NN", "NNS", "JJR"):
                self.denied.add(follows)
                follows += 1

    def _deny_inverted(self, i: int) -> None:
        """The scope of "nor" before an auxiliary: "nor does he have gloves"."""
        s = self.sentence
        verb = next((j for j in range(i + 1, len(s)) if s.deps[j] in ("conj", "ROOT") and s.is_verb(j)), -1)
        if verb >= 0:
            self.denied.update(w for w in self._clause(verb, i) if s.deps[w] not in SUBJECTS)

    def _compared_quality(self, i: int) -> int:
        """The size in "as big as a house", which nothing is said to have; -1 if there is none."""
        s, quality = self.sentence, i + 1
        is_pair = s.deps[i] == "advmod" and i + 2 < len(s) and s.lower[i + 2] == "as"
        return quality if is_pair and s.entry(quality).attribute not in s.lexicon.colors else -1

    def _deny_following(self, i: int) -> None:
        """The scope of "without": the nouns that follow, joined by "and", "or" and commas, up to a subject of its own verb."""
        s = self.sentence
        at = s.phrase_end(i)
        subjects = {min(s.subtree(j)) for j in range(at, len(s)) if s.deps[j] in SUBJECTS and j < s.heads[j]}
        while (
            at not in subjects
            and at < len(s)
            and (s.tags[at] in ("DT", "JJ", "NN", "NNS", "CC", "CD", "VBG", "VBN", "JJR", "PRP$") or s.lower[at] == ",")
        ):
            if s.tags[at] == "CC" and s.lower[at] == "but":
                break
            self.without.add(at)
            at += 1

    def _hedge(self, i: int, value: str) -> None:
        """The scope of "perhaps": up to the next comma. That of "might" and "appears": the clause from there on."""
        s = self.sentence
        if value == "adverbs":
            starts_phrase = i > 0 and s.words[i - 1].entry.kind in ("comma", "open_bracket")
            stop = next(
                (j for j in range(i + 1, len(s)) if self._ends_adverb(j) and (starts_phrase or j > i + 1)), len(s)
            )
            self.open.update(range(i, stop))
            return
        top = self._governor(i)
        is_subject = s.deps[top] in ("csubj", "csubjpass") or any(
            s.deps[a] in ("csubj", "csubjpass") for a in s.ancestors(top)
        )
        if is_subject:
            self.open.update(range(i, len(s)))
            return
        conditional = s.lower[i] in ("would", "'d")
        reach = self._clause(top, 0 if conditional else i)
        if s.tags[i] in ("IN", "JJ", "NN", "RB") or len(reach) < 3:
            reach |= self._clause(self._governor(s.heads[i]), i)
        self.open.update(self._until_contrast(i, reach))
        if s.lower[i] in _MODALS or self._is_placed(i):
            subjects = s.with_dep(top, *SUBJECTS)
            self.open.update(subjects, (c for j in subjects for c in s.with_dep(j, "conj")))

    def _is_placed(self, i: int) -> bool:
        """Whether a hedge concerns where something is, and so whether it is there: "a dog seems to be behind the fence"."""
        s = self.sentence
        return any(
            s.lower[c] == "be" and s.with_dep(c, "prep") and not s.with_dep(c, "attr", "acomp")
            for c in s.with_dep(i, "xcomp")
        )

    def _ends_adverb(self, j: int) -> bool:
        return self.sentence.words[j].entry.kind in ("comma", "close_bracket", "clause_break", "end", "colon")

    def _clause(self, top: int, start: int) -> set[int]:
        """Words from `start` on below a verb, without coordinated clauses that have a subject of their own."""
        s, found, stack = self.sentence, set[int](), [top]
        while stack:
            word = stack.pop()
            found.add(word)
            stack += [c for c in s.children(word) if not (word == top and self._is_own_clause(c))]
        return {w for w in found if w >= start}

    def _is_own_clause(self, i: int) -> bool:
        """Whether a word below a verb heads a clause that the verb's operators do not reach."""
        s = self.sentence
        if s.deps[i] not in ("conj", "ccomp", "parataxis", "advcl", "relcl"):
            return False
        has_subject = any(s.deps[c] in SUBJECTS or s.deps[c] == "expl" for c in s.children(i))
        if s.deps[i] == "advcl" and has_subject:
            return any(s.lower[c] in _REASONS for c in s.with_dep(i, "mark") if c < i)
        if s.deps[i] == "conj":
            return (has_subject and s.is_verb(i)) or any(
                s.lower[c] == "but" for c in s.children(s.heads[i]) if s.deps[c] == "cc"
            )
        return s.deps[i] == "ccomp" and i < s.heads[i]

    def _until_contrast(self, start: int, words: Iterable[int]) -> Iterator[int]:
        """Those of some words that come before the next "but", semicolon or bracket."""
        s = self.sentence
        stop = len(s)
        for j in range(start + 1, len(s)):
            starts_clause = (
                s.entry(j).kind in ("comma",)
                and j + 1 < len(s)
                and s.lower[j + 1] in ("it", "he", "she", "they", "there", "the")
            )
            if s.entry(j).kind in ("but", "clause_break") or starts_clause:
                stop = j
                break
        return (w for w in words if start <= w < stop)
