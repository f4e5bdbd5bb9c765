"""`kind: mnist_static`: MNIST binarised once and for all, from an npz file."""

import hashlib
import io
import json
import lzma
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from corpora.images.idx_file import MAX_BYTES
from corpora.images.images import Images, LevelSplits, times
from corpora.plain_files import check_plain, read_at_most
from corpora.texts import SPLITS

_SIDE = 28
_SIZE = _SIDE * _SIDE
_PUBLISHED = {  # SHA-256 of the packed bits; a test leads from them to the published checksums of the .amat text files
    "train": "727146c35424b019f3e350e1e69faa05644a0abaf787e3f4e1a9632220a13906",
    "valid": "a256ac44ae26be720fad8616a05ed6ecfd1619930d9a208379bb2a4405df5b6d",
    "test": "9fcd8da6f0fdf09b2ba30fe63a0bb784042a0de82563172530229b983e294ff2",
}
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_NO_HEADER = (KeyError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
_REMEDY = "write it with numpy.savez_compressed(path, train=…, valid=…, test=…)"


@dataclass(frozen=True, kw_only=True)
class MnistStatic:
    """The one fixed draw that the literature calls static or binarised MNIST (Larochelle & Murray 2011), unlabelled.

    `path` is an npz file of three arrays `train`, `valid` and `test`: N×784 of 0 and 1, or their `numpy.packbits` along
    axis 1. The published splits have 50,000, 10,000 and 10,000 images; others are used, with a note.
    """

    kind: Literal["mnist_static"] = "mnist_static"
    path: Path
    binarisation: Literal["static"] = "static"

    binarisation_seed: ClassVar[int] = 0  # nothing is drawn

    def fingerprint(self) -> str:
        """A digest of the images; the path does not enter. Raises ValueError as `read`."""
        return json.dumps([self.kind, self.read().digest(), self.binarisation])

    def resolved(self) -> "MnistStatic":
        """The same corpus from any folder: with an absolute path."""
        return replace(self, path=self.path.expanduser().absolute())

    def read(self) -> LevelSplits:
        """The splits as levels of 0 and 255. Raises ValueError, naming file and remedy, for what is no such file."""
        path = self.path.expanduser()
        arrays = _read_arrays(path)
        pixels = {name: _pixels(f"{path}: array {name}", arrays[name]) for name in SPLITS}
        unknown = [name for name in SPLITS if _sha256(pixels[name]) != _PUBLISHED[name]]
        images = {name: Images(levels=(pixels[name] * np.uint8(255)).reshape(-1, 1, _SIDE, _SIDE)) for name in SPLITS}
        return LevelSplits(
            source=str(path),
            train=images["train"],
            valid=images["valid"],
            test=images["test"],
            notes=tuple(
                f"{path}: array {name} is not the {name} split of Larochelle and Murray's static MNIST; published "
                "figures may not compare"
                for name in unknown
            ),
            is_official=not unknown,
        )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    members = _read_members(path)
    for name in SPLITS:
        if name not in members:
            raise ValueError(f"{path}: has no array {name}; {_REMEDY}")
    return {name: _parse(f"{path}: array {name}", data) for name, data in members.items()}


def _read_members(path: Path) -> dict[str, bytes]:
    """The arrays that are there, as npy files."""
    try:
        check_plain(path)
        with zipfile.ZipFile(path) as archive:
            members = {name: f"{name}.npy" for name in SPLITS if f"{name}.npy" in archive.namelist()}
            size = sum(archive.getinfo(member).file_size for member in members.values())
            if size > MAX_BYTES:
                raise zipfile.BadZipFile(f"{size:,} bytes when unpacked, more than the {MAX_BYTES:,} that are read")
            return {name: _read_member(archive, member) for name, member in members.items()}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file; set corpus.path to the npz file of static MNIST") from error
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: cannot be read as an npz file ({error}); copy it again, or {_REMEDY}") from error


def _read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    with archive.open(member) as stream:
        return read_at_most(stream, MAX_BYTES)


def _parse(where: str, data: bytes) -> NDArray[Any]:
    """An npy file's array. Its header is believed, and memory taken, only where as many bytes follow as it says."""
    stream = io.BytesIO(data)
    try:
        shape, _, dtype = _READ_HEADER[np.lib.format.read_magic(stream)](stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError(f"{dtype} of {times(shape)} is not what follows")
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except _NO_HEADER as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{where} is not as numpy writes it ({reason}); {_REMEDY}") from error
    return array


def _pixels(where: str, array: NDArray[Any]) -> UInt8[np.ndarray, "N 784"]:
    """0 and 1, unpacked."""
    if array.ndim > 0 and len(array) == 0:
        raise ValueError(f"{where} holds no images; at least one is needed")
    packed_size = -(-_SIZE // 8)
    if array.ndim == 2 and array.shape[1] == packed_size and array.dtype == np.uint8:
        if len(array) * _SIZE > MAX_BYTES:
            raise ValueError(f"{where} holds {len(array):,} images, more than the {MAX_BYTES // _SIZE:,} that are read")
        return np.unpackbits(array, axis=1, count=_SIZE)
    if array.ndim != 2 or array.shape[1] != _SIZE or array.dtype.kind not in "buif":
        raise ValueError(
            f"{where} is {array.dtype} of {times(array.shape)}; it should be N×{_SIZE} of 0 and 1, or uint8 of "
            f"N×{packed_size} by numpy.packbits(axis=1)"
        )
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        raise ValueError(
            f"{where} holds {array[row, column]} at row {row}, column {column}, where only 0 and 1 can stand; binarise "
            "it, or use corpus.kind mnist for grey images"
        )
    return array.astype(np.uint8)


def _sha256(pixels: UInt8[np.ndarray, "N 784"]) -> str:
    return hashlib.sha256(np.packbits(pixels, axis=1).tobytes()).hexdigest()
