"""View models of the gallery: a prompt with its responses, claims and evidence, its pairs and their critiques."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlrm_ray.pipeline.part_statistics import margin_of
from vlrm_ray.preferences.critique import parse_critique
from vlrm_ray.report.images import EvidenceBox, ImageEmbedder, PageImage
from vlrm_ray.report.text import Segment, describe_claim, display_text, humanize, split_at_claims
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table
from vlrm_ray.types import Candidate, CheckedClaim, Pair, ScoredCritique, Verdict

MAX_CLAIMS = 40
"""Largest number of claims that are listed below a response."""
MAX_RESPONSE_CHARACTERS = 300
"""Length at which questions, and responses above their critiques, are cut."""

VERDICT_ORDER = (Verdict.CONTRADICTED, Verdict.SUPPORTED, Verdict.UNVERIFIABLE)
"""Order in which the claims of a response are listed."""
MAX_SOURCE_CHARACTERS = 60
"""Length at which the source of a given response is cut."""


@dataclass(frozen=True)
class ClaimView:
    """A claim with its verdict and evidence.

    Attributes:
        anchor: HTML id that the response's text links to.
        type: claim type.
        text: the claim as a short statement.
        verdict: `supported`, `contradicted` or `unverifiable`.
        confidence: confidence of the verdict in [0, 1].
        reason: why the claim is unverifiable; empty otherwise.
        boxes: evidence that the verdict is based on.
    """

    anchor: str
    type: str
    text: str
    verdict: str
    confidence: float
    reason: str
    boxes: tuple[EvidenceBox, ...]


@dataclass(frozen=True)
class ResponseView:
    """A response with its claims.

    Attributes:
        role: `chosen`, `rejected`, or `response` with a number.
        unused: why the response is in no pair; empty otherwise.
        condition: image condition that it was generated under, or `given`.
        source: where a given response comes from; empty otherwise, or if it is unknown.
        segments: its text, split at the claims.
        claims: its first `MAX_CLAIMS` claims.
        more_claims: number of claims that are not listed.
    """

    role: str
    unused: str
    condition: str
    source: str
    segments: Sequence[Segment]
    claims: Sequence[ClaimView]
    more_claims: int = 0

    @property
    def by_verdict(self) -> list[ClaimView]:
        """The listed claims, the contradicted ones first and the unverifiable ones last."""
        return sorted(self.claims, key=lambda claim: VERDICT_ORDER.index(claim.verdict))


@dataclass(frozen=True)
class CritiqueView:
    """A critique, split into its parts.

    Attributes:
        seen: description of the image.
        check: check of the claims.
        judgement: `Yes`, `No` or `none`.
        right: whether the judgement is the right one for the response.
        raw: the whole text, if it has neither of the first two parts; empty otherwise.
        reward: the reward p(Yes) / (p(Yes) + p(No)).
        label_mass: p(Yes) + p(No).
        selected: whether the reward model is trained on it.
        unaided: whether the newest version wrote it without evidence.
    """

    seen: str
    check: str
    judgement: str
    right: bool
    raw: str
    reward: float
    label_mass: float
    selected: bool = False
    unaided: bool = False


@dataclass(frozen=True)
class PairView:
    """A pair with its critiques.

    Attributes:
        pair_id: id of the pair.
        outcome: `kept`, or why the pair was dropped.
        margin: margin of the selected critiques, or the largest possible one of a dropped pair; None without any.
        chosen, rejected: texts of the two responses.
        chosen_critiques, rejected_critiques: critiques of the two responses.
    """

    pair_id: str
    outcome: str
    margin: float | None
    chosen: str
    rejected: str
    chosen_critiques: Sequence[CritiqueView]
    rejected_critiques: Sequence[CritiqueView]

    @property
    def kept(self) -> bool:
        """Whether the reward model is trained on the pair."""
        return self.outcome == "kept"


@dataclass(frozen=True)
class PromptCard:
    """A prompt with its image, responses and pairs.

    Attributes:
        prompt_id: id of the prompt.
        round: round that the data is of.
        question: the question.
        problem: why the prompt is quarantined; empty otherwise.
        image: the image with the evidence.
        responses: all responses, or those of one pair.
        pairs: all pairs, or one.
    """

    prompt_id: str
    round: int
    question: str
    problem: str
    image: PageImage
    responses: Sequence[ResponseView]
    pairs: Sequence[PairView]


def iter_rows(ledger: Ledger, round_: int) -> Iterator[Row]:
    """All committed rows of a round, part by part; raises UserError if a part is damaged."""
    for part in ledger.parts(round_):
        yield from from_table(ledger.get_part(round_, "rows", part))


def select_pairs(rows: Sequence[Row], limit: int) -> tuple[list[tuple[Row, Pair]], list[tuple[Row, Pair]]]:
    """Select at most `limit` kept and at most `limit` dropped pairs, from as many different groups as possible.

    Kept pairs are grouped by the type of the rejected response's first contradicted claim, dropped pairs by the reason.
    """
    kept: dict[str, list[tuple[Row, Pair]]] = defaultdict(list)
    dropped: dict[str, list[tuple[Row, Pair]]] = defaultdict(list)
    for row in rows:
        for pair in row.pairs:
            if pair.pair_id in row.rejected:
                dropped[row.rejected[pair.pair_id]].append((row, pair))
            else:
                kept[_contradicted_type(pair)].append((row, pair))
    return _round_robin(kept, limit), _round_robin(dropped, limit)


def _contradicted_type(pair: Pair) -> str:
    return next((c.claim.type.value for c in pair.rejected.claims if c.finding.verdict == "contradicted"), "")


def _round_robin(groups: dict[str, list[tuple[Row, Pair]]], limit: int) -> list[tuple[Row, Pair]]:
    """The first of each group, then the second of each group, and so on."""
    longest = max((len(group) for group in groups.values()), default=0)
    mixed = [group[i] for i in range(longest) for _, group in sorted(groups.items()) if i < len(group)]
    return mixed[:limit]


def pair_card(row: Row, pair: Pair, embedder: ImageEmbedder, own: bool = False) -> PromptCard:
    """A card with the two responses of a pair and their critiques; `own` is `selection.own`."""
    anchor = f"pair-{row.round}-{pair.pair_id}"
    image = embedder.embed_row(row, f"{anchor}-image")
    roles = (("chosen", pair.chosen), ("rejected", pair.rejected))
    responses = [_response(row, c, image, f"{anchor}-{role}", role) for role, c in roles]
    return _card(row, image, responses, [_pair(row, pair, own)])


def prompt_card(row: Row, embedder: ImageEmbedder, own: bool = False) -> PromptCard:
    """A card with all responses and pairs of a prompt; `own` is `selection.own`."""
    image = embedder.embed_row(row, f"prompt-{row.prompt.prompt_id}-image")
    responses = [_response(row, c, image, f"response-{i}", f"response {i}") for i, c in enumerate(row.candidates, 1)]
    return _card(row, image, responses, [_pair(row, pair, own) for pair in row.pairs])


def _card(row: Row, image: PageImage, responses: Sequence[ResponseView], pairs: Sequence[PairView]) -> PromptCard:
    question = display_text(row.prompt.question, MAX_RESPONSE_CHARACTERS)
    return PromptCard(row.prompt.prompt_id, row.round, question, humanize(row.quarantined), image, responses, pairs)


def _response(row: Row, candidate: Candidate, image: PageImage, anchor: str, role: str) -> ResponseView:
    listed = candidate.claims[:MAX_CLAIMS]
    return ResponseView(
        role=role,
        unused=humanize(row.unused.get(candidate.candidate_id, "")),
        condition=humanize(candidate.condition.value),
        source=display_text(row.sources.get(candidate.candidate_id, ""), MAX_SOURCE_CHARACTERS),
        segments=split_at_claims(candidate.text, listed),
        claims=[_claim(checked, image, f"{anchor}-claim-{i}") for i, checked in enumerate(listed)],
        more_claims=len(candidate.claims) - len(listed),
    )


def _claim(checked: CheckedClaim, image: PageImage, anchor: str) -> ClaimView:
    finding = checked.finding
    objects = [image.objects[i] for i in finding.objects if i < len(image.objects)]
    words = [image.words[i] for i in finding.words if i < len(image.words)]
    return ClaimView(
        anchor=anchor,
        type=checked.claim.type.value,
        text=describe_claim(checked.claim),
        verdict=finding.verdict.value,
        confidence=finding.confidence,
        reason=humanize(finding.reason),
        boxes=(*objects, *words),
    )


def _pair(row: Row, pair: Pair, own: bool) -> PairView:
    selected = next((s for s in row.selected if s.pair.pair_id == pair.pair_id), None)
    return PairView(
        pair_id=pair.pair_id,
        outcome="kept" if selected else humanize(row.rejected.get(pair.pair_id, "not selected yet")),
        margin=margin_of(pair, selected, own),
        chosen=display_text(pair.chosen.text, MAX_RESPONSE_CHARACTERS),
        rejected=display_text(pair.rejected.text, MAX_RESPONSE_CHARACTERS),
        chosen_critiques=_critiques(pair, 0, selected.chosen if selected else None),
        rejected_critiques=_critiques(pair, 1, selected.rejected if selected else None),
    )


def _critiques(pair: Pair, side: int, selected: ScoredCritique | None) -> list[CritiqueView]:
    """All critiques of the chosen (0) or the rejected (1) response, the unaided one last; the selected one is marked."""
    critiques, unaided = pair.options(side), len(pair.options(side)) - bool(pair.unaided)
    index = critiques.index(selected) if selected else -1
    return [critique_view(c, side == 0, i == index, i >= unaided) for i, c in enumerate(critiques)]


def critique_view(critique: ScoredCritique, right: bool, selected: bool = False, unaided: bool = False) -> CritiqueView:
    """The view of a critique; `right` is the right judgement, True for Yes."""
    parts = parse_critique(critique.text)
    return CritiqueView(
        seen=display_text(parts.seen),
        check=display_text(parts.check),
        judgement={True: "Yes", False: "No", None: "none"}[parts.judgement],
        right=parts.judgement is right,
        raw="" if parts.seen or parts.check else display_text(critique.text),
        reward=critique.reward,
        label_mass=critique.label_mass,
        selected=selected,
        unaided=unaided,
    )
