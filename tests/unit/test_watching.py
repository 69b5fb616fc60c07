"""The Grafana dashboard and the page on watching agree with the catalogue of metrics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import watching
from vlrm_ray.errors import UserError
from vlrm_ray.monitoring import CATALOGUE, RUN

EXPORTED = {name: definition for definition in CATALOGUE.values() for name in definition.exported()}
LEGEND_ONLY = {"le"}
"""Labels that Prometheus adds to a histogram."""


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(watching.DASHBOARD.read_text())
    return content


def queries() -> Iterator[tuple[str, str, str]]:
    """Title of the panel, expression and legend of every query of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def test_the_dashboard_is_made_from_its_description() -> None:
    """After a change of `cluster/grafana/panels.yaml` run `python jobs/watching.py`."""
    assert watching.DASHBOARD.read_text() == watching.dashboard_text()


def test_the_page_lists_the_catalogue() -> None:
    """After a change of `vlrm_ray/monitoring.py` run `python jobs/watching.py`."""
    assert watching.PAGE.read_text() == watching.page_text(watching.PAGE.read_text())


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(UserError, match="add both"):
        watching.page_text("# Watching")


@pytest.mark.parametrize(("title", "expression", "legend"), queries())
def test_a_query_uses_metrics_and_tags_of_the_catalogue(title: str, expression: str, legend: str) -> None:
    names = re.findall(r"\bray_\w+", expression)
    assert names
    assert set(names) <= EXPORTED.keys(), title
    tags = set.intersection(*({RUN, *EXPORTED[name].tags} for name in names)) | LEGEND_ONLY
    selected = {label for labels in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)=", labels)}
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(", ")}
    assert selected - {"outcome", "stage"} <= tags
    assert grouped <= tags
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped, "a legend shows only labels that the query keeps"
    assert all('run="$run"' in labels for labels in re.findall(r"\{([^}]*)\}", expression))


@pytest.mark.parametrize(("title", "expression", "legend"), queries())
def test_a_query_is_promql(title: str, expression: str, legend: str) -> None:
    parser = pytest.importorskip("promql_parser")
    parser.parse(expression.replace("$__rate_interval", "1m"))


def test_stages_are_compared_only_where_they_count_the_same() -> None:
    """Others count candidates, pairs or critiques, several or fewer than one for a prompt."""
    compared = [
        expression for _, expression, _ in queries() if "by (stage)" in expression and "vlrm_rows" in expression
    ]
    assert len(compared) == 1
    assert 'stage=~"prompts|detect|read"' in compared[0]


def test_the_share_of_waiting_is_that_of_now() -> None:
    """Ray keeps the counters of drivers that have ended, which would weigh down the share for as long as their node stays."""
    (share,) = (expression for _, expression, _ in queries() if "wait_seconds" in expression)
    assert share.count("rate(ray_vlrm_train_") == 2


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for _, expression, _ in queries() for name in re.findall(r"\bray_\w+", expression)}
    assert {d.name for d in CATALOGUE.values()} == {EXPORTED[name].name for name in shown}


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= watching.COLUMNS
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_dashboard_asks_for_run_and_data_source() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables.keys() == {"datasource", "run"}
    assert "ray_vlrm_version" in variables["run"]["definition"]
    assert not variables["run"]["multi"], "panels would add up several runs"
    assert not variables["run"]["includeAll"]
    assert Path(watching.DASHBOARD).read_text().count("${datasource}") > len(dashboard()["panels"])
