"""Examine everything that a run needs, without starting it, and print what to mend.

    python jobs/doctor.py                                    for the embedded scenes on this machine
    python jobs/doctor.py --config FILE [key=value ...]      with the configuration and overrides of jobs/iterate.py
    python jobs/doctor.py --config FILE --engine             also start one critic and time it

It looks at versions, GPUs and driver, shared memory, disk space, ports, models (files and headers), experts with their
calibrations, prompts, storage, and the cluster of cluster.address or RAY_ADDRESS: reachable, token, labels, resources.
It writes nothing but a small file into the run's folder, which it deletes. It downloads no model.

Exit status: 0 if all is well, 1 with warnings (a run works, but look at them), 2 if a run would fail.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script

from rich.console import Console
from rich.table import Table

from vlrm_ray.config import Config, load, with_overrides
from vlrm_ray.errors import run_as_program
from vlrm_ray.pipeline import doctor, machine
from vlrm_ray.store.filesystem import joined
from vlrm_ray.store.ledger import Ledger

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
LOG_WIDTH = 160


def main() -> None:
    """Parse the command line, examine, print and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file; default: the embedded scenes")
    parser.add_argument("--engine", action="store_true", help="start one critic and time it; needs its CPUs and GPUs")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides with dotted keys")
    arguments = parser.parse_intermixed_args()
    config = load(arguments.config, arguments.overrides)
    rows = list(examine(config, engine=arguments.engine))
    state = doctor.worst(rows)
    if arguments.json:
        print(json.dumps({"state": state, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        show(rows)
    sys.exit(doctor.STATES.index(state))


def examine(config: Config, *, engine: bool = False) -> Iterator[doctor.Row]:
    """All checks of a configuration, from this machine to the cluster.

    Args:
        config: configuration of the run.
        engine: whether to start one critic.
    """
    yield from machine.version_rows(config)
    yield machine.gpu_row(config)
    yield machine.shared_memory_row(config)
    yield from machine.disk_rows(config)
    yield machine.port_row(config)
    yield from doctor.input_rows(config)
    yield from doctor.storage_rows(config)
    yield from doctor.cluster_rows(config, start_engine if engine else None)


def one_critic(config: Config) -> Config:
    """The configuration with a single critic, which one version is enough for, and no other engine."""
    return with_overrides(
        config, ["critic.engine.actors=1", "critic.writer=newest", "policy.samples=0", "experts.extractor=rule"]
    )


def start_engine(config: Config) -> doctor.Row:
    """Start one critic on the connected cluster, and stop it again."""
    from actors.fleet import Fleet

    fleet = Fleet(one_critic(config), Ledger(joined(config.folder, config.name)))
    start = time.monotonic()
    try:
        (health,) = fleet.start()
        seconds = time.monotonic() - start
    finally:
        fleet.close()
    return doctor.engine_row(health.name, seconds, health.memory_mb, config.cluster.start_timeout)


def show(rows: list[doctor.Row]) -> None:
    """Print the rows as a table, and what they add up to."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    table = Table("check", "state", "finding", "remedy", title="doctor", title_justify="left")
    for row in rows:
        table.add_row(row.check, f"[{STYLES[row.state]}]{row.state}", _plain(row.finding), _plain(row.remedy))
    console.print(table)
    counts = [f"{sum(row.state == state for row in rows)} {state}" for state in doctor.STATES]
    console.print(f"{len(rows)} checks: {', '.join(counts)}")


def _plain(text: str) -> str:
    """Text without markup."""
    return text.replace("[", "\\[")


if __name__ == "__main__":
    run_as_program(main)
