"""Runs a function on several ranks of torch.distributed (gloo), in processes forked from the test's own.

A forked process has torch and transformers already, which take seconds to import.
"""

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = 120


def run_ranks(world: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of `function(rank, world, *arguments)` on each rank, which must survive pickling.

    Args:
        world: number of ranks.
        folder: empty or missing folder for what the ranks exchange.
        function: what to run; any function, because processes are forked.
        arguments: its further arguments.

    Raises:
        AssertionError: a rank failed; the message has its traceback.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_rank, args=(rank, world, folder, function, arguments), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
    failures = [path.read_text() for path in sorted(folder.glob("*.error"))]
    assert not failures, failures[0]
    assert all(process.exitcode == 0 for process in processes)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(rank: int, world: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
        torch.save(function(rank, world, *arguments), folder / f"{rank}.pt")
        dist.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
        raise
