"""Claims against evidence: three verdicts, and absence only where the detector misses little."""

import pytest

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.types import Evidence, Seen, Verdict, Word
from vlrm_ray.verify import Verifier

EXTRACTOR = RuleExtractor()
VERIFIER = Verifier(frozenset({"circle", "square", "star", "sign"}))
EVIDENCE = Evidence(
    100, 100,
    objects=(
        Seen("circle", (5, 5, 25, 25), 0.95, "red"),
        Seen("square", (70, 10, 90, 30), 0.9, "blue"),
        Seen("square", (70, 70, 90, 90), 0.9, "green"),
        Seen("sign", (5, 60, 45, 80), 0.9, "white"),
    ),
    words=(Word("STOP", (8, 64, 42, 76), 0.97),),
)  # fmt: skip
S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE
CASES = {
    "There is a red circle.": [S, S],
    "There is a blue circle.": [S, C],
    "There is a star.": [C],
    "There is no star.": [S],
    "There is no red circle.": [C],
    "There is a dog.": [U],
    "Perhaps there is a star.": [U],
    "There are two squares.": [S, S],
    "There are three squares.": [S, C],
    "There are more squares than circles.": [S],
    "There are fewer squares than circles.": [C],
    "The red circle is left of the blue square.": [S, S, S, S, S],
    "The red circle is right of the blue square.": [S, S, C, S, S],
    "The red circle is above the blue square.": [S, S, U, S, S],
    "The sign says STOP.": [S, S],
    "The sign says EXIT.": [C, S],
}


@pytest.mark.parametrize("sentence", CASES)
def test_verdicts(sentence: str) -> None:
    checked = [VERIFIER.check(claim, EVIDENCE) for claim in EXTRACTOR.claims(sentence)]
    assert [c.finding.verdict for c in checked] == CASES[sentence]


def test_a_verdict_names_the_evidence_it_rests_on() -> None:
    (_, color) = [VERIFIER.check(c, EVIDENCE) for c in EXTRACTOR.claims("There is a green square.")]
    assert color.finding.objects == (2,)
    assert color.finding.confidence == 0.9


def test_crowds_are_not_counted() -> None:
    crowd = Evidence(100, 100, tuple(Seen("circle", (i, i, i + 5, i + 5), 0.9, "red") for i in range(9)))
    (_, count) = [VERIFIER.check(c, crowd) for c in EXTRACTOR.claims("There are nine circles.")]
    assert count.finding.verdict is U


def test_without_a_read_word_no_text_is_contradicted() -> None:
    blind = Evidence(100, 100, EVIDENCE.objects)
    (text, _) = [VERIFIER.check(c, blind) for c in EXTRACTOR.claims("The sign says EXIT.")]
    assert text.finding.verdict is U
