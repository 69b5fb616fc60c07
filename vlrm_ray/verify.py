"""Claims against evidence: supported, contradicted or unverifiable. Pure matching, no model.

Absence is claimed only for classes of which the detector misses few (closed-world guard), and a
claim that nobody can check stays `unverifiable` and never decides a pair.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from vlrm_ray.evidence import relation
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Evidence, Finding, Noun, Verdict

CROWD = 8
"""From this many detected objects of a kind on, counting is left open."""


@dataclass(frozen=True)
class Verifier:
    """Gives verdicts.

    Attributes:
        exhaustive: classes whose absence from the evidence means absence from the image.
    """

    exhaustive: frozenset[str]

    def check(self, claim: Claim, evidence: Evidence) -> CheckedClaim:
        """The claim with its verdict; denied claims get the opposite one."""
        if claim.hedged:
            return CheckedClaim(claim, _open("hedged"))
        rules: dict[ClaimType, Callable[[Claim, Evidence], Finding]] = {
            ClaimType.OBJECT: self._object,
            ClaimType.ATTRIBUTE: self._attribute,
            ClaimType.COUNT: self._count,
            ClaimType.RELATION: self._relation,
            ClaimType.TEXT: self._text,
        }
        finding = rules[claim.type](claim, evidence)
        return CheckedClaim(claim, _opposite(finding) if claim.negated else finding)

    def _object(self, claim: Claim, evidence: Evidence) -> Finding:
        found = _matching(claim.subject, evidence)
        if found:
            return Finding(Verdict.SUPPORTED, _best(found, evidence), found)
        return self._absent(claim.subject)

    def _absent(self, noun: Noun) -> Finding:
        if noun.name in self.exhaustive:
            return Finding(Verdict.CONTRADICTED, 0.9, reason="not_detected")
        return _open("detector_may_miss_it")

    def _attribute(self, claim: Claim, evidence: Evidence) -> Finding:
        found = _matching(claim.subject, evidence)
        if not found:
            return self._absent(claim.subject)
        right = tuple(i for i in found if evidence.objects[i].color == claim.value)
        if right:
            return Finding(Verdict.SUPPORTED, _best(right, evidence), right)
        if any(not evidence.objects[i].color for i in found) or claim.subject.name not in self.exhaustive:
            return _open("color_uncertain")
        return Finding(Verdict.CONTRADICTED, min(evidence.objects[i].score for i in found), found)

    def _count(self, claim: Claim, evidence: Evidence) -> Finding:
        found = _matching(claim.subject, evidence)
        others = _matching(claim.object, evidence) if claim.object else ()
        kinds = {claim.subject.name} | ({claim.object.name} if claim.object else set())
        if not kinds <= self.exhaustive:
            return _open("detector_may_miss_it")
        if len(found) >= CROWD or len(others) >= CROWD:
            return _open("crowd")
        if _uncertain_color(claim.subject, evidence):
            return _open("color_uncertain")
        one, two = len(found), len(others)
        holds = {"more": one > two, "fewer": one < two, "as_many": one == two}.get(
            claim.value or "", str(one) == claim.value
        )
        seen = found + others
        confidence = min((evidence.objects[i].score for i in seen), default=0.9)
        return Finding(Verdict.SUPPORTED if holds else Verdict.CONTRADICTED, confidence, seen)

    def _relation(self, claim: Claim, evidence: Evidence) -> Finding:
        if claim.object is None or claim.value is None:
            return _open("no_object")
        ones, twos = _matching(claim.subject, evidence), _matching(claim.object, evidence)
        if not ones or not twos:
            return _open("not_detected")
        answers = {
            (i, j): relation(
                claim.value, evidence.objects[i].box, evidence.objects[j].box, evidence.width, evidence.height
            )
            for i in ones
            for j in twos
            if i != j
        }
        seen = tuple(dict.fromkeys(i for pair in answers for i in pair))
        confidence = min((evidence.objects[i].score for i in seen), default=0.0)
        if "holds" in answers.values():
            return Finding(Verdict.SUPPORTED, confidence, seen)
        if answers and all(a == "fails" for a in answers.values()):
            return Finding(Verdict.CONTRADICTED, confidence, seen)
        return _open("close_to_a_tie")

    def _text(self, claim: Claim, evidence: Evidence) -> Finding:
        wanted = _plain(claim.value or "")
        if not evidence.words or not wanted:
            return _open("nothing_read")
        distances = [Levenshtein.distance(wanted, _plain(w.text)) for w in evidence.words]
        nearest = min(range(len(distances)), key=lambda i: distances[i])
        word = evidence.words[nearest]
        if distances[nearest] <= len(wanted) // 5:
            return Finding(Verdict.SUPPORTED, word.score, words=(nearest,))
        if distances[nearest] <= len(wanted) // 2 and word.score < 0.9:
            return _open("read_uncertainly")
        return Finding(Verdict.CONTRADICTED, min(w.score for w in evidence.words), words=(nearest,))


def _matching(noun: Noun, evidence: Evidence) -> tuple[int, ...]:
    return tuple(
        i
        for i, thing in enumerate(evidence.objects)
        if thing.name == noun.name and all(thing.color == a for a in noun.attributes)
    )


def _uncertain_color(noun: Noun, evidence: Evidence) -> bool:
    return bool(noun.attributes) and any(o.name == noun.name and not o.color for o in evidence.objects)


def _best(found: tuple[int, ...], evidence: Evidence) -> float:
    return max(evidence.objects[i].score for i in found)


def _open(reason: str) -> Finding:
    return Finding(Verdict.UNVERIFIABLE, reason=reason)


def _opposite(finding: Finding) -> Finding:
    other = {Verdict.SUPPORTED: Verdict.CONTRADICTED, Verdict.CONTRADICTED: Verdict.SUPPORTED}
    verdict = other.get(finding.verdict, finding.verdict)
    return Finding(verdict, finding.confidence, finding.objects, finding.words, finding.reason)


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
