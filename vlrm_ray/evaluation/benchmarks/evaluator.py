"""A public benchmark as an evaluator of each round: the reward model judges the answers one by one, by one critique each."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import compress
from pathlib import Path

from vlrm_ray.config import Critic
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.images import IMAGE_FOLDERS, ImageResolver
from vlrm_ray.evaluation.benchmarks.items import Item, Status
from vlrm_ray.evaluation.benchmarks.judging import POINTWISE, JudgeOutput, JudgeSettings
from vlrm_ray.evaluation.benchmarks.scoring import Batch, JudgementLog, Scorer, primary_judgements
from vlrm_ray.evaluation.benchmarks.setup import check_benchmark, data_folder
from vlrm_ray.evaluation.clusters import clustered_share, repeated
from vlrm_ray.evaluation.evaluator import Evaluated, JudgeFn
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.evaluation.pairs import by_length, stored
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import local_model


class PublicBenchmark:
    """Implements `vlrm_ray.evaluation.evaluator.Evaluator` for a benchmark's data folder."""

    def __init__(self, name: str, data: str, critic: Critic, label_mass: float, ledger: Ledger) -> None:
        """Prepare a benchmark.

        Args:
            name: name of the benchmark, one of `BENCHMARKS`.
            data: folder of its files on this machine, or its URI.
            critic: the reward model.
            label_mass: smallest p(Yes) + p(No) of a critique that counts.
            ledger: where its images are stored, for critics on other nodes.

        Raises:
            UserError: there is no such benchmark or folder.
        """
        check_benchmark(name, data)
        self.title, self.headline = f"benchmark {name}", (f"benchmark_{name}_accuracy",)
        self.name, self.data, self.critic, self.label_mass, self.ledger = name, data, critic, label_mass, ledger

    @cached_property
    def folder(self) -> Path:
        """The data on this machine, fetched if needed."""
        return data_folder("evaluation.benchmarks", self.data)

    @cached_property
    def items(self) -> list[Item]:
        """The items of the benchmark; raises UserError if the files are damaged or empty."""
        items = BENCHMARKS[self.name].read(self.folder, lambda line: None)
        if not items:
            raise UserError(
                f"evaluation.benchmarks: {redacted(self.data)} has no rows of {self.name}; give another folder"
            )
        return items

    def critique_count(self) -> int:
        """See `Evaluator.critique_count`."""
        return 2 * len(self.items)

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Measure the accuracy, where undecided items count as wrong, also by group, and the baselines by length."""
        with tempfile.TemporaryDirectory() as folder:
            scorer = self._scorer(Path(folder) / "judged.jsonl")
            todo = scorer.missing(self.items, both=False)

            def all_at_once(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
                sent = list(batches)
                answers = iter(judge([request for batch in sent for request in batch]))
                for number, batch in enumerate(sent):
                    yield number, [[next(answers)] for _ in batch]

            scorer.score(todo, all_at_once, lambda done: None)
            judgements = primary_judgements(self.items, scorer.log.judged)
        hits = [judgement.is_correct(item) for item, judgement in zip(self.items, judgements, strict=True)]
        baselines = by_length(item.better_and_worse for item in self.items)
        images = repeated([item.cluster for item in self.items])
        prefix = f"benchmark_{self.name}"
        reasons = Counter(judgement.reason for judgement in judgements if judgement.status is Status.QUARANTINED)
        return Evaluated(
            {
                f"{prefix}_accuracy": clustered_share(hits, images),
                f"{prefix}_undecided": clustered_share([j.status is not Status.DECIDED for j in judgements], images),
                **{f"{prefix}_{_in_a_name(name)}_group": metric for name, metric in self._by_group(hits).items()},
                **{f"{prefix}_{name}_accuracy": clustered_share(picked, images) for name, picked in baselines.items()},
            },
            stored(f"{prefix}_accuracy", hits, images)
            | ({"quarantined": {self.name: dict(reasons)}} if reasons else {}),
        )

    def _by_group(self, hits: Sequence[bool]) -> dict[str, Metric]:
        """Accuracy in each main group of the benchmark; none if there is only one."""
        groups = sorted({item.groups[0] for item in self.items})
        inside = {name: [item.groups[0] == name for item in self.items] for name in groups if len(groups) > 1}
        return {
            name: clustered_share(list(compress(hits, part)), [item.cluster for item in compress(self.items, part)])
            for name, part in inside.items()
        }

    def _scorer(self, log: Path) -> Scorer:
        critic = self.critic
        settings = JudgeSettings.create(
            POINTWISE, FORMATS[critic.format], 1, critic.max_tokens, critic.temperature, self.label_mass
        )
        roots = [self.folder / name for name in IMAGE_FOLDERS]
        return Scorer(
            settings,
            ImageResolver(roots, self.ledger, store_files=is_remote(self.ledger.uri)),
            ContextBudget(Path(local_model(critic.model)), critic.engine.max_model_len - critic.max_tokens),
            JudgementLog(log),
            batch_size=critic.engine.max_num_seqs,
        )


def _in_a_name(group: str) -> str:
    """A group as a part of a metric's name, of which trackers allow letters, digits and underscores."""
    return re.sub(r"\W+", "_", group)
