"""A folder of arrays that is either whole or not there, keyed by what it was made from."""

import atexit
import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("corpora")
_DAMAGED = "%s is damaged and is written anew"
ATTEMPTS = 3  # at a name that others may want at the same time
_MANIFEST = "entry.json"

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """Where encoded corpora are kept: $TEXTVAE_CACHE, else $XDG_CACHE_HOME/textvae, else ~/.cache/textvae."""
    if own := os.environ.get("TEXTVAE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "textvae"


def load_arrays(key: str) -> Arrays | None:
    """The arrays stored under the key, memory-mapped; None where there are none, or where they are damaged."""
    folder = cache_folder() / key
    return _open(folder) if (folder / _MANIFEST).exists() else None


def store_arrays(key: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Store arrays under the key, at once or not at all, and return them memory-mapped.

    Where the cache folder cannot be written, they go to a folder that lasts as long as the process, with a warning.
    Raises ValueError where there is no room for them at all.
    """
    try:
        return _store(cache_folder(), key, arrays)
    except OSError as error:
        _LOG.warning(
            "cannot keep the encoded corpus in %s (%s); it will be encoded anew each time: set TEXTVAE_CACHE",
            cache_folder(),
            error.strerror or error,  # numpy's own for a full disk has no strerror
        )
    try:
        return _store(_process_folder(), key, arrays)
    except OSError as error:
        raise ValueError(
            f"no room for the encoded corpus in {tempfile.gettempdir()} ({error.strerror or error}); set TEXTVAE_CACHE"
        ) from error


def _store(parent: Path, key: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=parent))
    try:
        for name, array in arrays.items():
            with (draft / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
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
        found = _manifest(folder)
        if not found or json.loads((folder / _MANIFEST).read_text("utf-8")) != found:
            return None
        return {name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in found}
    except (OSError, ValueError):  # gone meanwhile, or no JSON
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
