"""Cases that coverage leads to: atheris changes the bytes a case is made from, and keeps those that reach new code.

The bytes are the choices of `spoil` and of all that makes a case; so they are changed as a text would be, and a case is
still an example with a file or two spoiled, as in MacIver et al. 2020, "Test-Case Reduction via Test-Case Generation".
"""

import gc
import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from PIL import Image

from cli import sides, verbs

READERS = (  # whose code is covered: ours, and parsers in Python
    *("cli", "corpora", "imagevae", "latent", "textvae"),
    *("PIL", "gzip", "json", "safetensors", "tarfile", "yaml", "zipfile"),
)
MOST_BYTES = 256  # a case is made from
NUM_FIRST = 64  # cases of chance to start from


class Chosen(random.Random):
    """Chance that takes its bits from bytes; where they end, all of them are 0."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._left = data

    def getrandbits(self, k: int, /) -> int:
        """The next k bits."""
        size = (k + 7) // 8
        taken, self._left = self._left[:size], self._left[size:]
        return int.from_bytes(taken.ljust(size, b"\0"), "little") & ((1 << k) - 1)

    def random(self) -> float:
        """A fraction of two bytes: finer is no choice here."""
        return self.getrandbits(16) / 2**16


def instrumented() -> Any:
    """The module atheris, which sees from now on where READERS are. Ends with a line where it is not installed."""
    try:
        tool: Any = importlib.import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("fuzz: --guided needs atheris: pip install 'textvae[fuzz]'")
    for side in sides():
        verbs(side)  # what is imported later is not seen
    Image.init()
    for each in gc.get_objects():
        if type(each) is FunctionType and str(each.__module__).split(".")[0] in READERS:
            tool.instrument_func(each)
    return tool


def explore(tool: Any, read: Callable[[bytes], None], kept: Path, seed: int) -> None:
    """Read what bytes make, until that ends the process. A folder has the bytes that led to new code."""
    rng = random.Random(seed)
    if not kept.exists():
        kept.mkdir()
        for number in range(NUM_FIRST):
            (kept / f"first-{number}").write_bytes(rng.randbytes(MOST_BYTES))
    settings = {"max_len": MOST_BYTES, "seed": seed + 1, "timeout": 0, "rss_limit_mb": 0}
    flags = [f"-{name}={value}" for name, value in settings.items()]
    tool.Setup([sys.argv[0], *flags, f"-artifact_prefix={kept.parent}/", str(kept)], read)
    tool.Fuzz()
