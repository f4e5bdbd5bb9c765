"""Randomness as a function of (seed, number): resuming needs no stored generator state."""

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

import numpy as np
import torch

Value = TypeVar("Value")


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


class Noise:
    """Torch's random numbers as they are to come now, on the host and on one device, to be taken up again."""

    def __init__(self, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        self._host, self._states = torch.get_rng_state(), [torch.cuda.get_rng_state(each) for each in self._devices]

    def go_on(self) -> None:
        """Take them up."""
        torch.set_rng_state(self._host)
        for device, state in zip(self._devices, self._states, strict=True):
            torch.cuda.set_rng_state(state, device)

    def again(self, call: Callable[[], Value]) -> Value:
        """What the call gives with them; those of now are left alone."""
        with torch.random.fork_rng(self._devices):
            self.go_on()
            return call()
