"""Writes `report.json` and `report.html` of a run, during the run and afterwards."""

import posixpath
import time

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.report.build import JsonDict, build_report
from vlrm_ray.report.memory import MemoryWatch
from vlrm_ray.store.filesystem import redacted, without_passwords
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.rows import Row

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"


class Reporter:
    """Writes the report of a run during one session; time and memory of earlier sessions are included.

    Attributes:
        memory: samples the session's memory until it is stopped.
    """

    def __init__(self, config: Config, ledger: Ledger) -> None:
        """Start to measure time and memory of this session."""
        self.config, self.ledger = config.model_dump(mode="json"), ledger
        self.previous: JsonDict = ledger.get_json(REPORT_JSON) or {}
        self.start, self.memory = time.monotonic(), MemoryWatch()

    def write(self) -> JsonDict:
        """Write both files from the current content of the ledger; returns the report."""
        seconds = time.monotonic() - self.start + self.previous.get("wall_seconds", 0.0)
        memory = max(self.memory.peak, self.previous.get("peak_memory_bytes", 0))
        report = build_report(self.config, self.ledger, seconds, memory)
        self.ledger.put_json(REPORT_JSON, without_passwords(report))
        self.ledger.put(REPORT_PAGE, report_page(self.ledger, report))
        return report


def report_page(ledger: Ledger, report: JsonDict) -> bytes:
    """`report.html` of a report, without passwords of URIs."""
    from vlrm_ray.report.page import render_report  # imports matplotlib

    return redacted(render_report(ledger, report)).encode()


def prompt_page(ledger: Ledger, row: Row) -> bytes:
    """The page about one prompt."""
    from vlrm_ray.report.page import render_prompt

    return redacted(render_prompt(ledger, posixpath.basename(ledger.root.rstrip("/")), row)).encode()


def rebuild_report(ledger: Ledger) -> JsonDict:
    """Build the report of a run that has ended or that another process continues.

    Raises:
        UserError: the folder is not that of a run.
    """
    previous = ledger.get_json(REPORT_JSON) or {}
    config = without_passwords(previous.get("config") or ledger.get_json("config.json"))
    if config is None:
        raise UserError(f"--run {ledger.uri}: not a run (no config.json); give a folder such as runs/<name>")
    config = Config().model_dump(mode="json") | config  # config.json lacks the keys rounds and cluster
    report = build_report(config, ledger, previous.get("wall_seconds", 0.0), previous.get("peak_memory_bytes", 0))
    return report if previous else report | {"wall_seconds": _finished_seconds(report)}


def _finished_seconds(report: JsonDict) -> float:
    """Wall seconds of the finished stages, for a run that was killed before it wrote a report."""
    seconds = [s for r in report["rounds"] for stage, s in r["seconds"].items() if stage not in ROLLOUT_STAGES]
    return round(float(sum(seconds)), 1)
