"""Puts the failures of train workers into one line: which rank failed, what it was doing, and why.

When one rank fails, others lose their connection to it and fail too. These are told apart, so that the line names the
first cause:

* a rank that raises an exception: Ray Train sees it within seconds and ends the other ranks, which wait for it;
* a rank whose process dies: with gloo the others fail at once, with nccl they wait until Ray Train ends them;
* a rank that hangs: the others fail after `train.step_timeout`. With gloo they raise an error, nccl aborts their processes.
"""

import re
from collections.abc import Mapping

from vlrm_ray.config import Train
from vlrm_ray.errors import StorageError, UserError

MOST_RANKS = 3
"""Ranks whose failures are written out."""
LOST_PEER = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|Connection refused|Socket Timeout"
    r"|remote process exited|NCCL communicator was aborted|connection to (the )?peer"
)
"""Errors of a rank whose connection to another rank was lost."""
TIMED_OUT = re.compile(r"[Tt]imed out|Timeout|have not joined the collective operation")
"""Errors of a rank that has waited for others too long."""


class WorkerFailure(Exception):
    """A train worker failed; the message says what it was doing and why it failed."""


def cause_of(error: BaseException) -> str:
    """An exception in one line: its type, and the last line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__


def out_of_memory(activity: str, settings: Train) -> str:
    """The message for a worker that ran out of the device's memory."""
    remedies = [f"lower train.max_tokens (now {settings.max_tokens})"]
    if settings.checkpointing == "none":
        remedies.append("set train.checkpointing=blocks")
    if not settings.lora.rank:
        remedies.append("train adapters in a run of another name (train.lora.rank=16)")
    remedies.append(f"use more train.workers (now {settings.workers})")
    return f"a training worker ran out of GPU memory in {activity}; {', or '.join(remedies)}"


def unrecoverable(failures: Mapping[int, BaseException], workers: int) -> str | None:
    """The line for a failure that every further attempt would meet again; None if another attempt can help.

    A process that died makes other ranks fail, whatever they say, and another attempt has a new one.

    Args:
        failures: the exception of each rank that failed.
        workers: number of ranks.
    """
    found = {
        rank: str(error)
        for rank, error in failures.items()
        if isinstance(error, UserError) and not isinstance(error, StorageError)
    }
    if not found or any(_death(error) for error in failures.values()):
        return None
    rank, message = min(found.items())
    return message if len(found) == workers else f"rank {rank}: {message}"


def explain(failures: Mapping[int, BaseException], settings: Train) -> str:
    """The failures in one line, first causes first.

    Args:
        failures: the exception of each rank that failed.
        settings: `step_timeout` and `gpus`, for the message.
    """
    lines = {rank: _line(error, settings) for rank, error in sorted(failures.items())}
    waited = [rank for rank, line in lines.items() if TIMED_OUT.search(line)]
    lost = [rank for rank, line in lines.items() if rank not in waited and LOST_PEER.search(line)]
    first = [rank for rank in lines if rank not in waited and rank not in lost]
    parts = [f"rank {rank}: {lines[rank]}" for rank in first[:MOST_RANKS]]
    if len(first) > MOST_RANKS:
        parts.append(f"{len(first) - MOST_RANKS} more ranks")
    if waited:
        parts.append(
            f"{_ranks(waited)} waited longer than train.step_timeout={settings.step_timeout} s for others "
            f"({lines[waited[0]]}); look for the rank that hangs in the Ray dashboard"
        )
    if lost:
        parts.append(f"{_ranks(lost)} lost the connection to another rank ({lines[lost[0]]})")
    return "; ".join(parts)


def _line(error: BaseException, settings: Train) -> str:
    """One rank's failure; that of a process that died says so, with the reason that Ray knows."""
    failure = _death(error)
    if failure is not None:
        return died(failure, settings)
    return str(error) if isinstance(error, WorkerFailure) else cause_of(error)


def _death(error: BaseException) -> BaseException | None:
    """How Ray Train learned that a rank's process has ended; None if the rank has raised the error itself."""
    failure: BaseException | None = getattr(error, "health_check_failure", None)
    return failure


def died(failure: BaseException, settings: Train) -> str:
    """A process that died, in one line; Ray rarely knows why."""
    text = " ".join(str(failure).split())
    if "low on memory" in text:
        return "its process was killed by Ray because the node ran low on memory"
    aborted = f", or aborted by nccl after train.step_timeout={settings.step_timeout} s" if settings.gpus else ""
    detail = re.search(r"exit detail: (.*?)(?: Some common causes| There are some potential|$)", text)
    return (
        f"its process died: {(detail[1] if detail else text)[:200]} (out of host memory, killed, or crashed{aborted})"
    )


def _ranks(ranks: list[int]) -> str:
    listed = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {listed}"
