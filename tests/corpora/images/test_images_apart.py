"""A process of its own for what may crash: every item is answered for, whichever ends the process."""

import os
import signal

import pytest

from corpora.images.apart import apart


def doubled(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 0:
        raise ValueError("zero")
    return 2 * number


def test_an_item_that_ends_the_process_costs_that_item_alone() -> None:
    items = [("a", 1), ("b", -1), ("c", -2), ("d", 3)]
    assert list(apart(doubled, items, otherwise=7)) == [("a", 2), ("b", 7), ("c", 7), ("d", 6)]


def test_what_is_raised_is_raised_here_and_what_crashed_is_not_this_process() -> None:
    with pytest.raises(ValueError, match="zero"):
        list(apart(doubled, [("a", -1), ("b", 0)], otherwise=7))
