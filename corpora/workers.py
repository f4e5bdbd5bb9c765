"""Work on a corpus in several processes, in bounded memory: what comes back is in order, whatever their number."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

WORKERS = "TEXTVAE_WORKERS"
MOST_WORKERS = 2  # unless TEXTVAE_WORKERS asks for more: each takes 0.3 GiB, and a gibibyte is for all
FEWEST_ITEMS = 8  # for fewer no process is started: that takes seconds
_AHEAD = 2  # items a worker: one in work, one that waits


def num_workers() -> int:
    """$TEXTVAE_WORKERS, else one for each core that this process may use, up to `MOST_WORKERS`.

    Raises ValueError for what is no number of processes.
    """
    asked = os.environ.get(WORKERS)
    if asked is None:
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    if not (asked.isdecimal() and 1 <= int(asked[:9]) <= 1024):
        raise ValueError(f"{WORKERS}: a number of processes from 1 to 1024 is needed, not {asked!r}")
    return int(asked)


def in_order(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num: int) -> Iterator[ResultT]:
    """`map(function, items)` by so many processes, of which the items are read but a few ahead.

    Function and items must be picklable. Raises what the function raises, at its place in the order, and ValueError
    where a worker was killed.
    """
    items = iter(items)
    first = list(islice(items, FEWEST_ITEMS))
    if num == 1 or len(first) < FEWEST_ITEMS:
        yield from map(function, chain(first, items))
        return
    pool = open_workers(num)
    try:
        pending: deque[Future[ResultT]] = deque()
        for item in chain(first, items):
            pending.append(pool.submit(function, item))
            if len(pending) >= _AHEAD * num:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise ValueError(
            f"a worker that encodes the corpus was killed, perhaps for want of memory; what is done stays: run again, "
            f"with {WORKERS}=1 if need be"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_workers(num: int) -> ProcessPoolExecutor:
    """So many processes, none of which outlives this one or hears an interrupt; they take seconds to start."""
    return ProcessPoolExecutor(num, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Leave interrupts to the parent, and go where it goes: a killed one cannot say goodbye."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
