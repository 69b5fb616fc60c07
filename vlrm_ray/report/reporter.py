"""Writes a run's `report.json` and `report.html`, while it runs and again later."""

import posixpath
import time

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.report.build import Facts, build
from vlrm_ray.report.memory import MemoryWatch
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row

JSON, PAGE = "report.json", "report.html"


class Reporter:
    """Reports on one session of a run; what earlier sessions took is added to it."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self.settings, self.ledger = config.model_dump(mode="json"), ledger
        self.earlier: Facts = ledger.get_json(JSON) or {}
        self.began, self.memory = time.monotonic(), MemoryWatch()

    def write(self) -> Facts:
        """Write both files of what the ledger holds now; returns the report."""
        seconds = time.monotonic() - self.began + self.earlier.get("wall_seconds", 0.0)
        memory = max(self.memory.peak, self.earlier.get("peak_memory_bytes", 0))
        report = build(self.settings, self.ledger, seconds, memory)
        self.ledger.put_json(JSON, report)
        self.ledger.put(PAGE, page_of(self.ledger, report))
        return report


def page_of(ledger: Ledger, report: Facts) -> bytes:
    """The page of a report."""
    from vlrm_ray.report.page import render  # imports matplotlib

    return render(ledger, report).encode()


def page_of_prompt(ledger: Ledger, row: Row) -> bytes:
    """The page of one prompt."""
    from vlrm_ray.report.page import render_prompt

    return render_prompt(ledger, posixpath.basename(ledger.root.rstrip("/")), row).encode()


def rebuilt(ledger: Ledger) -> Facts:
    """The report of a run that has ended or goes on elsewhere; raises UserError if there is none."""
    earlier = ledger.get_json(JSON) or {}
    settings = earlier.get("config") or ledger.get_json("config.json")
    if settings is None:
        raise UserError(f"{ledger.uri} holds no run (no config.json); give --run runs/<name>")
    settings = Config().model_dump(mode="json") | settings  # config.json has no rounds and no cluster
    report = build(settings, ledger, earlier.get("wall_seconds", 0.0), earlier.get("peak_memory_bytes", 0))
    return report if earlier else report | {"wall_seconds": _at_work(report)}


def _at_work(report: Facts) -> float:
    """Wall seconds of the finished stages: a run that was killed has told no more."""
    streaming = ("generate", "verify", "pair", "critique", "select")
    spent = [s for r in report["rounds"] for stage, s in r["seconds"].items() if stage not in streaming]
    return round(float(sum(spent)), 1)
