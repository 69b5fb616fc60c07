"""Who does what in a parsed sentence: the subjects of verbs, adjectives and prepositions, and what pronouns refer to."""

from collections.abc import Callable
from dataclasses import replace

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.nouns import NounFinder
from vlrm_ray.claims.parse.sentence import SUBJECTS, Sentence

EXISTENCE = frozenset((
    "is", "are", "was", "were", "be", "'s", "'re", "see", "sees", "seen", "have", "has", "having", "contain", "contains", "containing", "show", "shows",
    "showing", "include", "includes", "including", "feature", "features", "featuring", "depict", "depicts", "depicting", "display", "displays", "find",
    "notice", "spot", "capture", "captures", "exist", "exists", "hold", "holds", "visible", "present", "spotted", "detect", "identify",
))  # fmt: skip
"""Verbs whose denial denies that their object exists."""
SHOWING = EXISTENCE - {
    "is",
    "are",
    "was",
    "were",
    "be",
    "'s",
    "'re",
    "have",
    "has",
    "having",
    "hold",
    "holds",
    "exist",
    "exists",
}
"""Verbs that say that their object is in the image; what follows the object describes it."""
_RELATIVES = frozenset({"that", "which", "who", "whom"})
_PRONOUN_CLASSES = {"it": "it", "itself": "it", "they": "they", "them": "they", "he": "person", "she": "person", "him": "person", "her": "person", "himself": "person", "herself": "person", "themselves": "they"}  # fmt: skip
_PARTITIVES = frozenset(
    {"rest", "one", "ones", "other", "others", "both", "each", "another", "all", "two", "three", "four", "none", "some"}
)


_OF_NOUNS = frozenset({"acl", "relcl", "appos", "amod"})
_OF_BOTH = frozenset({"xcomp", "ccomp", "advcl", "conj", "acomp", "oprd", "dep", "prep", "pcomp", "advmod"})
_OF_CLAUSES = _OF_BOTH | {"attr", "aux", "auxpass", "dobj", "pobj"}
"""Relations of predicates whose subjects are those of the noun, or of the clause, that they depend on."""
_MAX_DEPTH = 6


class Clauses:
    """Finds subjects.

    Args:
        sentence: the parsed sentence.
        nouns: its noun phrases.
        refer: the phrase that a pronoun of a class ("it", "they", "person") refers to, or None, given the index of the pronoun.
    """

    def __init__(self, sentence: Sentence, nouns: NounFinder, refer: Callable[[str, int], NounPhrase | None]) -> None:
        self.sentence, self.nouns, self._refer = sentence, nouns, refer
        self._referents: dict[int, NounPhrase | None] = {}

    def phrases(self, i: int) -> list[NounPhrase]:
        """The noun phrases that word `i` stands for: a coordination, a pronoun's referent, or a relative pronoun's noun."""
        s = self.sentence
        if i in self.nouns.at and [s.entry(j).kind for j in range(i + 1, min(i + 3, len(s)))] == ["genitive", "be"]:
            return []  # "the cat's is blue": its collar, or its bowl
        if i in self.nouns.at and (self.nouns.at[i].name or s.lower[i] != "rest"):
            found = [self.nouns.at[c] for c in self.nouns.conjuncts(i)]
            return list({id(p): p for p in found}.values())
        if s.lower[i] in _PRONOUN_CLASSES:
            return self._pronoun(i, _PRONOUN_CLASSES[s.lower[i]])
        if s.tags[i] in ("WDT", "WP") or s.lower[i] in _RELATIVES:
            for above in s.ancestors(i):
                if s.deps[above] == "relcl":
                    return self.last_of(s.heads[above])
            return []
        if s.lower[i] in _PARTITIVES or self.nouns.is_comparative(i):
            of = [c for p in s.with_dep(i, "prep") if s.lower[p] == "of" for c in s.with_dep(p, "pobj")]
            if of:
                return [replace(p, partial=s.lower[i] != "none") for p in self.phrases(of[0])]
            if s.lower[i] in ("one", "ones") and s.with_dep(i, "amod", "det", "prep"):  # "the black one"
                before = [h for h in self.nouns.order if h < i and s.deps[h] in SUBJECTS and self.nouns.at[h].name]
                if before:
                    colors = [s.entry(c).attribute for c in s.with_dep(i, "amod")]
                    named = tuple(c for c in colors if c in s.lexicon.colors)
                    return [replace(self.nouns.at[before[-1]], partial=True, attributes=named, colors=named)]
            if any(self.nouns.at[h].negated for h in self.nouns.order if h < i):
                return []  # "no cat on the couch, but one on the bed"
            return [replace(p, partial=True) for p in self._pronoun(i, "they")]
        return []

    def pronoun_class(self, i: int) -> str:
        """Class of the pronoun at word `i`: "it", "they" or "person"; "" if there is none."""
        s = self.sentence
        if s.entry(i).kind == "pronoun":
            return s.entry(i).value
        return "person" if s.lower[i] == "her" and s.deps[i] == "pobj" else ""

    def last_of(self, i: int) -> list[NounPhrase]:
        """The noun phrase with head `i` alone, or what a pronoun there refers to."""
        return [self.nouns.at[i]] if i in self.nouns.at else self.phrases(i)

    def _pronoun(self, i: int, pronoun: str) -> list[NounPhrase]:
        if i not in self._referents:
            self._referents[i] = self._refer(pronoun, i)
        referent = self._referents[i]
        if referent is None:
            return []
        word = self.sentence.words[i]
        return [replace(referent, start=word.start, end=word.end, definite=True)]

    def subjects(self, i: int, depth: int = 0) -> list[NounPhrase]:
        """The subjects of a verb or predicate `i`."""
        s = self.sentence
        if depth > _MAX_DEPTH:
            return []
        own = [c for c in s.children(i) if s.deps[c] in SUBJECTS]
        if s.with_dep(i, "expl"):
            return self._after_there(i)
        if own:
            return self._own_subjects(i, own)
        if clause := s.with_dep(i, "csubj", "csubjpass"):
            return self._predicate_noun(clause[0])
        inverted = [c for c in s.with_dep(i, "attr", "dobj") if c > i and c in self.nouns.at]
        if inverted and s.deps[i] in ("ROOT", "conj", "ccomp") and self._is_fronted(i):
            return self.phrases(inverted[0])
        return self._inherited(i, depth)

    def _after_there(self, i: int) -> list[NounPhrase]:
        """The subjects of "there is", which follow the verb."""
        s = self.sentence
        roles = ("attr", "dobj", "nsubj", "oprd", "npadvmod")
        after = [c for c in s.children(i) if c > i and (s.deps[c] in roles or c in self.nouns.at)]
        return self.phrases(after[0]) if after else self._below_complement(i)

    def _own_subjects(self, i: int, own: list[int]) -> list[NounPhrase]:
        """The subjects that depend on the verb; of a list, the parser may have taken several for the subject."""
        s, head = self.sentence, self.sentence.heads[i]
        joined = s.deps[i] == "conj" and head in self.nouns.at and s.tags[i] in ("VBG", "VBN")
        if joined and not s.with_dep(i, "aux", "auxpass") and not any(s.is_verb(j) for j in range(head, own[0])):
            return [*self.last_of(head), *self.phrases(own[0])]  # "a zebra and its foal standing in a field"
        listed = [c for c in own if c in self.nouns.at] if len(own) > 1 and own[-1] < i else own[:1]
        return list({id(p): p for c in listed for p in self.phrases(c)}.values())

    def _is_fronted(self, i: int) -> bool:
        """Whether a verb without a subject follows a place or participle: "on the table is a bowl"."""
        s = self.sentence
        before = {s.deps[c] for c in s.children(i) if c < i}
        if s.deps[i] != "ROOT":
            return "prep" in before
        return not before.isdisjoint({"prep", "advmod", "acomp", "advcl"}) or (i > 0 and s.is_verb(i - 1))

    def _below_complement(self, i: int) -> list[NounPhrase]:
        """The subject of "there appears to be a cat"."""
        s = self.sentence
        for c in s.with_dep(i, "xcomp", "ccomp", "acomp"):
            nouns = [d for d in s.children(c) if s.deps[d] in ("attr", "dobj", "nsubj") and d in self.nouns.at]
            if nouns:
                return self.phrases(nouns[0])
        return []

    def _predicate_noun(self, i: int) -> list[NounPhrase]:
        """The noun of "what appears to be a red truck"."""
        s = self.sentence
        nouns = [w for w in sorted(s.subtree(i)) if s.deps[w] in ("attr", "dobj") and w in self.nouns.at]
        return self.phrases(nouns[0]) if nouns else []

    def _inherited(self, i: int, depth: int) -> list[NounPhrase]:
        """Subjects of a verb without its own: those of the clause or noun that it belongs to."""
        s, dep, head = self.sentence, self.sentence.deps[i], self.sentence.heads[i]
        if dep in _OF_NOUNS or (dep in _OF_BOTH and head in self.nouns.at):
            if dep == "conj" and s.deps[head] == "pobj" and s.is_verb(i):
                return self._clause_subjects(head, depth)
            return self._described(i, head)
        if dep not in _OF_CLAUSES:
            return []
        if dep in ("xcomp", "ccomp", "advcl", "dobj", "pcomp") and s.lower[head] in SHOWING:
            objects = [c for c in s.with_dep(head, "dobj", "nsubj") if c in self.nouns.at and head < c < i]
            if objects:
                return self.phrases(objects[0])
        return self.subjects(head, depth + 1)

    def _described(self, i: int, head: int) -> list[NounPhrase]:
        """What a participle or adjective after a noun describes; `head` is the noun that it depends on."""
        s = self.sentence
        previous = self.nouns.ending_at(i - 1) if i else None
        if s.deps[i] == "acl" and s.entry(i).kind in ("activity", "relation_verb"):
            head = self._actor(head)
        if previous is None or (previous != head and s.deps[previous] == "pobj"):
            return self.pair_or_last(head)
        pair = self.pair_or_last(previous)
        return pair if len(pair) == 1 else self.pair_or_last(head)

    def _actor(self, head: int) -> int:
        """The person or whole that a participle describes: "two men in suits standing", "a bowl of oranges sitting"."""
        s, animate = self.sentence, self.sentence.lexicon.animate
        while s.deps[head] == "pobj" and (above := s.heads[s.heads[head]]) in self.nouns.at:
            climbs = (
                s.lower[s.heads[head]] == "of"
                and self.nouns.at[above].name
                and self.nouns.at[head] is not self.nouns.at[above]
            )
            if not climbs and (self.nouns.at[head].name in animate or self.nouns.at[above].name not in animate):
                break
            head = above
        return head

    def pair_or_last(self, head: int) -> list[NounPhrase]:
        """The phrase with this head, with its partner if exactly two are joined by "and" without a comma."""
        s = self.sentence
        first = head
        if s.deps[head] == "conj" and s.heads[head] in self.nouns.at:
            first = s.heads[head]
        items = self.nouns.conjuncts(first) if first in self.nouns.at else []
        joined = any(
            (s.deps[c] == "cc" and s.entry(c).kind in ("and", "or")) or s.lower[c] == "nor" for c in s.children(first)
        )
        is_subject = s.deps[first] in SUBJECTS
        parted = (
            any(s.is_verb(j) or s.entry(j).kind == "relation" for j in range(items[0], items[1]))
            if len(items) == 2
            else True
        )
        is_place = s.deps[first] == "pobj" and s.entry(s.heads[first]).kind == "relation"
        if len(items) == 2 and is_place and s.is_verb(s.heads[s.heads[first]]) and self.starts_another(items[1]):
            return self.last_of(head)
        if not parted and joined and head == items[1] and not is_subject and s.deps[items[1]] == "conj":
            return [self.nouns.at[c] for c in items]
        return self.last_of(head)

    def starts_another(self, head: int, *, verbal: bool = False) -> bool:
        """Whether a conjunct begins a clause whose verb is left out: "a dog is on the couch and a cat on the floor".

        Args:
            head: head of the conjunct.
            verbal: what is left out is a verb with its object only: "a man holds a phone and a woman an umbrella".
        """
        s, after = self.sentence, head + 1
        if after >= len(s):
            return False
        if after in self.nouns.starting and s.lower[after] in ("a", "an", "the", "two", "three", "some", "his", "her"):
            return True
        return not verbal and s.entry(after).kind == "relation" and s.tags[after] != "RP"

    def _clause_subjects(self, i: int, depth: int) -> list[NounPhrase]:
        for above in self.sentence.ancestors(i):
            if self.sentence.is_verb(above):
                return self.subjects(above, depth + 1)
        return []

    def is_showing(self, i: int) -> bool:
        """Whether a verb says that its object is in the image: "shows", "there is"."""
        return self.sentence.lower[i] in SHOWING or bool(self.sentence.with_dep(i, "expl"))

    def governing_verb(self, i: int) -> int | None:
        """The nearest verb above word `i`."""
        s = self.sentence
        return next((a for a in s.ancestors(i) if s.is_verb(a) or s.tags[a] == "MD"), None)
