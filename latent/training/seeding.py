"""Randomness as a function of (seed, number): resuming needs no stored generator state."""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Independent streams of one seed."""

    INITIALISATION = 0
    STEP = 1


def seed_everything(seed: int, stream: Stream, number: int = 0) -> None:
    """Seed torch's generators on every device from (seed, stream, number), in training that of a batch."""
    state = np.random.SeedSequence([seed, int(stream), number]).generate_state(1, np.uint64)
    value = int(state[0] >> 1)
    # torch.manual_seed asks for devices that are not there, and queues a traceback for each call until one is
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)
