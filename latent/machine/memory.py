"""What the allocator does with freed memory."""

import ctypes
import os

# mallopt's parameters, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**31 - 1  # the most that mallopt takes: freed memory that stays with the process
MAPPED_BYTES = 2**30  # a larger block is the kernel's own again as soon as it is freed


def keep_freed_memory() -> None:
    """Let the process keep up to 2 GiB that it has freed, so that the next large tensor is not made of new pages.

    glibc gives each freed block of megabytes back to the kernel, which fills it with zeros when it is next asked for.
    A step's logits are such blocks: on a CPU this took half of the output layer's time (`benchmarks/README.md`).
    PyTorch is told to use huge pages, which it heeds if it has allocated none yet. Does nothing where the C library is
    not glibc. The least resident memory becomes the most that a step has used.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
