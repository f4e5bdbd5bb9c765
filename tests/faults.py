"""Faults in system calls: the k-th of those that write fails, or is the last that a process lives to see."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "close", "ftruncate", "mkdir", "replace", "rename", "unlink", "rmdir")


class Killed(BaseException):
    """No process lives to see this: nothing may catch it, and no system call works after it."""


class Counted:
    """How many calls there have been."""

    number = 0


@contextmanager
def faulty(at: int | None, error: BaseException | None = None) -> Iterator[Counted]:
    """Within the block call number `at`, from 0, raises; after Killed so does each later one. Give the counter.

    A write that fails has written half, a close that fails has closed.
    """
    counted = Counted()

    def replaced(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            number = counted.number
            counted.number += 1
            if at is None or number < at or (number > at and not isinstance(error, Killed)):
                return real(*arguments, **settings)
            if name == "write" and number == at:
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if name == "close" and number == at:
                real(*arguments)
            assert error is not None
            raise error

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, replaced(name, getattr(os, name)))
        yield counted
