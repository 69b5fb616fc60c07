"""Marks the noun phrases of a sentence that are denied or left open, before claims are made of them."""

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.clauses import EXISTENCE
from vlrm_ray.claims.parse.reading import Reading
from vlrm_ray.claims.parse.sentence import SUBJECTS

_CONTRASTS = frozenset({"other", "others", "another", "all"})
_DISTRIBUTIVE = frozenset({"each", "every"})
"""Words beside which a number does not count all objects of a name: "one is red, the other blue", "each row has one"."""
_SEEN = frozenset({"visible", "present", "seen", "there", "shown", "depicted"})


class PhraseMarker:
    """Marks the noun phrases of a sentence; call `mark` once."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.sentence, self.nouns, self.clauses = (
            reading,
            reading.sentence,
            reading.nouns,
            reading.clauses,
        )
        self.scope, self.claims, self.lexicon = reading.scope, reading.claims, reading.claims.lexicon

    def mark(self) -> None:
        """Mark each phrase, in the order of the text."""
        s, denied = self.sentence, set[int]()
        has_each = not _DISTRIBUTIVE.isdisjoint(s.lower)
        has_contrast = has_each or not _CONTRASTS.isdisjoint(s.lower)
        for head in self.nouns.order:
            phrase, first = self.nouns.at[head], self.nouns.first[head]
            if "no other" in " ".join(s.lower[first : head + 1]):
                self.reading.silent.add(id(phrase))
            if phrase.name == "glass" and phrase.plural and phrase.number is None and self._is_worn(head):
                phrase.name = "glasses"
            if head in self.scope.denied and s.deps[head] == "pobj":
                self.reading.excluded.add(id(phrase))
            if phrase.number is not None and has_contrast and (phrase.number == 1 or has_each):
                phrase.number = None
            self._mark_negation(head, denied)
            if (head in self.scope.open and not phrase.definite) or (not phrase.negated and self._is_alternative(head)):
                phrase.hedged = True

    def _mark_negation(self, head: int, denied: set[int]) -> None:
        """Mark a phrase that is denied; `denied` are the heads of those found so far."""
        phrase = self.nouns.at[head]
        if head in self.scope.without or (not phrase.negated and self._continues_denial(head, denied)):
            phrase.negated = True
        if phrase.negated:
            denied.add(head)
        elif head in self.scope.denied and not phrase.definite:
            self._mark_denied(head, phrase, self.nouns.first[head])
        elif not phrase.definite and self._is_denied_subject(head):
            phrase.negated = True

    def _continues_denial(self, head: int, denied: set[int]) -> bool:
        """Whether a phrase is joined to one that is denied: "no cups or plates"."""
        s, above, first = self.sentence, self.sentence.heads[head], self.nouns.first[head]
        if s.deps[head] != "conj" or above not in denied or self.nouns.at[head].definite:
            return False
        joints = {s.lower[j] for j in (*s.children(above), *range(above, head)) if s.deps[j] == "cc"}
        return "but" not in joints and (bool(joints) or (first > 0 and s.lower[first - 1] == ","))

    def _is_worn(self, head: int) -> bool:
        """Whether a person has it: "a man with glasses"."""
        s, above = self.sentence, self.sentence.heads[self.sentence.heads[head]]
        return (
            s.deps[head] == "pobj"
            and s.lower[s.heads[head]] == "with"
            and above in self.nouns.at
            and self.nouns.at[above].name in self.lexicon.animate
        )

    def _mark_denied(self, head: int, phrase: NounPhrase, first: int) -> None:
        """A phrase after "not": its existence is denied after "is", "see" and the like; otherwise nothing is said of it."""
        s = self.sentence
        if (first > 0 and s.entry(first - 1).kind == "not") or s.entry(first).kind == "not":
            phrase.negated = True
            return
        top = head
        while s.deps[top] == "conj" and s.heads[top] in self.nouns.at:
            top = s.heads[top]
        verb = s.heads[top]
        if (
            s.deps[top] in ("attr", "dobj", "nsubj", "nsubjpass", "oprd")
            and (s.lower[verb] in EXISTENCE or self.clauses.is_showing(verb))
            and s.entry(verb).kind != "relation_verb"
        ):
            phrase.negated = True
            return
        self.reading.silent.add(id(phrase))

    def _is_denied_subject(self, head: int) -> bool:
        """ "A dog is not visible"."""
        s = self.sentence
        if (
            s.deps[head] not in SUBJECTS
            or s.heads[head] < head
            or s.lower[self.nouns.first[head]] not in ("a", "an", "any")
        ):
            return False
        verb = s.heads[head]
        predicate = {s.lower[verb], *(s.lower[c] for c in s.with_dep(verb, "acomp", "attr", "oprd"))}
        return any(s.entry(c).kind == "not" for c in s.children(verb)) and not predicate.isdisjoint(_SEEN)

    def _is_alternative(self, head: int) -> bool:
        """Whether a phrase is one of several joined by "or"."""
        s = self.sentence
        if any(s.lower[c] == "or" for c in s.with_dep(head, "cc")) and any(
            c in self.nouns.at for c in s.with_dep(head, "conj")
        ):
            return True
        above = s.heads[head]
        return (
            s.deps[head] == "conj"
            and above in self.nouns.at
            and any(s.lower[c] == "or" for c in s.with_dep(above, "cc"))
        )
