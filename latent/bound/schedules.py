"""Schedules: pure functions of the step, each its own config, so that a resumed run needs no hidden state."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same value at every step; as a KL weight other than 1 it is the β-VAE (Higgins et al. 2017)."""

    kind: Literal["constant"] = "constant"
    value: float = 1.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class Linear:
    """From `start` to `end` in `steps` steps, after waiting `delay` steps; then it stays at `end`."""

    kind: Literal["linear"] = "linear"
    start: float = 0.0
    end: float = 1.0
    steps: PositiveInt
    delay: NonNegativeInt = 0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        share = min(max(step - self.delay, 0) / self.steps, 1.0)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """end / (1 + exp(−rate (step − midpoint))) (Bowman et al. 2016, section 3.1)."""

    kind: Literal["logistic"] = "logistic"
    midpoint: NonNegativeInt
    rate: PositiveFloat
    end: float = 1.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        # tanh is the same function and does not overflow far from the midpoint.
        return self.end * 0.5 * (1.0 + math.tanh(0.5 * self.rate * (step - self.midpoint)))


@dataclass(frozen=True, kw_only=True)
class Cyclical:
    """min(1, u/ramp) · end with u = (step mod period) / period (Fu et al. 2019, equations 6 and 7).

    After `cycles` periods the value stays at `end`.
    """

    kind: Literal["cyclical"] = "cyclical"
    period: PositiveInt
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.5
    cycles: PositiveInt = 4
    end: float = 1.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        if step >= self.cycles * self.period:
            return self.end
        return self.end * min(1.0, (step % self.period) / self.period / self.ramp)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """From 0 to 1 in a straight line over `warm_up` steps, then down to `end` in half a cosine until step `steps`.

    Reference: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5, one period.
    """

    kind: Literal["cosine"] = "cosine"
    steps: PositiveInt
    warm_up: NonNegativeInt = 0
    end: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up ({self.warm_up}) must be less than steps ({self.steps}), which count it too")

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        share = min((step - self.warm_up) / (self.steps - self.warm_up), 1.0)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """factor^⌊step / steps⌋, and never less than `end`."""

    kind: Literal["staircase"] = "staircase"
    steps: PositiveInt
    factor: Annotated[float, Field(gt=0, lt=1)]
    end: NonNegativeFloat = 0.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        return max(self.end, self.factor ** (step // self.steps))


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """From 1 to `end` in equal ratios over `stages`, of which the i-th lasts growth^i passes of `steps_per_pass` steps.

    The learning rates of Burda et al. 2016, section 5: 10^(−i/7) for 3^i passes, i = 0 … 7, which makes 3,280 passes.
    """

    kind: Literal["ladder"] = "ladder"
    steps_per_pass: PositiveInt
    stages: Annotated[int, Field(ge=2)] = 8
    growth: PositiveInt = 3
    end: PositiveFloat = 0.1

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        stage, last_step = 0, self.steps_per_pass
        while step >= last_step and stage < self.stages - 1:
            stage += 1
            last_step += self.growth**stage * self.steps_per_pass
        return float(self.end ** (stage / (self.stages - 1)))


Schedule = Annotated[Constant | Linear | Logistic | Cosine | Cyclical | Staircase | Ladder, Field(discriminator="kind")]
