"""Schedules: pure functions of the step, each its own config, so that a resumed run needs no hidden state."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt


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


Schedule = Annotated[Constant | Linear | Logistic | Cyclical, Field(discriminator="kind")]
