"""The report of a run: `report.json` with all metrics, and `report.html`, a page that shows them.

build       builds `report.json` from the ledger; `report.schema.json` is its JSON schema
reporter    writes both files during a run, or again afterwards
memory      samples the peak memory of a run
page        renders the page from the templates in `templates/`
headline    the main result in a sentence, and the key metrics at the top
tables, plots, training, timeline, svg
            tables and plots of the page; plots are converted to inline SVG
gallery, images, text
            prompts with responses, evidence, pairs and critiques; embedded images; text for the page
prompts     finds single prompts of a run for the command `evaluate.py show`
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlrm_ray.report.build import SCHEMA_VERSION, build_report, final_table, package_versions, schema
    from vlrm_ray.report.memory import MemoryWatch
    from vlrm_ray.report.prompts import find_prompt, prompt_line, sample_prompts, write_file
    from vlrm_ray.report.reporter import (
        REPORT_JSON,
        REPORT_PAGE,
        Reporter,
        prompt_page,
        rebuild_report,
        report_page,
    )

__all__ = [
    "REPORT_JSON", "REPORT_PAGE", "SCHEMA_VERSION", "MemoryWatch", "Reporter", "build_report",
    "final_table", "find_prompt", "package_versions", "prompt_line", "prompt_page", "rebuild_report", "report_page",
    "sample_prompts", "schema", "write_file",
]  # fmt: skip
_NAMES = {
    "build": ("SCHEMA_VERSION", "build_report", "final_table", "package_versions", "schema"),
    "memory": ("MemoryWatch",),
    "prompts": ("find_prompt", "prompt_line", "sample_prompts", "write_file"),
    "reporter": ("REPORT_JSON", "REPORT_PAGE", "Reporter", "prompt_page", "rebuild_report", "report_page"),
}


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is first used: commands that write no report start without matplotlib."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
