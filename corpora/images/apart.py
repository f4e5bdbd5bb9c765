"""What may end the process that does it is done in another one."""

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from corpora.workers import open_workers

Given = TypeVar("Given")
Made = TypeVar("Made")


def apart(
    function: Callable[[Given], Made], items: Iterable[tuple[str, Given]], otherwise: Made
) -> Iterator[tuple[str, Made]]:
    """The function of each item by its name, computed in another process; `otherwise` where that has died of it.

    The function is one that a new process can import. What it raises is raised here.
    """
    for name, given in items:
        try:
            yield name, _other_process().submit(function, given).result()
        except BrokenProcessPool:
            _other_process.cache_clear()
            yield name, otherwise


@functools.cache
def _other_process() -> ProcessPoolExecutor:
    """One for all calls."""
    return open_workers(1)
