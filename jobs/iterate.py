"""Train a vision-language reward model over rounds: generate, verify, pair, critique, select, train,
publish, evaluate.

    python jobs/iterate.py                                        the embedded scenes
    python jobs/iterate.py --config FILE train.lr=1e-4 rounds=1   a configuration, with overrides
    python jobs/iterate.py --config FILE --dry-run                the resolved configuration and plan

Run the same command again after an interruption: it goes on at the first unfinished stage.
"""

import argparse
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, also inside a Ray job

import yaml

from vlrm_ray.config import Config, load
from vlrm_ray.errors import run_as_program
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.ledger import Ledger, driver_name


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="YAML file; the defaults are the embedded scenes")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the resource plan, start nothing"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides, such as train.lr=1e-4")
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.overrides)
    progress = Progress()
    if arguments.dry_run:
        show(config, progress)
        return
    progress.log(f"vlrm-ray: run {config.name}, {config.rounds} rounds of {config.prompts.per_round} prompts")
    check_inputs(config)
    iterate(config, progress)


def iterate(config: Config, progress: Progress) -> None:
    """The loop: a baseline evaluation, then the rounds, each stage skipped where it is done."""
    from vlrm_ray import report
    from vlrm_ray.pipeline import rounds

    ledger = Ledger(f"{config.folder.rstrip('/')}/{config.name}")
    reporter = report.Reporter(config, ledger)
    with OneDriver(ledger):
        rounds.claim_config(config, ledger)
        progress.log(f"results go to {ledger.uri}")
        if not rounds.finished(config, ledger):
            with ExitStack() as stack:
                with progress.stage("start Ray") as meter:
                    dashboard = stack.enter_context(connected(config, progress.log))
                    meter.close(f"dashboard http://{dashboard}" if dashboard else "no dashboard")
                work(config, ledger, progress, reporter.write)
        found = reporter.write()
    progress.table(f"run {config.name}", *report.table(found))
    progress.log(f"report: {ledger.uri}/report.html (a page to look at), {ledger.uri}/report.json (for programs)")


def work(config: Config, ledger: Ledger, progress: Progress, write_report: Callable[[], object]) -> None:
    """All rounds, on a running cluster; the report is written after each."""
    from actors.fleet import Fleet
    from vlrm_ray.pipeline import graph
    from vlrm_ray.pipeline.rounds import Rounds

    graph.tune_ray_data()
    fleet = Fleet(config, ledger)
    rounds = Rounds(config, ledger, fleet, progress)
    with progress.stage("start engines") as meter:
        meter.close("; ".join(f"{h.name} ({h.model} version {h.version}, {h.memory_mb} MB)" for h in fleet.start()))
    try:
        rounds.evaluate(0)
        write_report()
        for number in range(1, config.rounds + 1):
            rounds.gather(number)
            rounds.train(number)
            rounds.evaluate(number)
            write_report()
    finally:
        fleet.close()


class OneDriver:
    """Hold the run's lease while the driver lives."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.stop = ledger, threading.Event()

    def __enter__(self) -> None:
        self.ledger.claim(driver_name())
        threading.Thread(target=self._renew, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.ledger.release()

    def _renew(self) -> None:
        while not self.stop.wait(20):
            self.ledger.renew(driver_name())


def show(config: Config, progress: Progress) -> None:
    """Print what a run would be."""
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
    progress.table("resource plan", ["what", "count", "CPU each", "GPU each"], resource_plan.table(config))
    cpus, gpus = resource_plan.peak(config)
    print(f"needed at the same time: {cpus:g} CPU, {gpus:g} GPU ({config.cluster.placement})")


if __name__ == "__main__":
    run_as_program(main)
