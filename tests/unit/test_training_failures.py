"""Failures of train workers in one line: which rank failed first, what it was doing, and whether another attempt helps."""

import sys
import types
from typing import Any

import pytest

from vlrm_ray.config import Lora, Train
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.reward.training import activity, entry, failures
from vlrm_ray.reward.training.failures import WorkerFailure, explain, out_of_memory, unrecoverable

GLOO_CLOSED = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [192.0.2.1]:4711"
GLOO_TIMEOUT = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 10000ms for recv"


def of_dead_process(text: str) -> Exception:
    """The error by which Ray Train reports a worker whose process has ended."""
    error = Exception("A worker health check failed.\nWorker info: ...")
    error.health_check_failure = Exception(text)  # type: ignore[attr-defined]
    return error


def test_the_first_cause_comes_before_ranks_that_lost_their_peer() -> None:
    found = {
        0: WorkerFailure(f"step 3 of 34: RuntimeError: {GLOO_CLOSED}"),
        1: WorkerFailure("step 3 of 34: KeyError: 'lost'"),
        2: WorkerFailure(f"step 3 of 34: RuntimeError: {GLOO_CLOSED}"),
    }
    assert explain(found, Train()) == (
        "rank 1: step 3 of 34: KeyError: 'lost'; ranks 0, 2 lost the connection to another rank "
        f"(step 3 of 34: RuntimeError: {GLOO_CLOSED})"
    )


def test_ranks_that_waited_too_long_say_how_long() -> None:
    line = explain({0: WorkerFailure(f"step 3: RuntimeError: {GLOO_TIMEOUT}")}, Train(step_timeout=10))
    assert line.startswith("rank 0 waited longer than train.step_timeout=10 s for others (step 3: ")


def test_many_ranks_are_counted() -> None:
    line = explain({rank: WorkerFailure("loading: KeyError: 'x'") for rank in range(64)}, Train())
    assert line.count("loading: KeyError: 'x'") == 3
    assert line.endswith("; 61 more ranks")


def test_a_dead_process_is_told_in_one_line() -> None:
    detail = (
        "The actor died unexpectedly before finishing this task.\nWorker exit type: SYSTEM_ERROR Worker exit detail: Worker "
        "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the OOM killer"
    )
    line = explain({1: of_dead_process(detail)}, Train())
    assert line == (
        "rank 1: its process died: Worker unexpectedly exits with a connection error code 2. End of file. "
        "(out of host memory, killed, or crashed)"
    )
    assert "aborted by nccl after train.step_timeout=1800 s" in explain({1: of_dead_process(detail)}, Train(gpus=1))
    killed = of_dead_process("Task was killed due to the node running low on memory.")
    assert explain({1: killed}, Train()) == "rank 1: its process was killed by Ray because the node ran low on memory"


def test_another_attempt_does_not_help_against_bad_input_but_against_storage() -> None:
    bad = UserError("the pairs a, b give a loss that is not finite")
    assert unrecoverable({0: bad, 1: bad}, 2) == "the pairs a, b give a loss that is not finite"
    assert unrecoverable({1: bad}, 2) == "rank 1: the pairs a, b give a loss that is not finite"
    assert unrecoverable({0: WorkerFailure("x"), 1: StorageError("away")}, 2) is None
    assert (
        unrecoverable({0: bad, 1: of_dead_process("node lost")}, 2) is None
    )  # a rank's death explains the other's error


def test_too_little_gpu_memory_names_what_to_change() -> None:
    assert out_of_memory("step 1 of 9", Train()) == (
        "a training worker ran out of GPU memory in step 1 of 9; lower train.max_tokens (now 8192), or set "
        "train.checkpointing=blocks, or train adapters in a run of another name (train.lora.rank=16), or use more "
        "train.workers (now 2)"
    )
    bounded = Train(checkpointing="blocks", lora=Lora(rank=16))
    assert out_of_memory("step 1 of 9", bounded).endswith("(now 8192), or use more train.workers (now 2)")


class OutOfMemoryError(RuntimeError):
    """Called like PyTorch's."""


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (KeyError("x"), WorkerFailure, "step 2: KeyError: 'x'"),
        (UserError("no pairs"), UserError, "no pairs"),
        (OutOfMemoryError(), UserError, "ran out of GPU memory in step 2"),
    ],
)
def test_a_worker_says_what_it_was_doing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def train(task: Any) -> None:
        activity.doing("step 2")
        raise error

    loop = types.ModuleType("train_loop")
    monkeypatch.setattr(loop, "train", train, raising=False)
    monkeypatch.setitem(sys.modules, "vlrm_ray.reward.training.train_loop", loop)
    task = types.SimpleNamespace(config=types.SimpleNamespace(train=Train()))
    with pytest.raises(kind, match=message):
        entry.train_loop_per_worker({"task": task})
    assert failures.cause_of(KeyError()) == "KeyError"
