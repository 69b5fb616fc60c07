"""Checks what critiques state about the image against the experts' evidence, as the claims of responses are checked."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from vlrm_ray.claims import Extractor
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.preferences.critique import CritiqueFormat
from vlrm_ray.preferences.statements import false_places, statements_of
from vlrm_ray.types import Evidence, ScoredCritique, Verdict


class StatementCheck:
    """Counts the false statements of critiques. Several threads may use it; they work one at a time, as the extractor does."""

    def __init__(self, extractor: Extractor, verifier: Verifier, critique_format: CritiqueFormat) -> None:
        """Use the extractor and the verifier that responses are checked with."""
        self.extractor, self.verifier, self.critique_format = extractor, verifier, critique_format
        self._alone = threading.Lock()

    def checked(self, critiques: Sequence[tuple[ScoredCritique, Evidence]]) -> list[ScoredCritique]:
        """The critiques, each given with the evidence of its image, with their numbers of false statements."""
        with self._alone:
            return self._checked(critiques)

    def _checked(self, critiques: Sequence[tuple[ScoredCritique, Evidence]]) -> list[ScoredCritique]:
        statements = [statements_of(critique.text, self.critique_format) for critique, _ in critiques]
        extracted = self.extractor.claims_batch([(stated.text, "") for stated in statements])
        checked = []
        for (critique, evidence), stated, found in zip(critiques, statements, extracted, strict=True):
            wrong = sum(
                c.finding.verdict is Verdict.CONTRADICTED for c in self.verifier.check_all(found.claims, evidence)
            )
            wrong += false_places(stated.places, describe_evidence(evidence)) if stated.places else 0
            checked.append(replace(critique, false_statements=wrong))
        return checked
