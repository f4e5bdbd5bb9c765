"""The idx format of MNIST, plain or gzipped, from files that may be damaged or hostile."""

import gzip
import hashlib
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from corpora.images.images import times
from corpora.plain_files import read_at_most

MAX_BYTES = 2**30  # of a file, packed or not; MNIST's largest has 47 MB

_NUM_DIMENSIONS = {"images": 3, "labels": 1}
_ELEMENTS = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip within a gzip",
    b"PK": "a zip archive",
    b"\x93NUM": "a numpy array",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8": "a JPEG image",
    b"<": "a web page",
    b"\x01\x08\x00\x00": "idx with its bytes in the wrong order",
    b"\x03\x08\x00\x00": "idx with its bytes in the wrong order",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class IdxFile:
    """One file's array, read-only, and its checksums."""

    path: Path
    array: UInt8[np.ndarray, "..."]  # N H W of images, N of labels
    md5: str  # of the unpacked bytes
    gz_md5: str | None  # of the file as it lies there, where it is gzipped


def read_idx(path: Path, holds: Literal["images", "labels"]) -> IdxFile:
    """Read images (magic 00 00 08 03, three dimensions) or labels (00 00 08 01, one), plain or gzipped by content.

    Source: the description of the format on Yann LeCun's page on MNIST: two bytes 0, the type of the elements, the
    number of dimensions, each dimension as a big-endian uint32, the elements row by row. Raises ValueError, naming the
    file and the remedy, for anything else; memory stays within what the file holds and MAX_BYTES.
    """
    stored = _read_bytes(path)
    zipped = stored.startswith(b"\x1f\x8b")
    stream: io.BufferedIOBase = gzip.GzipFile(fileobj=io.BytesIO(stored)) if zipped else io.BytesIO(stored)
    try:
        header, shape = _read_header(path, stream, holds)
        size = math.prod(shape)
        body = read_at_most(stream, size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip ({error}); copy or compress it again") from error
    if len(body) != size:
        found = f"only {len(body):,} follow" if len(body) < size else "more follow"
        raise ValueError(
            f"{path}: {'truncated' if len(body) < size else 'too long'}: the header says {times(shape)} = {size:,} "
            f"bytes and {found}; copy or write it again"
        )
    md5 = hashlib.md5(header, usedforsecurity=False)
    md5.update(body)
    return IdxFile(
        path=path,
        array=np.frombuffer(body, np.uint8).reshape(shape),
        md5=md5.hexdigest(),
        gz_md5=hashlib.md5(stored, usedforsecurity=False).hexdigest() if zipped else None,
    )


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{path}: has {size:,} bytes, more than the {MAX_BYTES:,} that are read; use fewer images")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; mend it or set corpus.path") from error


def _read_header(path: Path, stream: io.BufferedIOBase, holds: str) -> tuple[bytes, tuple[int, ...]]:
    """The header's bytes and the array's shape."""
    num_dimensions = _NUM_DIMENSIONS[holds]
    magic, wanted = stream.read(4), bytes([0, 0, 0x08, num_dimensions])
    if magic != wanted and len(magic) == 4:
        raise ValueError(
            f"{path}: begins with {magic.hex(' ')} ({_what_it_is(magic)}), where idx {holds} begin with "
            f"{wanted.hex(' ')}; put the file of {holds} there"
        )
    sizes = stream.read(4 * num_dimensions)
    if len(sizes) < 4 * num_dimensions:
        raise ValueError(f"{path}: truncated: ends within the header of idx {holds}; copy or write it again")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    if shape[0] == 0:
        raise ValueError(f"{path}: holds no {holds}; at least one is needed")
    if 0 in shape:
        raise ValueError(f"{path}: holds images of {times(shape[1:])} pixels; height and width must be at least 1")
    if math.prod(shape) > MAX_BYTES:
        raise ValueError(
            f"{path}: the header says {times(shape)} bytes, more than the {MAX_BYTES:,} that are read; "
            "write it again, or use fewer images"
        )
    return magic + sizes, shape


def _what_it_is(magic: bytes) -> str:
    if magic[:2] == b"\0\0" and magic[2] in _ELEMENTS:
        held = {1: "labels", 3: "images"}.get(magic[3], "neither images nor labels")
        return f"idx of {_ELEMENTS[magic[2]]} in {magic[3]} dimension(s), which are {held}"
    return next((name for start, name in _OTHER_FORMATS.items() if magic.startswith(start)), "no idx")
