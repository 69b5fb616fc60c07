"""What a run found: `report.json` holds every figure, `report.html` shows them.

build      the figures, from the ledger
reporter   writes both files while a run goes on
page       the page: sections, plots, gallery; templates/ has its looks
"""

from vlrm_ray.report.build import HEADLINE, SCHEMA_VERSION, build, schema, table, versions
from vlrm_ray.report.memory import MemoryWatch
from vlrm_ray.report.reporter import Reporter, page_of, rebuilt

__all__ = [
    "HEADLINE", "SCHEMA_VERSION", "MemoryWatch", "Reporter", "build", "page_of", "rebuilt", "schema", "table", "versions",
]  # fmt: skip
