"""Which of several processes this one is, as torchrun and `accelerate launch` tell it: known without torch."""

import os
import sys
from typing import TextIO


def _place() -> int:
    return int(os.environ.get("RANK", "0"))


def print_first(text: str, file: TextIO | None = None) -> None:
    """Print what all processes have to say, in the first of them alone."""
    if _place() == 0:
        print(text, file=file or sys.stdout)


def signed(message: str) -> str:
    """The message, and which process has it to say if it is not the first."""
    return message if _place() == 0 else f"process {_place()}: {message}"
