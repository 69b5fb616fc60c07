"""Reads the parsed sentences of a response and collects its claims."""

from collections.abc import Sequence

from vlrm_ray.claims.claim_collector import ClaimCollector
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.marking import PhraseMarker
from vlrm_ray.claims.parse.predicates import Predicates
from vlrm_ray.claims.parse.reading import Reading
from vlrm_ray.claims.parse.relating import Relating
from vlrm_ray.claims.parse.sentence import Sentence
from vlrm_ray.claims.parse.texts import Carriers
from vlrm_ray.types import ClaimType, Noun


class ParsedReader:
    """Reads one response.

    Args:
        claims: collects the claims.
        mentions: noun phrases that a pronoun may refer to, oldest first; this reader adds those that it reads.
    """

    def __init__(self, claims: ClaimCollector, mentions: list[NounPhrase]) -> None:
        self.claims, self.mentions = claims, mentions

    def read(self, sentence: Sentence) -> None:
        """Collect the claims of a sentence: of its words, places and texts, then of the phrases that are left."""
        reading = Reading(sentence, self.claims, self._referent, self.mentions)
        PhraseMarker(reading).mark()
        predicates, relating = Predicates(reading), Relating(reading)
        relating.read_comparisons()
        for i in range(len(sentence)):
            if i not in reading.taken:
                relating.read_link(i)
                predicates.read(i)
        relating.read_places()
        _read_texts(reading)
        for phrase in (reading.nouns.at[head] for head in reading.nouns.order):
            if phrase.name and id(phrase) not in reading.silent:
                self.claims.add_presence(phrase)
        self.mentions += reading.mentioned(len(sentence))

    def _referent(self, pronoun: str, here: Sequence[NounPhrase], excluded: Sequence[str]) -> NounPhrase | None:
        """The last noun phrase that a pronoun agrees with, else the last one; `here` are those of its sentence.

        "She" is a person, or if there is none, an animal or an unknown noun.
        """
        mentioned = [
            p for p in reversed([*self.mentions, *here]) if p.name and not p.negated and p.name not in excluded
        ]
        people = (p for p in mentioned if p.name in self.claims.lexicon.people)
        if pronoun == "person" and (person := next(people, None)):
            return person
        for phrase in mentioned:
            animate = phrase.name in self.claims.lexicon.animate
            if animate if pronoun == "person" else phrase.plural == (pronoun == "they"):
                return phrase
        known = self.claims.lexicon.entries if pronoun == "person" else {}
        return next((p for p in mentioned if p.name not in known), None)


def _read_texts(reading: Reading) -> None:
    """Add the claims about written text."""
    carriers, scope = Carriers(reading.sentence, reading.nouns, reading.clauses), reading.scope
    for text in reading.texts:
        found = carriers.of(text)
        if found is None or not text.text:
            continue
        carrier = found[-1] if found else None
        name = carrier.name if carrier is not None and carrier.name else "text"
        negated = text.first in scope.denied or (carrier is not None and carrier.negated)
        span = reading.span(text.first, text.last, carrier)
        reading.claims.add(
            ClaimType.TEXT, Noun(name), span, text.text, negated=negated, hedged=text.first in scope.open
        )
