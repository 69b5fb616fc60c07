"""What a run found: `report.json` holds every figure, `report.html` shows them.

build      the figures, from the ledger
reporter   writes both files while a run goes on
page       the page: sections, plots, gallery; templates/ has its looks
"""

from vlrm_ray.report.build import HEADLINE, SCHEMA_VERSION, build, schema, table, versions
from vlrm_ray.report.memory import MemoryWatch
from vlrm_ray.report.prompts import find_prompt, prompt_line, put_file, some_prompts
from vlrm_ray.report.reporter import JSON, PAGE, Reporter, page_of, page_of_prompt, rebuilt

__all__ = [
    "HEADLINE", "JSON", "PAGE", "SCHEMA_VERSION", "MemoryWatch", "Reporter", "build", "find_prompt", "page_of",
    "page_of_prompt", "prompt_line", "put_file", "rebuilt", "schema", "some_prompts", "table", "versions",
]  # fmt: skip
