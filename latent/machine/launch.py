"""Which of several processes this one is, as torchrun and `accelerate launch` tell it: known without torch."""

import os
import sys


def _place() -> int:
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this one is the first of all, or the only one."""
    return _place() == 0


def print_first(text: str, *, to_errors: bool = False) -> None:
    """Print what all processes have to say, in the first of them alone."""
    if is_first():
        print(text, file=sys.stderr if to_errors else sys.stdout, flush=True)


def signed(message: str) -> str:
    """The message, and which process has it to say if it is not the first."""
    return message if is_first() else f"process {_place()}: {message}"
