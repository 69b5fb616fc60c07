"""What a round's training learns from: its pairs, replayed ones, descriptions, and their weights."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.test_stages import FakeActor, critique_stage, paired_rows, run
from vlrm_ray.config import Config, load
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.holdout import is_held_out
from vlrm_ray.pipeline.stages import Commit
from vlrm_ray.reward.training.examples import dealt, examples_of, examples_per_pair, global_batches
from vlrm_ray.reward.training.optimizer import peak_lr
from vlrm_ray.reward.training.training_data import Description, TrainingPair, TrainingSet
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import to_table
from vlrm_ray.types import Detection

ROUNDS, PARTS = 3, 2
PAIRS = 2 * PARTS
"""Pairs of each round."""


class RightCritic:
    """Judges responses with the word red as true."""

    def generate(self, requests: list[Request], sampling: Sampling) -> list[list[Completion]]:
        words = ["Yes" if "is red" in request.text else "No" for request in requests]
        return [[Completion(f"Judgement: {w}", float(w == "Yes"), float(w == "No"))] * sampling.n for w in words]


def commit_rounds(config: Config, folder: Path) -> Ledger:
    """Commit rounds of parts with two rows each; the second image of each part shows nothing."""
    ledger, stage = Ledger(str(folder)), critique_stage(config, FakeActor(RightCritic()))  # type: ignore[arg-type]
    for round_ in range(1, ROUNDS + 1):
        for part in range(PARTS):
            rows = run(stage, paired_rows("It is blue.", "It is green."))
            for index, row in enumerate(rows):
                row.part, row.round, row.width, row.height = part, round_, 90, 90
                object.__setattr__(row.prompt, "sha256", f"{round_}{part}{index}")
                row.objects = (Detection("star", (5, 35, 25, 55), 0.99, "red"),) if index == 0 else ()
            Commit(config, ledger)(to_table(rows))
    return ledger


def training_set(folder: Path, round_: int, *overrides: str) -> TrainingSet:
    config = load(None, ["critic.k=1", *overrides])
    return TrainingSet(config, commit_rounds(config, folder), round_)


def of_round(item: Any) -> int:
    return int(item.sha256[0])


def test_by_default_a_round_learns_its_own_pairs(tmp_path: Path) -> None:
    data = training_set(tmp_path, 3)
    assert (len(data), data.pairs, data.descriptions) == (PAIRS, PAIRS, 0)
    assert {of_round(item) for item in data.read(range(len(data))).values()} == {3}


@pytest.mark.parametrize(("replay", "earlier"), [(0.5, PAIRS // 2), (1.0, PAIRS), (1000.0, 2 * PAIRS)])
def test_pairs_of_earlier_rounds_are_replayed_by_the_number_of_new_ones(
    replay: float, earlier: int, tmp_path: Path
) -> None:
    data = training_set(tmp_path, 3, f"train.replay={replay}")
    found = Counter(of_round(item) for item in data.read(range(len(data))).values())
    assert found[3] == PAIRS
    assert found[1] + found[2] == earlier
    again = training_set(tmp_path / "again", 3, f"train.replay={replay}")
    assert again.read(range(len(again))) == data.read(range(len(data))), "all workers choose the same"


def test_the_first_round_has_nothing_to_replay(tmp_path: Path) -> None:
    assert len(training_set(tmp_path, 1, "train.replay=5")) == PAIRS


def test_images_are_described_as_the_experts_saw_them(tmp_path: Path) -> None:
    """The images of which the experts saw nothing are left out."""
    data = training_set(tmp_path, 2, "train.description_weight=0.5")
    assert (data.pairs, data.descriptions) == (PAIRS, PARTS)
    descriptions = data.read(range(data.pairs, len(data)))
    assert {item.evidence for item in descriptions.values() if isinstance(item, Description)} == {
        "red star middle left"
    }
    config = load(None, ["train.description_weight=0.5"])
    (example,) = examples_of(descriptions[data.pairs], config)
    assert (example.answer, example.weight) == ("Seen: red star middle left.", 0.5)
    assert example.continues
    assert not example.judged


def test_an_image_that_is_held_out_is_not_described(tmp_path: Path) -> None:
    overrides = ["prompts.source=x.jsonl", "evaluation.holdout=0.5", "train.description_weight=1"]
    data = training_set(tmp_path, 1, *overrides)
    config = load(None, overrides)
    expected = {f"1{part}0" for part in range(PARTS) if not is_held_out(config, f"1{part}0")}
    assert {item.sha256 for item in data.read(range(data.pairs, len(data))).values()} == expected


def test_labels_by_the_model_itself_use_no_evidence_of_experts(tmp_path: Path) -> None:
    assert training_set(tmp_path, 1, "pairing.labels=self", "train.description_weight=1").descriptions == 0


@pytest.mark.parametrize(("pairs", "sizes"), [(10, [3, 3, 4]), (12, [4, 4, 4]), (13, [3, 3, 3, 4]), (2, [2])])
def test_batches_of_an_epoch_are_as_large_as_each_other(pairs: int, sizes: list[int]) -> None:
    batches = global_batches(range(pairs), 4, 0, 0)
    assert sorted(map(len, batches)) == sizes
    assert sorted(number for batch in batches for number in batch) == list(range(pairs))
    assert batches == global_batches(range(pairs), 4, 0, 0)
    assert pairs < 5 or batches != global_batches(range(pairs), 4, 1, 0)


def test_descriptions_are_added_to_the_batches_and_no_step_is(tmp_path: Path) -> None:
    plain = global_batches(range(10), 4, 0, 0)
    added = global_batches(range(10), 4, 0, 0, range(10, 15))
    assert [batch[: len(pairs)] for batch, pairs in zip(added, plain, strict=True)] == plain
    assert sorted(number for batch in added for number in batch) == list(range(15))
    assert sorted(len(batch) - len(pairs) for batch, pairs in zip(added, plain, strict=True)) == [1, 2, 2]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_workers_get_about_the_same_work_of_a_batch(workers: int) -> None:
    """No two differ by more than the largest item, and each item is in one share."""
    draw = random.Random(0)
    sizes = [draw.randint(600, 2800) for _ in range(100)]
    batch = list(range(20, 90))
    shares = dealt(batch, sizes, workers)
    assert sorted(number for share in shares for number in share) == batch
    loads = [sum(sizes[number] for number in share) for share in shares]
    assert max(loads) - min(loads) < 2800
    assert max(loads) < 1.05 * sum(loads) / workers


def test_items_of_one_size_are_dealt_in_turn_and_a_small_batch_leaves_workers_without() -> None:
    assert dealt([4, 2, 0, 3, 1], [1] * 5, 2) == [[4, 0, 1], [2, 3]]
    assert dealt([1, 0], [5, 7], 3) == [[1], [0], []]


def test_the_sizes_of_items_come_from_the_markers_of_parts(tmp_path: Path) -> None:
    """A size is that of the texts and of the image, as far as the trainer sees it."""
    data = training_set(tmp_path, 2, "train.description_weight=1", "train.replay=1", "prompts.max_pixels=7840")
    items = data.read(range(len(data)))
    for number, item in items.items():
        texts = [v for k, v in vars(item).items() if isinstance(v, str) and k not in ("pair_id", "image", "sha256")]
        assert data.sizes[number] == 1 + sum(map(len, texts)) // 4 + 7840 // 28**2


def test_without_sizes_of_some_items_all_count_alike(tmp_path: Path) -> None:
    """As in a run whose first rounds are older than sizes."""
    config = load(None, ["critic.k=1", "train.replay=1"])
    ledger = commit_rounds(config, tmp_path)
    name = next(tmp_path.rglob("round-0001/**/part-00000.json")).relative_to(ledger.path()).as_posix()
    marker = ledger.get_json(name)
    assert marker is not None
    del marker["sizes"]
    ledger.put_json(name, marker)
    assert TrainingSet(config, ledger, 2).sizes == [1] * 2 * PAIRS
    assert min(TrainingSet(load(None, ["critic.k=1"]), ledger, 2).sizes) > 1


def test_a_pair_gives_two_critiques_and_the_chosen_response() -> None:
    pair = TrainingPair("p", "a.png", "0", "Why?", "one", "none", "Judgement: Yes", "Judgement: No")
    examples = examples_of(pair, load())
    assert [example.answer for example in examples] == ["Judgement: Yes", "Judgement: No", "one"]
    assert [example.weight for example in examples] == [1.0, 1.0, load().train.response_weight]
    assert len(examples) == examples_per_pair(load())


def test_parts_from_before_a_column_was_removed_are_read(tmp_path: Path) -> None:
    """As those with the wordings of `train.balance`, of which markers held counts."""
    ledger = commit_rounds(load(None, ["critic.k=1"]), tmp_path)
    data = TrainingSet(load(), ledger, 1)
    expected, sizes = data.read(range(len(data))), data.sizes
    marker, table = ledger.part_markers(1)[0], ledger.get_part(1, "select", 0)
    former = pa.array([["count 1"], []], pa.list_(pa.string()))
    for name in ("chosen_wordings", "rejected_wordings"):
        table = table.append_column(name, former)
    del marker["tables"]
    ledger.put_part(1, 0, {"select": table}, {**marker, "wordings": {"count 1": [1, 1]}})
    data = TrainingSet(load(), ledger, 1)
    assert (data.read(range(len(data))), data.sizes) == (expected, sizes)


def test_parts_hold_only_what_the_training_asks_for(tmp_path: Path) -> None:
    marker = commit_rounds(load(None, ["critic.k=1"]), tmp_path).part_markers(1)[0]
    assert "describe" not in marker["tables"]


def test_the_rate_decays_over_rounds_only_if_training_goes_on() -> None:
    assert peak_lr(load().train, 10, 3) == pytest.approx(1e-3 * 0.55**2)
    assert peak_lr(load(None, ["train.initial=base"]).train, 10, 3) == pytest.approx(1e-3)


def test_a_part_is_read_once_for_all_its_items_and_its_marker_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = training_set(tmp_path, 3), list[str]()
    get = Ledger.get
    monkeypatch.setattr(Ledger, "get", lambda ledger, name: (read.append(name), get(ledger, name))[1])
    assert len(data.read(range(len(data)))) == PAIRS
    assert sorted(read) == [f"round-0003/select/part-{part:05d}.parquet" for part in range(PARTS)]


def test_a_part_that_was_lost_after_the_round_was_gathered_ends_the_training(tmp_path: Path) -> None:
    ledger = commit_rounds(load(None, ["critic.k=1"]), tmp_path)
    ledger.finish(3, "select", {"rows": {"kept": PAIRS}})
    assert TrainingSet(load(None, []), ledger, 3).pairs == PAIRS
    ledger.remove_part(3, 0)
    with pytest.raises(UserError, match=f"2 of the {PAIRS} selected pairs of round 3 are there"):
        TrainingSet(load(None, []), ledger, 3)
