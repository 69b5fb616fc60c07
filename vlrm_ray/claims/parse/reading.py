"""What is known of one parsed sentence while its claims are collected."""

from collections.abc import Callable, Container, Sequence
from itertools import chain

from vlrm_ray.claims.claim_collector import ClaimCollector
from vlrm_ray.claims.function_words import OF_OTHER_SEX
from vlrm_ray.claims.noun_phrases import NounPhrase, spoken_of
from vlrm_ray.claims.parse.clauses import Clauses
from vlrm_ray.claims.parse.nouns import NounFinder
from vlrm_ray.claims.parse.scope import Scope
from vlrm_ray.claims.parse.sentence import Sentence
from vlrm_ray.claims.parse.texts import taken_words, written_texts

Referent = Callable[[str, Sequence[NounPhrase], Sequence[str]], NounPhrase | None]
"""Finds what a pronoun refers to, given its class, the phrases before it in its sentence, and names that it excludes."""


class Reading:
    """One sentence while its claims are collected.

    Attributes:
        sentence: the sentence.
        claims: collects the claims.
        referent: finds what a pronoun refers to.
        earlier: the noun phrases of earlier sentences that a pronoun may refer to, oldest first.
        texts: the written texts.
        taken: the words of written texts.
        nouns: the noun phrases.
        scope: the words that are denied or left open.
        clauses: the subjects of verbs and predicates.
        silent: phrases, by id, that make no claim of their own.
        excluded: phrases, by id, that no pronoun as a subject refers to, because the sentence denies something to be there.
        none_of: phrases, by id, after "none of", which does not deny where they are.
        compared: phrases, by id, whose numbers are compared.
    """

    def __init__(
        self, sentence: Sentence, claims: ClaimCollector, referent: Referent, earlier: Sequence[NounPhrase] = ()
    ) -> None:
        self.sentence, self.claims, self.referent, self.earlier = sentence, claims, referent, earlier
        self.texts = written_texts(sentence)
        self.taken = frozenset(taken_words(self.texts, sentence))
        self.nouns = NounFinder(sentence, self.taken)
        self.scope = Scope(sentence)
        self.silent: set[int] = set()
        self.excluded: set[int] = set()
        self.none_of: set[int] = set()
        self.compared: set[int] = set()
        self.clauses = Clauses(sentence, self.nouns, self._refer)

    def _refer(self, pronoun: str, i: int) -> NounPhrase | None:
        found = self.referent(
            pronoun, [p for p in self.mentioned(i) if id(p) not in self.excluded], self.of_other_sex(i)
        )
        return None if found is None else self.spoken_of(found, pronoun, i, self.claims.lexicon.people)

    def spoken_of(self, nearest: NounPhrase, pronoun: str, i: int, excluded: Container[str]) -> NounPhrase:
        """What the pronoun at word `i` refers to, given the nearest phrase that agrees with it; see `noun_phrases.spoken_of`."""
        mentioned = chain(reversed(self.mentioned(i)), reversed(self.earlier))
        return nearest if pronoun == "person" else spoken_of(nearest, mentioned, excluded)

    def of_other_sex(self, i: int) -> tuple[str, ...]:
        """Names of persons that the pronoun at word `i` does not refer to: no man for "she"."""
        return OF_OTHER_SEX.get(self.sentence.lower[i], ())

    def mentioned(self, before: int) -> list[NounPhrase]:
        """The noun phrases before word `before` that a pronoun may refer to."""
        found = [self.nouns.at[h] for h in self.nouns.order if h < before]
        return [p for p in found if p.name and not p.negated]

    def in_phrase(self, i: int) -> bool:
        """Whether a word is a modifier in a noun phrase."""
        return any(self.nouns.first[h] <= i < h for h in self.nouns.order)

    def span(self, first: int, last: int, *phrases: NounPhrase | None) -> tuple[int, int]:
        """Characters from the first to the last of some words and phrases. A phrase of the question has none."""
        spans = [
            self.sentence.span(first, last),
            *((p.start, p.end) for p in phrases if p is not None and p.start >= 0),
        ]
        return min(start for start, _ in spans), max(end for _, end in spans)
