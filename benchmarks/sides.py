"""Both sides of a benchmark on one machine in one run: each in a process of its own, in turn, round after round."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_turn(sides: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """What each side found in every round. A side's process lives through all rounds, so what it caches is warm.

    A process of its own, because the project's allocator settings (`latent.machine.memory`) are a process's: a
    reference beside them would have them too.
    """
    context = get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, mp_context=context) for name in sides}
    found: dict[str, list[Result]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(pools[name].submit(side).result())
    for pool in pools.values():
        pool.shutdown()
    return found


def median(values: list[float]) -> float:
    """Of the rounds."""
    return statistics.median(values)


def peak_memory() -> float:
    """The most resident memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def product_rate(dtype: torch.dtype, size: int = 2048, rounds: int = 15) -> float:
    """What this machine's matrix products reach, in GFLOP/s: the median over products of size × size matrices."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / median(seconds) / 1e9


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
