"""Idx files to test with, and how reading them ends."""

import gzip

import numpy as np

NAMES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}


def idx(array):
    """The array in the idx format, written independently of what reads it."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def tiny_arrays():
    """Twelve and six images of 3×2 in three classes."""
    rng = np.random.default_rng(0)
    return {
        "train images": rng.integers(0, 256, (12, 3, 2)),
        "train labels": np.arange(12) % 3,
        "test images": rng.integers(0, 256, (6, 3, 2)),
        "test labels": np.arange(6) % 3,
    }


def write(folder, arrays=None, dotted=False, zipped=False):
    """All four files; arrays given as bytes are written as they are."""
    folder.mkdir(exist_ok=True)
    for part, array in (tiny_arrays() | (arrays or {})).items():
        data = array if isinstance(array, bytes) else idx(array)
        name = NAMES[part].replace("-idx", ".idx") if dotted else NAMES[part]
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(data) if zipped else data)
    return folder


def refusal(read):
    """What the ValueError says, if one comes: any other error passes through."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return None
