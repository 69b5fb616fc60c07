"""The page."""

from vlrm_ray.ledger import Ledger


def render(ledger: Ledger, report: dict) -> str:
    return ""
