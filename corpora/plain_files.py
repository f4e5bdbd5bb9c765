"""Files that may be read to their end: pipes, devices and folders have none, or never come to it."""

import errno
import gzip
import io
import stat
from pathlib import Path
from typing import IO

_CHUNK = 2**20  # bytes at a time, so that memory grows with what is there and not with what a header says


def check_plain(path: Path) -> None:
    """Raise OSError unless there is a plain file, or a link to one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))


def opened(path: Path) -> io.BufferedIOBase:
    """The bytes of a plain file, unpacked where it is `.gz`. Raises OSError, as for what is no plain file."""
    check_plain(path)
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def read_at_most(stream: io.BufferedIOBase | IO[bytes], size: int) -> bytes:
    """The stream's next `size` bytes, or what is left; memory grows with what is there."""
    chunks = []
    while size > 0 and (chunk := stream.read(min(size, _CHUNK))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
