"""A whole run without models: the rounds, the graph, the ledger and Ray of a run, with simulated engines and trainings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from actors.fleet import Fleet
from tests.simulated import SimulatedDetector, SimulatedEngine, SimulatedReader, verifier
from vlrm_ray.config import Config
from vlrm_ray.reward.training.step_records import StepRecord
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger


class SimulatedFleet(Fleet):
    """A fleet whose engines answer after a fixed time; its actors take the resources that the configuration states.

    Attributes:
        slots: sequences that an engine works on at the same time, of a policy generator and of a critique writer.
        sequence_seconds: time that a sequence takes, of the same.
        words: fewest words of a response.
        detector: class of the actors of the detector pool.
    """

    slots, sequence_seconds, words = (16, 16), (0.0, 0.0), 4
    detector = SimulatedDetector

    def __init__(self, config: Config, ledger: Ledger, *, log: Callable[[str], None] = print) -> None:
        super().__init__(config, ledger, (self.detector, SimulatedReader), verifier(), log=log)

    def create_policy(self, name: str) -> ActorHandle[Any]:
        """Create the actor of a simulated policy generator."""
        engine, slots, seconds = self.config.policy.engine, self.slots[0], self.sequence_seconds[0]
        return self._remote(SimulatedEngine, engine, name).remote(slots, seconds, words=self.words, name=name)

    def create_critic(self, name: str) -> ActorHandle[Any]:
        """Create the actor of a simulated critique writer, which holds the version that the ledger names."""
        engine, slots, seconds = self.config.critic.engine, self.slots[1], self.sequence_seconds[1]
        version = self.ledger.served_version(int(name.rpartition("-")[2]))
        return self._remote(SimulatedEngine, engine, name).remote(
            slots, seconds, critic=True, version=version, name=name
        )


def _work(seconds: float) -> float:
    """Occupy a device."""
    time.sleep(seconds)
    return seconds


def fit(
    config: Config,
    ledger: Ledger,
    round_: int,
    initial_model: str,
    *,
    board: Any,
    log: Any,
    step_seconds: float = 0.1,
    short_round: int = 0,
) -> tuple[str, dict[str, Any]]:
    """Stands for `vlrm_ray.reward.training.fit.fit`: `train.epochs` steps of a fixed time on `train.workers` devices.

    In the round `short_round` there is only one step.
    """
    del log
    steps = 1 if round_ == short_round else config.train.epochs
    selector = dict(config.cluster.labels.get("train", {})) or None
    resources = {"num_cpus": config.train.cpus, "num_gpus": config.train.gpus, "label_selector": selector}
    for step in range(1, steps + 1):
        workers = [ray.remote(_work).options(**resources).remote(step_seconds) for _ in range(config.train.workers)]
        seconds = max(ray.get(workers))
        record = StepRecord(
            round_, 1, step, steps, 1.0, None, None, None, None, 1.0, 1e-3, 100, seconds, 0.0,
            100 / seconds, None, 0.0, 0,
        )  # fmt: skip
        board.add_step.remote(record.as_json())
    folder = Path(ledger.path("train", f"round-{round_:04d}", "model"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(f'{{"round": {round_}, "initial": "{initial_model}"}}')
    return str(folder), {"loss": 1.0, "step": steps, "dropped": {}}


def prompt_file(folder: Path, images: int = 8, questions: int = 8) -> str:
    """Paint some images, and write a file of prompts about them."""
    lines = []
    for index in range(images):
        paint(UNBIASED_WORLD.sample(index)).image.save(folder / f"{index}.png")
        lines += [f'{{"image": "{index}.png", "question": "What do you see? ({i})"}}\n' for i in range(questions)]
    (folder / "prompts.jsonl").write_text("".join(lines))
    return str(folder / "prompts.jsonl")
