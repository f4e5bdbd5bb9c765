"""Files that are whole or absent: written under a temporary name, synced, renamed."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_BYTES = 100_000_000  # of a file that is read at once; more is a mistake, or an attempt to fill the memory
MAX_DEPTH = 100  # of lists and mappings within one another: more is an attempt to exhaust the stack


def check_plain(path: Path, most: int | None = MAX_BYTES) -> None:
    """Raise OSError for what is no plain file, whose reading might have no end, and for one of more than `most` bytes.

    Both may stand in a folder that was sent: pipes, links to devices, files that are all hole.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    if most is not None and status.st_size > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))


def length_by_header(path: Path) -> int:
    """Bytes that a safetensors file should have; its tensors are not read. Raises ValueError if it has no header."""
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(min(start - 8, MAX_BYTES))).items()
        ends = [int(entry["data_offsets"][1]) for name, entry in entries if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: no header of safetensors") from error
    return start + max(ends, default=0)


def read_plain(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a plain file. Raises OSError as `check_plain`."""
    check_plain(path, most)
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """The JSON document in a plain file. Raises OSError as `check_plain`, ValueError for any other content."""
    content = read_plain(path).decode("utf-8")
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_depth(document)
    return document


def check_depth(tree: Any) -> None:
    """Raise ValueError for mappings and lists of which more than MAX_DEPTH lie within one another."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [below for node in level if type(node) in (dict, list) for below in _children(node)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _children(node: Any) -> Any:
    return node.values() if type(node) is dict else node


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can: some of the network's refuse it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything: the system may take less at a time."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whose content is durable when this returns; half of it may stand there after an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_place(path: Path) -> None:
    """Raise ValueError for a path that no file can be written to: before the work, not after it."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: a file in a folder that exists is needed")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file that is never seen half-written; on an error the file of that name is as it was.

    Raises OSError, which names the file that was to be written.
    """
    temporary = temporary_name(path)
    try:
        write_synced(temporary, content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill with synced files; on leaving it takes the name `path`, on an error it goes.

    What has that name before is first given another one, so that neither is ever seen in part.
    """
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        sync_folder(temporary)
        if path.exists():  # a damaged one of the same step
            remove_folder(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder that is never seen half-removed under its own name."""
    temporary = temporary_name(path, "old")
    path.replace(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: Path, what: str = "new") -> Path:
    """A name beside `path` that no other process uses, and that `sweep` knows."""
    return path.with_name(f".{path.name}.{what}.{os.getpid()}.tmp")


def sweep(folder: Path, name: str = "*") -> None:
    """Remove the temporary files and folders that a kill left behind, of one name or all."""
    for left in folder.glob(f".{name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
        left.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(data: bytes) -> str:
    """The SHA-256 of a content, in hexadecimal: what `checksum` finds if it was written as it is."""
    return hashlib.sha256(data).hexdigest()
