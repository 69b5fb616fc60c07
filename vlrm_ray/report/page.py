"""Rendering of `report.html` and of the pages about a single prompt, and about a response that was checked.

A page is one file. It loads nothing from elsewhere and runs no script; its content security policy enforces both.
Metrics come from `report.json`; images, responses and critiques from the committed parts in the ledger.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.gains import HEADLINE
from vlrm_ray.report import plots, tables, training
from vlrm_ray.report.box_confidence import Confidence, confidence_of_run, unknown
from vlrm_ray.report.gallery import (
    MAX_RESPONSE_CHARACTERS,
    CritiqueView,
    PromptCard,
    critique_view,
    iter_rows,
    pair_card,
    prompt_card,
    select_pairs,
)
from vlrm_ray.report.headline import headline
from vlrm_ray.report.images import ImageEmbedder, PageImage
from vlrm_ray.report.nodes import nodes_plot
from vlrm_ray.report.svg import Plot
from vlrm_ray.report.tables import JsonObject
from vlrm_ray.report.text import display_text, humanize, signed
from vlrm_ray.report.timeline import timeline
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import EVIDENCE, Row
from vlrm_ray.types import Candidate, CheckedClaim, Evidence, ImageCondition, Prompt, ScoredCritique

IMAGE_BUDGET = 3_000_000
"""Characters of embedded images, so that a page stays below 5 MB."""
SINGLE_SIDE = 1024
"""Longest side, in pixels, of the only image of a page."""
MAX_PAIRS, MAX_SAMPLES = 8, 12
"""Largest number of kept pairs, of dropped pairs, and of ScenesBench pairs on the page."""
MAX_ROWS_READ = 400
"""Rows of a round from which the gallery's pairs are selected."""


@dataclass(frozen=True)
class BenchSample:
    """A ScenesBench pair with its critiques in the first and the last evaluated round.

    Attributes:
        kind: kind of question.
        question: the question.
        image: the image, without evidence.
        responses: for the right and the wrong response its name, its text, and its critique by round label.
        changed: whether a judgement differs between the two rounds.
    """

    kind: str
    question: str
    image: PageImage
    responses: Sequence[tuple[str, str, Sequence[tuple[str, CritiqueView]]]]
    changed: bool


PAIR_TABLES = (tables.pairs_table, tables.difficulty_table, tables.critiques_table, tables.words_table)
"""Tables about the pairs of all rounds."""


def render_report(ledger: Ledger, report: JsonObject) -> str:
    """The HTML of a run's page."""
    rounds = report["rounds"]
    embedder = ImageEmbedder(ledger, IMAGE_BUDGET, confidence=confidence_of_run(report["config"]))
    samples = _bench_samples(ledger, rounds, embedder)
    with_data = [r["round"] for r in rounds if r["rows"].get("select")]
    own = _learns_own(report["config"])
    kept, dropped, problem = _gallery(ledger, with_data[-1], embedder, own) if with_data else ([], [], "")
    kinds, pope = tables.question_kinds(rounds), tables.pope_metrics(rounds)
    accuracies = [plots.metric_by_round(rounds, name, tables.HEADLINE_TITLES[name]) for name in HEADLINE]
    return _render(
        "report.html.j2",
        title=f"{report['run']}: vlrm-ray report",
        report=report,
        measured={name for round_ in rounds for name in round_["metrics"]},
        headline=headline(report),
        accuracies=[plot for plot in accuracies if plot],
        all_metrics=tables.metrics_table(
            rounds, tables.overall_metrics(rounds), "All metrics by round, with 95 % intervals"
        ),
        rounds_paid=tables.gains_table(rounds),
        kinds_plot=plots.accuracy_by_kind(rounds, kinds),
        kinds=tables.metrics_table(rounds, kinds, "Accuracy by kind of question, with 95 % intervals"),
        pope=tables.metrics_table(rounds, pope, "POPE metrics by round, with 95 % intervals"),
        reliability=plots.reliability(rounds),
        calibration_error=plots.calibration_error(rounds),
        margins=_latest_margins(rounds, report["config"]["selection"]["margin"]),
        loss_curves=[plot for r in rounds if (plot := training.loss_curve(r))],
        training=training.training_table(rounds),
        verdicts=tables.verdicts_table(rounds),
        pairs=[table for make in PAIR_TABLES if (table := make(rounds))],
        rows=tables.rows_table(rounds),
        timeline=timeline(report.get("timeline", [])),
        seconds=tables.seconds_table(rounds),
        actors=tables.actors_table(rounds),
        overlap=tables.overlap_table(rounds),
        nodes=nodes_plot(report.get("nodes", [])),
        config=yaml.safe_dump(report["config"], sort_keys=False, allow_unicode=True),
        samples=samples,
        kept=kept,
        dropped=dropped,
        gallery_round=with_data[-1] if with_data else 0,
        problem=problem,
    )


def render_prompt(ledger: Ledger, run: str, row: Row) -> str:
    """The HTML of the page about one prompt of the run with this name."""
    config = ledger.get_json("config.json") or {}
    embedder = ImageEmbedder(ledger, IMAGE_BUDGET, confidence=confidence_of_run(config))
    card = prompt_card(row, embedder, _learns_own(config))
    return _render("show.html.j2", title=f"{run}: prompt {row.prompt.prompt_id}", run=run, card=card)


def render_verdicts(
    image: str,
    question: str,
    response: str,
    checked: Sequence[CheckedClaim],
    evidence: Evidence,
    confidence: Confidence = unknown,
) -> str:
    """The HTML of a page about one response that was checked outside a run.

    Args:
        image: path or URI of the image.
        question: the question; "" without one.
        response: the response.
        checked: its claims with their verdicts.
        evidence: what the experts found in the image.
        confidence: how sure a box is.
    """
    candidate = Candidate("response", response, ImageCondition.GIVEN, tuple(checked))
    prompt = Prompt("response", image, "", question or "Checked response")
    size_and_evidence = {name: getattr(evidence, name) for name in EVIDENCE}
    row = Row(0, 0, prompt, asked=1, candidates=(candidate,), **size_and_evidence)
    counts = Counter(claim.finding.verdict.value for claim in checked)
    return _render(
        "verify.html.j2",
        title="checked response: vlrm-ray",
        card=prompt_card(row, ImageEmbedder(None, IMAGE_BUDGET, SINGLE_SIDE, confidence)),
        counts=counts,
    )


def _render(template: str, **content: Any) -> str:
    environment = _environment()
    css = environment.get_template("page.css.j2").render()
    css_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template(template).render(css=Markup(css), css_hash=css_hash, **content)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vlrm_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"humanize": humanize, "signed": signed}
    return environment


def _latest_margins(rounds: Sequence[JsonObject], threshold: float) -> Plot | None:
    """The margins of the last round that has any."""
    drawn = [plot for r in rounds if (plot := plots.margins(r, threshold))]
    return drawn[-1] if drawn else None


def _learns_own(config: JsonObject) -> bool:
    """`selection.own` of a run, which older runs do not have."""
    return bool(config.get("selection", {}).get("own"))


def _gallery(
    ledger: Ledger, round_: int, embedder: ImageEmbedder, own: bool
) -> tuple[list[PromptCard], list[PromptCard], str]:
    """Cards of kept and of dropped pairs, and the error message if a part could not be read."""
    rows: list[Row] = []
    problem = ""
    try:
        for row in iter_rows(ledger, round_):
            rows.append(row)
            if len(rows) >= MAX_ROWS_READ:
                break
    except UserError as error:
        problem = str(error)
    kept, dropped = select_pairs(rows, MAX_PAIRS)
    return (
        [pair_card(row, pair, embedder, own) for row, pair in kept],
        [pair_card(row, pair, embedder, own) for row, pair in dropped],
        problem,
    )


def _bench_samples(ledger: Ledger, rounds: Sequence[JsonObject], embedder: ImageEmbedder) -> list[BenchSample]:
    """ScenesBench pairs in the first and the last evaluated round, those with a changed judgement first."""
    stored = {r["round"]: (ledger.result(r["round"], "evaluate") or {}).get("samples", []) for r in rounds}
    by_round = [(number, {item["item_id"]: item for item in items}) for number, items in stored.items() if items]
    if not by_round:
        return []
    compared = [by_round[0], by_round[-1]] if len(by_round) > 1 else by_round
    keys = [key for key in compared[0][1] if all(key in items for _, items in compared)]
    changed_first = sorted(keys, key=lambda key: not _changed(compared, key))
    return [_bench_sample(key, compared, embedder) for key in changed_first[:MAX_SAMPLES]]


def _changed(compared: Sequence[tuple[int, JsonObject]], key: str) -> bool:
    """Whether a judgement of the pair differs between the first and the last of the compared rounds."""

    def judgements(item: JsonObject) -> list[bool]:
        return [_critique(item[f"{side}_critique"]).reward > 0.5 for side in ("chosen", "rejected")]

    return judgements(compared[0][1][key]) != judgements(compared[-1][1][key])


def _bench_sample(key: str, compared: Sequence[tuple[int, JsonObject]], embedder: ImageEmbedder) -> BenchSample:
    item = compared[-1][1][key]
    responses = [
        (
            "right response" if side == "chosen" else "wrong response",
            display_text(item[side], MAX_RESPONSE_CHARACTERS),
            [
                (tables.round_label(number), critique_view(_critique(items[key][f"{side}_critique"]), side == "chosen"))
                for number, items in compared
            ],
        )
        for side in ("chosen", "rejected")
    ]
    image = embedder.embed_file(item["image"], f"sample-{key}-image")
    question = display_text(item["question"], MAX_RESPONSE_CHARACTERS)
    return BenchSample(humanize(item["kind"]), question, image, responses, _changed(compared, key))


def _critique(stored: JsonObject) -> ScoredCritique:
    return ScoredCritique(stored["text"], stored["yes"], stored["no"])
