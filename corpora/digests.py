"""64 bits for what has many more: alike for copies, spread evenly, the same in every process.

Two of N different things have the same digest with a probability of about N²/2⁶⁵: 7e-5 for 50 million.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64


def digests(texts: Sequence[str]) -> UInt64[np.ndarray, " N"]:
    """The digest of each text."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def draws(numbers: UInt64[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
    """A random number for each, by splitmix64.

    Reference: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
    """
    z = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, " N"] = z ^ (z >> np.uint64(31))
    return mixed
