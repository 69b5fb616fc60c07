"""Train the method and its ablations over several seeds, and compare them on ScenesBench.

    python jobs/evaluate.py study                          all arms, each with its 3 or 5 seeds
    python jobs/evaluate.py study --arms full,oracle --seeds 0,1 --pairs 200
    python jobs/evaluate.py study --summary                print the results so far, without training
    python jobs/evaluate.py study --arms full,one_round --between 2000
                                                           what each round brings

You can interrupt the study at any time; run the same command again to resume. Finished runs are not repeated, and an
unfinished run resumes at its first unfinished stage. Results are written to study.json in --out. If that file does not
exist, the study starts from the committed docs/study.json, if that is of the same method. Arms of the same seed share the
policy's candidates and the experts' evidence.
"""

import argparse
import shutil
import time
from contextlib import closing
from pathlib import Path

from actors.fleet import Fleet
from jobs.study.arms import ARMS, FULL, config_of
from jobs.study.oracle import OracleDetector, OracleTextReader
from jobs.study.page import fill, format_estimate, format_headline
from jobs.study.plots import draw
from jobs.study.results import Results, method_of, run_record
from jobs.study.summary import summarize
from vlrm_ray.config import Config, load, with_overrides
from vlrm_ray.errors import UserError
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import graph
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.rounds import Rounds
from vlrm_ray.pipeline.run_config import bind_config, bind_source
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.scenes import bench, best_of_n
from vlrm_ray.scenes.facts import KINDS
from vlrm_ray.store.ledger import Ledger

METHOD, COMMITTED = Path("jobs/configs/study.yaml"), Path("docs/study.json")
RESPONSES = 8
"""Responses to each prompt in the best-of-n test."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--config", metavar="FILE", default=METHOD, help="configuration of the method (default: %(default)s)"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated arms (default: %(default)s)")
    parser.add_argument("--seeds", help="comma-separated seeds (default: the 3 or 5 of each arm)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=2000,
        help="pairs per group before the first and after the last round (default: %(default)s)",
    )
    parser.add_argument(
        "--between",
        type=int,
        default=200,
        metavar="PAIRS",
        help="pairs per group after the other rounds (default: %(default)s); as many as --pairs measure each round's gain",
    )
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="split of ScenesBench (default: %(default)s)"
    )
    parser.add_argument(
        "--prompts", type=int, default=150, help="prompts of the best-of-8 test (default: %(default)s; 0: none)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="output folder (default: %(default)s)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="Markdown page whose marked tables are updated")
    parser.add_argument("--summary", action="store_true", help="print the results so far, without training")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of the configuration by dotted key"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the unfinished runs, and print the summary of all."""
    progress = Progress()
    base = with_overrides(
        load(arguments.config, arguments.overrides),
        [f"evaluation.split={arguments.split}", f"evaluation.pairs={arguments.pairs}"],
    )
    results = Results(arguments.out / "study.json", method_of(base), COMMITTED)
    unfinished = _unfinished(arguments, results)
    if unfinished and not arguments.summary:
        check_inputs(base)
        progress.log(f"{len(unfinished)} unfinished runs: " + ", ".join(f"{arm}-{seed}" for arm, seed in unfinished))
        with connected(base, progress.log):
            graph.configure_ray_data(base.cluster)
            fleet = Fleet(base, Ledger(f"{arguments.out}/shared"), restarts=0)
            try:
                with progress.stage("start engines"):
                    fleet.start()
                for arm, seed in unfinished:
                    _Run(base, arm, seed, arguments, fleet, progress).run(results)
                    results.content["summary"] = summarize(results, arguments.split)
                    results.write()
            finally:
                fleet.close()
    results.content["summary"] = summarize(results, arguments.split)
    results.write()
    draw(results, arguments.out)
    if arguments.page:
        arguments.page.write_text(fill(arguments.page.read_text(), results.content["summary"]))
    _print_summary(results, progress)


def _unfinished(arguments: argparse.Namespace, results: Results) -> list[tuple[str, int]]:
    """(arm, seed) of the unfinished runs, ordered by seed, so that runs which share candidates follow one another."""
    names = arguments.arms.split(",")
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UserError(f"--arms: unknown arm '{unknown[0]}', expected one of {', '.join(ARMS)}")
    try:
        seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else None
    except ValueError:
        raise UserError(
            f"--seeds: '{arguments.seeds}' is not a comma-separated list of integers such as 0,1,2"
        ) from None
    requested = [(name, seed) for name in names for seed in (seeds or range(ARMS[name].seeds))]
    return sorted((r for r in requested if results.run(*r) is None), key=lambda r: (r[1], names.index(r[0])))


class _Run:
    """One run: an arm with a seed."""

    def __init__(
        self, base: Config, arm: str, seed: int, arguments: argparse.Namespace, fleet: Fleet, progress: Progress
    ) -> None:
        self.arm, self.seed, self.progress = arm, seed, progress
        self.prompts, self.between = arguments.prompts, arguments.between
        self.config = config_of(base, arm, seed, str(arguments.out))
        self.ledger = Ledger(f"{arguments.out}/{self.config.name}")
        oracle = ((OracleDetector, OracleTextReader), Verifier(Calibrations(exhaustive=KINDS)))
        experts = oracle if ARMS[arm].ground_truth else ()
        self.fleet = fleet.share_with(self.config, self.ledger, *experts)

    def run(self, results: Results) -> None:
        """Run all rounds, add the record to the results, and delete the weights and training data."""
        start = time.monotonic()
        self.progress.log(f"=== {self.arm}, seed {self.seed}: {ARMS[self.arm].description}")
        results.bind(self.arm, self.ledger)
        bind_config(self.config, self.ledger)
        bind_source(self.config, self.ledger)
        for round_ in range(self.config.most_rounds + 1):
            self._round(round_)
        best = {"best_of": self._best_of()} if self.arm == FULL and self.prompts else {}
        items = bench.items(self.config.evaluation.split, self.config.evaluation.pairs, self._store())
        texts = [(item.question, item.chosen, item.rejected) for item in items]
        results.add(self.arm, self.seed, run_record(self.config, self.ledger, time.monotonic() - start, texts) | best)
        for folder in ("versions", "train"):
            shutil.rmtree(self.ledger.path(folder), ignore_errors=True)

    def _round(self, round_: int) -> None:
        """Run one round. Round 0 only evaluates the start."""
        full_evaluation = round_ in (0, self.config.most_rounds)
        config = self.config if full_evaluation else with_overrides(self.config, [f"evaluation.pairs={self.between}"])
        with closing(Rounds(config, self.ledger, self.fleet, self.progress)) as rounds:
            if round_:
                rounds.gather(round_)
                rounds.train(round_)
            rounds.evaluate(round_)

    def _best_of(self) -> dict[str, object]:
        """Run the best-of-n test with the newest reward model."""
        critic = self.config.critic
        votes, responses = max(best_of_n.VOTES), self.prompts * RESPONSES
        with self.progress.stage(f"best of {RESPONSES}", responses * (2 + votes), "texts") as meter:
            sampled = best_of_n.sample_responses(
                self.prompts,
                RESPONSES,
                lambda r, s: self.fleet.generate("policy", r, s, lambda n: meter.add(RESPONSES * n)),
                self.config.policy.max_tokens,
                self._store(),
            )
            sighted, blind = (
                best_of_n.rewards(
                    sampled,
                    FORMATS[critic.format],
                    lambda r, s: self.fleet.generate("critic", r, s, lambda n: meter.add(n * s.n)),
                    k,
                    critic.max_tokens,
                    blind=without_image,
                )
                for k, without_image in ((votes, False), (1, True))
            )
        return dict(best_of_n.best_of(sampled, sighted, blind))

    def _store(self) -> Ledger:
        return Ledger(self.config.cache)


def _print_summary(results: Results, progress: Progress) -> None:
    summary = results.content["summary"]
    rows = [[name, format_headline(name, f), str(f["n"])] for name, f in summary.items() if "ci95" in f]
    progress.table("study", ["estimate", "mean over seeds [95 % interval]", "seeds"], rows)
    rows = [[arm, *(format_estimate(f) for f in groups.values())] for arm, groups in summary["ablations"].items()]
    progress.table("full method minus the arm", ["arm", "hallucination", "reasoning", "consistency"], rows)
    progress.log(f"results: {results.path}")
