"""`report.html`: one file that needs nothing from outside and runs no script.

Figures come from `report.json`; pictures, responses and critiques from the ledger's committed parts.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vlrm_ray.errors import UserError
from vlrm_ray.report import plots, tables
from vlrm_ray.report.build import HEADLINE
from vlrm_ray.report.gallery import Card, ShownCritique, card_of_pair, card_of_prompt, choose, rows_of, shown_critique
from vlrm_ray.report.headline import headline
from vlrm_ray.report.pictures import Album, Picture
from vlrm_ray.report.svg import Plot
from vlrm_ray.report.timeline import timeline
from vlrm_ray.report.words import plain, shown, signed
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row
from vlrm_ray.types import ScoredCritique

Facts = Mapping[str, Any]
PICTURE_BUDGET = 3_000_000
"""Characters that pictures may take of a page of 5 MB."""
CARDS, SAMPLES = 8, 12
"""Most pairs of each sort, and most ScenesBench items, that the gallery shows."""
READ_AT_MOST = 400
"""Rows of a round that the gallery chooses from."""


@dataclass(frozen=True)
class Sample:
    """A ScenesBench pair with the critiques of the first and the last evaluated round."""

    anchor: str
    kind: str
    question: str
    picture: Picture
    sides: Sequence[tuple[str, str, Sequence[tuple[str, ShownCritique]]]]
    changed: bool


def render(ledger: Ledger, report: Facts) -> str:
    """The page of a run."""
    rounds, album = report["rounds"], Album(ledger, PICTURE_BUDGET)
    samples = _samples(ledger, rounds, album)
    gathered = [r["round"] for r in rounds if r["rows"].get("select")]
    kept, refused, problem = _gallery(ledger, gathered[-1], album) if gathered else ([], [], "")
    return _page(
        "report.html.j2",
        title=f"{report['run']}: vlrm-ray report",
        report=report,
        headline=headline(report),
        gains=[p for name in HEADLINE if (p := plots.over_rounds(rounds, name, tables.HEADINGS[name]))],
        controls=tables.metrics_table(rounds, tables.figures(rounds), "All figures by round"),
        kinds_plot=plots.by_kind(rounds, tables.kinds(rounds)),
        kinds=tables.metrics_table(rounds, tables.kinds(rounds), "Pairs judged right, by kind of question"),
        pope=tables.metrics_table(rounds, tables.pope(rounds), "POPE, before and after"),
        reliability=plots.reliability(rounds),
        margins=_margins(rounds, report["config"]["selection"]["margin"]),
        verdicts=tables.verdicts_table(rounds),
        pairs=tables.pairs_table(rounds),
        rows=tables.rows_table(rounds),
        timeline=timeline(report.get("timeline", [])),
        seconds=tables.seconds_table(rounds),
        actors=tables.actors_table(rounds),
        config=yaml.safe_dump(report["config"], sort_keys=False, allow_unicode=True),
        samples=samples,
        kept=kept,
        refused=refused,
        gallery_round=gathered[-1] if gathered else 0,
        problem=problem,
    )


def render_prompt(ledger: Ledger, run: str, row: Row) -> str:
    """The page of one prompt."""
    card = card_of_prompt(row, Album(ledger, PICTURE_BUDGET))
    return _page("show.html.j2", title=f"{run}: prompt {row.prompt.prompt_id}", run=run, card=card)


def _page(template: str, **content: Any) -> str:
    environment = _environment()
    css = environment.get_template("page.css.j2").render()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template(template).render(css=Markup(css), css_hash=digest, **content)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vlrm_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "signed": signed}
    return environment


def _margins(rounds: Sequence[Facts], threshold: float) -> Plot | None:
    drawn = [found for r in rounds if (found := plots.margins(r, threshold))]
    return drawn[-1] if drawn else None


def _gallery(ledger: Ledger, round_: int, album: Album) -> tuple[list[Card], list[Card], str]:
    """Cards of kept and of refused pairs, and what kept them from being read, if anything did."""
    rows: list[Row] = []
    problem = ""
    try:
        for row in rows_of(ledger, round_):
            rows.append(row)
            if len(rows) >= READ_AT_MOST:
                break
    except UserError as error:
        problem = str(error)
    kept, refused = choose(rows, CARDS)
    return [card_of_pair(*one, album) for one in kept], [card_of_pair(*one, album) for one in refused], problem


def _samples(ledger: Ledger, rounds: Sequence[Facts], album: Album) -> list[Sample]:
    """ScenesBench items with critiques of the first and last evaluation, those first whose judgement changed."""
    found = {r["round"]: (ledger.result(r["round"], "evaluate") or {}).get("samples", []) for r in rounds}
    taken = [(number, {item["item_id"]: item for item in items}) for number, items in found.items() if items]
    if not taken:
        return []
    views = [taken[0], taken[-1]] if len(taken) > 1 else taken
    items = [key for key in views[0][1] if all(key in view for _, view in views)]
    by_change = sorted(items, key=lambda key: not _changed(views, key))
    return [_sample(key, views, album) for key in by_change[:SAMPLES]]


def _changed(views: Sequence[tuple[int, Facts]], key: str) -> bool:
    def judgements(item: Facts) -> list[bool]:
        return [_judged(item[f"{side}_critique"]).reward > 0.5 for side in ("chosen", "rejected")]

    return judgements(views[0][1][key]) != judgements(views[-1][1][key])


def _sample(key: str, views: Sequence[tuple[int, Facts]], album: Album) -> Sample:
    item = views[-1][1][key]
    sides = [
        (
            "right response" if side == "chosen" else "wrong response",
            shown(item[side], 300),
            [
                (tables.round_name(number), shown_critique(_judged(view[key][f"{side}_critique"]), side == "chosen"))
                for number, view in views
            ],
        )
        for side in ("chosen", "rejected")
    ]
    anchor = f"sample-{key}"
    picture = album.of_file(item["image"], f"{anchor}-image")
    return Sample(anchor, plain(item["kind"]), shown(item["question"], 300), picture, sides, _changed(views, key))


def _judged(found: Facts) -> ScoredCritique:
    return ScoredCritique(found["text"], found["yes"], found["no"])
