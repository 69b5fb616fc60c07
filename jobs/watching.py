"""Write what is made from the catalogue of metrics: the Grafana dashboard, and the table in `docs/watching.md`.

python jobs/watching.py           write cluster/grafana/vlrm-ray.json and the table
python jobs/watching.py --check   exit with status 2 if they are not up to date, write nothing
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

import yaml

from vlrm_ray.errors import UserError, run_as_program
from vlrm_ray.monitoring import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
PANELS = ROOT / "cluster" / "grafana" / "panels.yaml"
DASHBOARD = ROOT / "cluster" / "grafana" / "vlrm-ray.json"
PAGE = ROOT / "docs" / "watching.md"
BEGIN, END = "<!-- metrics: written by `python jobs/watching.py` -->", "<!-- end of metrics -->"
KINDS = {
    "timeseries": "timeseries", "stat": "stat", "gauge": "gauge", "bars": "bargauge", "heatmap": "heatmap", "table": "table",
}  # fmt: skip
"""Kinds of panels in the description, with Grafana's names."""
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
"""Columns of the dashboard, and the size of a panel."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]


def main() -> None:
    """Parse the command line, and write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files on disk, write nothing")
    check = parser.parse_args().check
    for path, content in ((DASHBOARD, dashboard_text()), (PAGE, page_text(PAGE.read_text()))):
        if not check:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            raise UserError(f"{path} is not up to date; run: python jobs/watching.py")


def page_text(text: str) -> str:
    """A page with the table of metrics between its two marks; raises UserError if it has none."""
    found = re.fullmatch(f"(.*{re.escape(BEGIN)}\n).*(\n{re.escape(END)}.*)", text, re.DOTALL)
    if not found:
        raise UserError(f"{PAGE} has no lines '{BEGIN}' and '{END}'; add both, one after the other")
    return f"{found[1]}{table()}{found[2]}"


def table() -> str:
    """The catalogue as a Markdown table."""
    lines = ["| metric | kind | tags | meaning |", "| --- | --- | --- | --- |"]
    for name, definition in CATALOGUE.items():
        tags = ", ".join(f"`{tag}`" for tag in definition.tags)
        kind = definition.kind + (f", {definition.unit}" if definition.unit else "")
        lines.append(f"| `{name}` | {kind} | {tags} | {definition.description} |")
    return "\n".join(lines)


def dashboard_text() -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(dashboard(yaml.safe_load(PANELS.read_text())), indent=1) + "\n"


def dashboard(description: Mapping[str, Any]) -> Json:
    """The dashboard that a description (`panels.yaml`) stands for."""
    return {
        "title": description["title"],
        "uid": "vlrm-ray",
        "tags": ["ray", "vlrm-ray"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [_source_variable(), _run_variable()]},
        "panels": list(_panels(description["rows"])),
    }


def _panels(rows: list[Json]) -> Iterator[Json]:
    """All panels and the headings of their rows, from top to bottom."""
    number, top = 1, 0
    for row in rows:
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False, "panels": [], "gridPos": _place(0, top, COLUMNS, 1)}  # fmt: skip
        number, top, left = number + 1, top + 1, 0
        for panel in row["panels"]:
            width = panel.get("width", WIDTH)
            if left + width > COLUMNS:
                top, left = top + HEIGHT, 0
            yield {"id": number, "gridPos": _place(left, top, width, HEIGHT)} | _panel(panel)
            number, left = number + 1, left + width
        top += HEIGHT


def _panel(panel: Json) -> Json:
    kind = panel.get("kind", "timeseries")
    limits = {"min": 0} | ({"max": panel["max"]} if "max" in panel else {})
    limits |= {"max": 1} if panel.get("unit") == "percentunit" else {}
    queries = list(panel["queries"].items())
    found: Json = {
        "type": KINDS[kind],
        "title": panel["title"],
        "description": panel.get("help", ""),
        "datasource": SOURCE,
        "targets": [_target(chr(ord("A") + i), kind, *query) for i, query in enumerate(queries)],
        "fieldConfig": {"defaults": {"unit": panel.get("unit", "short")} | limits, "overrides": []},
    }
    if kind == "bars":
        found["options"] = {"orientation": "horizontal", "displayMode": "basic"} | _last_values()
    elif kind in ("stat", "gauge"):
        found["options"] = _last_values()
    elif kind == "heatmap":
        found["options"] = {
            "calculate": False,
            "yAxis": {"unit": "short"},
            "color": {"scheme": "Oranges", "mode": "scheme"},
        }
    elif kind == "table":  # a row for each metric, a column for each round
        found["transformations"] = [
            {"id": "groupingToMatrix", "options": {"rowField": "metric", "columnField": "round", "valueField": "Value"}}
        ]
    return found


def _last_values() -> Json:
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}


def _target(letter: str, kind: str, legend: str, expression: str) -> Json:
    form = {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series")
    moment = kind in ("bars", "table", "stat", "gauge")
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": promql(expression),
        "legendFormat": legend,
        "format": form,
        "instant": moment,
        "range": not moment,
    }


def promql(expression: str) -> str:
    """An expression of the description in PromQL, with Grafana's variables."""
    return expression.replace("{run", '{run="$run"').replace("[rate]", "[$__rate_interval]")


def _source_variable() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _run_variable() -> Json:
    """One run is chosen, never several: most panels add up all series of an actor, a role or a reason."""
    query = "label_values(ray_vlrm_version, run)"
    return {
        "name": "run", "label": "Run", "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": "run"}, "refresh": 2, "sort": 1, "multi": False, "includeAll": False,
    }  # fmt: skip


def _place(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


if __name__ == "__main__":
    run_as_program(main)
