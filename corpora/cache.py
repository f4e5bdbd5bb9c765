"""A folder of arrays that is either whole or not there, keyed by what it was made from."""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import tempfile
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from corpora.plain_files import check_plain

_LOG = logging.getLogger("corpora")
_DAMAGED = "%s is damaged and is written anew"
ATTEMPTS = 3  # at a name that others may want at the same time
_MANIFEST = "entry.json"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An array of which a piece at a time is in memory: the pieces are stretches of its elements in C's order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Stream":
        """An array that is in memory."""
        return cls(dtype=array.dtype, shape=array.shape, pieces=lambda: [array])

    def write(self, file: BinaryIO) -> None:
        """Write it as an .npy file. Raises ValueError for objects."""
        if self.dtype.hasobject:
            raise ValueError("objects are not stored: nothing is pickled")
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, header)
        num = 0
        for piece in self.pieces():
            file.write(piece.astype(self.dtype, copy=False).tobytes())
            num += piece.size
        assert num == math.prod(self.shape)


def cache_folder() -> Path:
    """Where encoded corpora are kept: $TEXTVAE_CACHE, else $XDG_CACHE_HOME/textvae, else ~/.cache/textvae."""
    if own := os.environ.get("TEXTVAE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "textvae"


def load_arrays(key: str) -> Arrays | None:
    """The arrays stored under the key, memory-mapped; None where there are none, or where they are damaged."""
    folder = cache_folder() / key
    return _open(folder) if (folder / _MANIFEST).is_file() else None


def store_arrays(key: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """`store_streams`, of arrays that are in memory."""
    return store_streams(key, {name: Stream.of(array) for name, array in arrays.items()})


def store_streams(key: str, streams: Mapping[str, Stream]) -> Arrays:
    """Store arrays under the key, at once or not at all, and return them memory-mapped.

    Where the cache folder cannot be written, they go to a folder that lasts as long as the process, with a warning.
    Raises ValueError where there is no room for them at all.
    """
    try:
        return _store(cache_folder(), key, streams)
    except OSError as error:
        _LOG.warning(
            "cannot keep the encoded corpus in %s (%s); it will be encoded anew each time: set TEXTVAE_CACHE",
            cache_folder(),
            error.strerror,
        )
    try:
        return _store(_process_folder(), key, streams)
    except OSError as error:
        raise ValueError(
            f"no room for the encoded corpus in {tempfile.gettempdir()} ({error.strerror}); set TEXTVAE_CACHE"
        ) from error


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A folder for what an entry is made of: held by one process at a time, for which others wait, with all that an
    interrupted one had put there. It goes when the work is done.

    It is in the cache folder, or, where that cannot be written, lasts as long as the process.
    """
    try:
        folder, handle = _held(cache_folder() / f".{name[:16]}-parts")
    except OSError:
        folder, handle = _held(_process_folder() / f".{name[:16]}-parts")
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _held(folder: Path) -> tuple[Path, int]:
    """The folder, made if need be, and a handle of it by which it is locked."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some file systems have no locks; then nobody waits
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(folder), os.fstat(handle)):
                return folder, handle
        os.close(handle)  # another process was done and took it away while this one waited


def release(array: NDArray[Any]) -> None:
    """Give back the memory in which a mapped array's file was read; what is asked for again is mapped again."""
    base: object = array.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def _store(parent: Path, key: str, streams: Mapping[str, Stream]) -> Arrays:
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=parent))
    try:
        for name, stream in streams.items():
            with (draft / f"{name}.npy").open("wb") as file:
                stream.write(file)
                file.flush()
                os.fsync(file.fileno())
        with (draft / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(_manifest(draft), file)
            file.flush()
            os.fsync(file.fileno())
        mapped = _open(draft)  # maps outlive the renaming below, and even the removal of the files
        assert mapped is not None
        _publish(draft, parent / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return mapped


def _publish(draft: Path, folder: Path) -> None:
    """Rename the draft, unless another process was quicker; what is damaged makes way.

    The renaming comes first and fails where a folder is: looked for before, it could come in between.
    """
    for attempt in range(ATTEMPTS):
        with contextlib.suppress(OSError):
            folder.rmdir()  # an empty one alone, which the renaming would replace without a word
            _LOG.warning(_DAMAGED, folder)
        try:
            draft.rename(folder)
            return
        except OSError:
            if _open(folder) is not None:
                return
            if attempt == ATTEMPTS - 1:
                raise
            if folder.exists():
                _LOG.warning(_DAMAGED, folder)
                shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path) -> Arrays | None:
    try:
        check_plain(folder / _MANIFEST)
        paths = sorted(folder.glob("*.npy"))
        for path in paths:
            check_plain(path)
        # a header that does not fit the file's length is found before the file is read
        arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
        is_whole = bool(arrays) and json.loads((folder / _MANIFEST).read_text("utf-8")) == _manifest(folder)
        return arrays if is_whole else None
    except (
        OSError,
        ValueError,
        EOFError,
        RecursionError,
        tokenize.TokenError,
    ):  # gone meanwhile, no JSON, no header of numpy's
        return None


def _manifest(folder: Path) -> dict[str, str]:
    """The SHA-256 of each array's file."""
    manifest = {}
    for path in sorted(folder.glob("*.npy")):
        with path.open("rb") as file:
            manifest[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return manifest


@functools.cache
def _process_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="textvae-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
