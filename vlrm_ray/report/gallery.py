"""What a page shows of single prompts: responses with claims and evidence, pairs, critiques."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlrm_ray.pipeline.part_statistics import margin_of
from vlrm_ray.preferences.critique import parse
from vlrm_ray.report.pictures import Album, Mark, Picture
from vlrm_ray.report.words import Segment, claim_in_words, plain, segments, shown
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table
from vlrm_ray.types import Candidate, CheckedClaim, Pair, ScoredCritique

MOST_CLAIMS = 40
"""Claims of one response that a page lists."""


@dataclass(frozen=True)
class ShownClaim:
    """A claim with its verdict and the boxes it rests on."""

    anchor: str
    type: str
    words: str
    verdict: str
    confidence: float
    reason: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class ShownResponse:
    """A response cut at its claims; `role` is chosen, rejected or a number, `unused` says why it is in no pair."""

    role: str
    unused: str
    condition: str
    segments: Sequence[Segment]
    claims: Sequence[ShownClaim]
    more_claims: int = 0


@dataclass(frozen=True)
class ShownCritique:
    """A critique in its parts; where it has none, `raw` is the whole. `right` says whether its judgement is."""

    seen: str
    check: str
    judgement: str
    right: bool
    raw: str
    reward: float
    label_mass: float
    selected: bool = False


@dataclass(frozen=True)
class ShownPair:
    """A pair and what became of it."""

    pair_id: str
    outcome: str
    margin: float | None
    chosen: str
    rejected: str
    chosen_critiques: Sequence[ShownCritique]
    rejected_critiques: Sequence[ShownCritique]

    @property
    def kept(self) -> bool:
        """Whether training read it."""
        return self.outcome == "kept"


@dataclass(frozen=True)
class Card:
    """One prompt with its picture, some of its responses and some of its pairs."""

    prompt_id: str
    round: int
    question: str
    problem: str
    picture: Picture
    responses: Sequence[ShownResponse]
    pairs: Sequence[ShownPair]


def rows_of(ledger: Ledger, round_: int) -> Iterator[Row]:
    """All committed rows of a round, part by part; raises UserError on a damaged one."""
    for part in ledger.parts(round_, "select"):
        yield from from_table(ledger.get_part(round_, "select", part))


def choose(rows: Sequence[Row], most: int) -> tuple[list[tuple[Row, Pair]], list[tuple[Row, Pair]]]:
    """At most so many kept and so many refused pairs, each from as many groups as possible, in the rows' order.

    Groups of kept pairs are the types of the contradicted claims, those of refused ones the reasons.
    """
    kept: dict[str, list[tuple[Row, Pair]]] = defaultdict(list)
    refused: dict[str, list[tuple[Row, Pair]]] = defaultdict(list)
    for row in rows:
        for pair in row.pairs:
            if pair.pair_id in row.rejected:
                refused[row.rejected[pair.pair_id]].append((row, pair))
            else:
                kept[_contradicted_type(pair)].append((row, pair))
    return _in_turn(kept, most), _in_turn(refused, most)


def _contradicted_type(pair: Pair) -> str:
    return next((c.claim.type.value for c in pair.rejected.claims if c.finding.verdict == "contradicted"), "")


def _in_turn(groups: dict[str, list[tuple[Row, Pair]]], most: int) -> list[tuple[Row, Pair]]:
    depth = max((len(group) for group in groups.values()), default=0)
    mixed = [group[i] for i in range(depth) for _, group in sorted(groups.items()) if i < len(group)]
    return mixed[:most]


def card_of_pair(row: Row, pair: Pair, album: Album) -> Card:
    """A pair's two responses and its critiques."""
    anchor = f"pair-{row.round}-{pair.pair_id}"
    picture = album.of_row(row, f"{anchor}-image")
    roles = (("chosen", pair.chosen), ("rejected", pair.rejected))
    responses = [_response(row, c, picture, f"{anchor}-{role}", role) for role, c in roles]
    return _card(row, picture, responses, [_pair(row, pair)])


def card_of_prompt(row: Row, album: Album) -> Card:
    """All responses and pairs of a prompt."""
    picture = album.of_row(row, f"prompt-{row.prompt.prompt_id}-image")
    responses = [_response(row, c, picture, f"response-{i}", f"response {i}") for i, c in enumerate(row.candidates, 1)]
    return _card(row, picture, responses, [_pair(row, pair) for pair in row.pairs])


def _card(row: Row, picture: Picture, responses: Sequence[ShownResponse], pairs: Sequence[ShownPair]) -> Card:
    problem = plain(row.quarantined)
    return Card(row.prompt.prompt_id, row.round, shown(row.prompt.question, 300), problem, picture, responses, pairs)


def _response(row: Row, candidate: Candidate, picture: Picture, anchor: str, role: str) -> ShownResponse:
    listed = candidate.claims[:MOST_CLAIMS]
    claims = [_claim(checked, picture, f"{anchor}-claim-{i}") for i, checked in enumerate(listed)]
    return ShownResponse(
        role=role,
        unused=plain(row.unused.get(candidate.candidate_id, "")),
        condition=plain(candidate.condition.value),
        segments=segments(candidate.text, listed),
        claims=claims,
        more_claims=len(candidate.claims) - len(listed),
    )


def _claim(checked: CheckedClaim, picture: Picture, anchor: str) -> ShownClaim:
    finding = checked.finding
    objects = [picture.objects[i] for i in finding.objects if i < len(picture.objects)]
    words = [picture.words[i] for i in finding.words if i < len(picture.words)]
    return ShownClaim(
        anchor=anchor,
        type=checked.claim.type.value,
        words=claim_in_words(checked.claim),
        verdict=finding.verdict.value,
        confidence=finding.confidence,
        reason=plain(finding.reason),
        marks=(*objects, *words),
    )


def _pair(row: Row, pair: Pair) -> ShownPair:
    selected = next((s for s in row.selected if s.pair_id == pair.pair_id), None)
    plus, minus = (selected.chosen_critique, selected.rejected_critique) if selected else (None, None)
    return ShownPair(
        pair_id=pair.pair_id,
        outcome="kept" if selected else plain(row.rejected.get(pair.pair_id, "not selected yet")),
        margin=margin_of(pair, selected),
        chosen=shown(pair.chosen.text, 300),
        rejected=shown(pair.rejected.text, 300),
        chosen_critiques=_critiques(pair.chosen_critiques, True, plus),
        rejected_critiques=_critiques(pair.rejected_critiques, False, minus),
    )


def _critiques(critiques: Sequence[ScoredCritique], wanted: bool, selected: str | None) -> list[ShownCritique]:
    """All critiques of a side; of several with the selected one's text the first is marked."""
    texts = [judged.text for judged in critiques]
    mark = texts.index(selected) if selected in texts else -1
    return [shown_critique(judged, wanted, i == mark) for i, judged in enumerate(critiques)]


def shown_critique(judged: ScoredCritique, wanted: bool, selected: bool = False) -> ShownCritique:
    """A critique for the page; `wanted` is the right judgement."""
    parts = parse(judged.text)
    judgement = {True: "Yes", False: "No", None: "none"}[parts.judgement]
    raw = "" if parts.seen or parts.check else shown(judged.text)
    return ShownCritique(
        seen=shown(parts.seen),
        check=shown(parts.check),
        judgement=judgement,
        right=parts.judgement is wanted,
        raw=raw,
        reward=judged.reward,
        label_mass=judged.label_mass,
        selected=selected,
    )
