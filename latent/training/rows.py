"""`metrics.jsonl`: a row is written whole or kept until it can be, and none is written twice."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latent.training.files import MAX_BYTES, write_all, write_atomically

Row = dict[str, Any]


class Rows:
    """The rows of a run. Those that a full disk or a folder out of reach refused wait in memory, in their order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []
        self._size: int | None = None  # of the file as we left it; None before the first row

    def append(self, row: Row) -> None:
        """Write what waits and this row. Raises OSError if that cannot be; then all of it waits."""
        self._waiting.append((json.dumps(row, allow_nan=False) + "\n").encode())
        self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Write what waits; with `sync`, make all rows durable. Raises OSError."""
        if not self._waiting and not sync:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if self._size is not None and size > self._size:  # the half of a row that failed
                os.ftruncate(descriptor, self._size)
            self._size = min(size, self._size if self._size is not None else size)
            data = b"".join(self._waiting)
            write_all(descriptor, data)
            self._size += len(data)
            self._waiting = []
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __iter__(self) -> Iterator[Row]:
        """The rows that are written; a last line cut short by a kill is left out."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            while line := file.readline(MAX_BYTES):
                try:
                    row = json.loads(line.decode("utf-8"))
                except (ValueError, RecursionError):
                    return
                if type(row) is dict:
                    yield row

    def cut(self, step: int) -> None:
        """Drop the rows after a step, which a resumed training will write again."""
        rows = [json.dumps(row) + "\n" for row in self if _step(row) <= step]
        write_atomically(self.path, "".join(rows))
        self._waiting, self._size = [], None


def _step(row: Row) -> float:
    """At which a row was written; the beginning where it does not say, as no row of ours does."""
    step: object = row.get("step")
    return float(step) if isinstance(step, int | float) else 0.0
