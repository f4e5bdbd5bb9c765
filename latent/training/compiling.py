"""`train.compile`: whether torch.compile pays for a training of this length on this device, and what it took."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

Compile = Literal["auto"] | bool

# On a GPU a step of small models waits for its few hundred kernels to be launched. If compiling takes a minute and
# saves 3 ms of a step, it is earned back after so many. An estimate: not measured.
STEPS_TO_EARN = 20_000


@dataclass(frozen=True)
class CompileChoice:
    """What was chosen for a training, and why."""

    compile: bool
    reason: str

    def __str__(self) -> str:
        return f"{'compiled' if self.compile else 'not compiled'} ({self.reason})"


def choose_compile(wanted: Compile, device: torch.device, num_steps: int) -> CompileChoice:
    """What `auto` means for a training of so many steps on a device: only on CUDA, and only in a long training.

    On a CPU compiling takes half a minute or more and gains a tenth at most (benchmarks/README.md).
    """
    if wanted != "auto":
        return CompileChoice(wanted, f"train.compile={str(wanted).lower()}")
    if device.type != "cuda":
        return CompileChoice(False, f"train.compile=auto: on {device.type} it is not earned back")
    if num_steps < STEPS_TO_EARN:
        return CompileChoice(False, f"train.compile=auto: {num_steps:,} steps are fewer than {STEPS_TO_EARN:,}")
    return CompileChoice(True, f"train.compile=auto: {num_steps:,} steps are at least {STEPS_TO_EARN:,}")


def compile_seconds() -> float:
    """How long torch.compile has compiled in this process, forward and backward graphs."""
    from torch._dynamo.utils import calculate_time_spent  # it takes a second to import

    return calculate_time_spent()["total_wall_time"]


@dataclass
class CompileClock:
    """To be called after each step of a compiled model: says how long compiling has taken, whenever it has gone on."""

    say: Callable[[str], object]
    begun: float = field(default_factory=compile_seconds)  # what other trainings of this process have taken
    seconds: float = 0.0

    def __call__(self) -> None:
        """Say so if the step has compiled."""
        now = compile_seconds() - self.begun
        if now > self.seconds:
            self.say(f"compiling has taken {now:.1f} s")
        self.seconds = now


def compile_model(model: nn.Module, say: Callable[[str], object]) -> CompileClock:
    """Let a model compile its forward at its first steps; give the clock that is to be called after each step."""
    model.compile(dynamic=True)  # one graph for all shapes of batch
    return CompileClock(say)
