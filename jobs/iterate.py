"""Train a vision-language reward model over several rounds.

Each round samples responses to image prompts, verifies them with vision experts (object detector, OCR), makes
preference pairs, writes and selects critiques, trains the reward model on them, publishes it as a new version and
evaluates it.

    python jobs/iterate.py                                        the embedded scenes; no GPU, no download
    python jobs/iterate.py --config FILE train.lr=1e-4 rounds=1   a YAML file, with overrides
    python jobs/iterate.py --config FILE --dry-run                print configuration and resource plan, start nothing

Results are written to <folder>/<name>/, by default runs/scenes/. Open report.html there to read them.
You can interrupt a run at any time; run the same command again to resume at the first unfinished stage.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, also inside a Ray job

import yaml

from actors.downloads import fetch_experts
from vlrm_ray.config import Config, load
from vlrm_ray.errors import run_as_program
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.cluster import connected, stage_name
from vlrm_ray.pipeline.preflight import check_images, check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.run_config import bind_config, bind_models, bind_source
from vlrm_ray.store.filesystem import joined, redacted, without_passwords
from vlrm_ray.store.lease import DriverLease
from vlrm_ray.store.ledger import Ledger


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file; default: the embedded scenes")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the resource plan, then exit"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="configuration overrides with dotted keys: train.lr=1e-4"
    )
    arguments = parser.parse_intermixed_args()
    config = load(arguments.config, arguments.overrides)
    progress = Progress()
    if arguments.dry_run:
        print_plan(config, progress)
        return
    count = config.most_rounds
    rounds = f"{'at most ' if config.rounds == 'auto' else ''}{count} round{'' if count == 1 else 's'}"
    numbers = ", ".join(map(str, config.prompts.per_round[: max(1, count)]))
    progress.log(f"vlrm-ray: run {config.name}, {rounds} of {numbers} prompts")
    fetch_experts(config, progress.log)
    for remark in check_inputs(config):
        progress.log(remark)
    run(config, progress)


def run(config: Config, progress: Progress) -> None:
    """Run all unfinished rounds of a run, and write its report."""
    from vlrm_ray.pipeline import stopping
    from vlrm_ray.report.build import final_table
    from vlrm_ray.report.reporter import Reporter

    ledger = Ledger(joined(config.folder, config.name))
    reporter = Reporter(config, ledger)
    with DriverLease(ledger, progress.log):
        bind_config(config, ledger)
        bind_models(config, ledger)
        bind_source(config, ledger)
        progress.log(f"results are written to {redacted(ledger.uri)}")
        if not stopping.is_finished(config, ledger):
            check_images(config, ledger)
            with ExitStack() as stack:
                with progress.stage(stage_name(config)) as meter:
                    dashboard = stack.enter_context(connected(config, progress.log))
                    meter.set_summary(f"dashboard http://{dashboard}" if dashboard else "no dashboard")
                run_rounds(config, ledger, progress, reporter.write)
        final_report = reporter.write()
    progress.table(f"run {config.name}", *final_table(final_report))
    where = redacted(ledger.location("report"))
    progress.log(f"report: {where}.html (to read in a browser), {where}.json (for programs)")


def run_rounds(config: Config, ledger: Ledger, progress: Progress, write_report: Callable[[], object]) -> None:
    """Start the engines, then run the rounds. Finished stages are skipped."""
    from actors.fleet import Fleet
    from vlrm_ray.pipeline import node_watch
    from vlrm_ray.pipeline.graph import configure_ray_data
    from vlrm_ray.pipeline.rounds import Rounds
    from vlrm_ray.pipeline.stopping import rounds_to_run
    from vlrm_ray.pipeline.trackers import open_trackers

    configure_ray_data(config.cluster)
    fleet = Fleet(config, ledger, log=progress.log)
    rounds = Rounds(config, ledger, fleet, progress)
    trackers = open_trackers(config, ledger, progress.log)
    watched = node_watch.recorded(rounds.metrics, config.cluster, progress.log)
    with watched, closing(rounds.stream), closing(fleet), closing(rounds):
        with progress.stage("start engines") as meter:
            fleet.launch()
            rounds.begin()  # the pools of experts and stages start while engines on GPUs do
            engines = fleet.ready()
            meter.set_summary("; ".join(f"{e.name} ({e.model} version {e.version}, {e.memory_mb} MB)" for e in engines))
        rounds.monitor.start(fleet, trackers)
        for number in rounds_to_run(config, ledger):
            rounds.gather(number)  # generate, verify, pair, critique, select
            rounds.prepare(number + 1)  # with cluster.overlap: what needs no new version, while this round trains
            rounds.evaluate(number - 1)  # before the first training: the baseline
            write_report()
            rounds.train(number)  # train, publish
            rounds.evaluate(number)
            write_report()
        rounds.evaluate(0)  # without rounds: the baseline alone


def print_plan(config: Config, progress: Progress) -> None:
    """Print the resolved configuration and the resources that a run with it needs."""
    print(yaml.safe_dump(without_passwords(config.model_dump(mode="json")), sort_keys=False), end="")
    progress.table("resource plan", resource_plan.COLUMNS, resource_plan.table(config))
    cpus, gpus = resource_plan.peak(config)
    print(f"needed at the same time: {cpus:g} CPU, {gpus:g} GPU (placement: {config.cluster.placement})")
    print("at its largest: {:g} CPU, {:g} GPU".format(*resource_plan.largest(config)))
    print(resource_plan.estimated_size(config))
    print("nothing was checked: jobs/doctor.py, with the same arguments, examines models, prompts and storage")


if __name__ == "__main__":
    run_as_program(main, resumes=True)
