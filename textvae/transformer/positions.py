"""How a transformer knows the order of words: learned vectors added to the first layer, or rotated queries and keys."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

# of vectors of heads at T positions one after the other: queries or keys
Rotation = Callable[[Float[Tensor, "*S T D"]], Float[Tensor, "*S T D"]]

NUM_BESIDE_SCORED = 2  # positions of a sentence that are not scored: `<s>`, and the latent token or z


class Positions(nn.Module, ABC):
    """Positions from `start` on for vectors that follow one another."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "N T H"], start: int) -> tuple[Float[Tensor, "N T H"], Rotation]:
        """What enters the first layer, and what is done to every layer's queries and keys."""


@dataclass(frozen=True, kw_only=True)
class LearnedPositionsConfig:
    """A learned vector for each position, as in GPT-2."""

    kind: Literal["learned"] = "learned"
    max_length: Annotated[int, Field(ge=1, le=100_000)] = 256  # scored ids of a sentence, as in corpus.max_length
    head_multiple: ClassVar = 1

    def check_length(self, max_length: int) -> None:
        """Raise ValueError where the corpus' longest sentences have more positions than are learned."""
        if self.max_length < max_length:
            raise ValueError(
                f"model.positions.max_length ({self.max_length}) is less than corpus.max_length ({max_length}): "
                "raise it, lower corpus.max_length, or set model.positions={kind: rotary}"
            )

    def build(self, hidden_size: int, num_heads: int) -> "LearnedPositions":
        """The positions of one stack of layers."""
        return LearnedPositions(self.max_length + NUM_BESIDE_SCORED, hidden_size)


class LearnedPositions(Positions):
    """Row t of a table is added to what stands at position t (Radford et al. 2019, after Gehring et al. 2017)."""

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(num_positions, hidden_size))

    def forward(self, x: Float[Tensor, "N T H"], start: int) -> tuple[Float[Tensor, "N T H"], Rotation]:
        """x with its positions. Raises ValueError past the end of the table."""
        end = start + x.shape[1]
        if end > len(self.table):
            raise ValueError(
                f"a sentence has {end - NUM_BESIDE_SCORED} words and pieces or more, and model.positions.max_length is "
                f"{len(self.table) - NUM_BESIDE_SCORED}: raise it, lower corpus.max_length, or set "
                "model.positions={kind: rotary}"
            )
        return x + self.table[start:end], _unchanged


def _unchanged(vectors: Float[Tensor, "*S T D"]) -> Float[Tensor, "*S T D"]:
    return vectors


@dataclass(frozen=True, kw_only=True)
class RotaryPositionsConfig:
    """Queries and keys are rotated by angles that grow with the position; there is no longest sentence."""

    kind: Literal["rotary"] = "rotary"
    base: PositiveFloat = 10_000.0  # the slowest pair turns by nearly 1 / base a position
    head_multiple: ClassVar = 2  # they turn in pairs

    def check_length(self, max_length: int) -> None:
        """There is no longest sentence."""

    def build(self, hidden_size: int, num_heads: int) -> "RotaryPositions":
        """The positions of one stack of layers."""
        return RotaryPositions(hidden_size // num_heads, self.base)


class RotaryPositions(Positions):
    r"""Dimensions i and i + D/2 of a head turn together by \(t \theta_i,\; \theta_i = b^{-2i/D}\) at position t.

    A score \(q_s^\top k_t\) then depends on the positions through s − t alone.

    Reference: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2. There
    neighbours are the pairs; another order of the dimensions, which the maps to queries and keys learn anyway.
    """

    def __init__(self, head_size: int, base: float) -> None:
        super().__init__()
        self.frequencies: Tensor
        exponents = torch.arange(0, head_size, 2) / head_size
        self.register_buffer("frequencies", base**-exponents, persistent=False)

    def forward(self, x: Float[Tensor, "N T H"], start: int) -> tuple[Float[Tensor, "N T H"], Rotation]:
        """x as it is, and the rotation of its positions."""
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        angles = torch.outer(positions.to(self.frequencies.dtype), self.frequencies)
        cos, sin = angles.cos(), angles.sin()
        return x, partial(rotated, cos=torch.cat([cos, cos], 1), signed_sin=torch.cat([-sin, sin], 1))


def rotated(
    vectors: Float[Tensor, "*S T D"], *, cos: Float[Tensor, "T D"], signed_sin: Float[Tensor, "T D"]
) -> Float[Tensor, "*S T D"]:
    """Each pair (a, b) becomes (a cos − b sin, b cos + a sin)."""
    cos, signed_sin = cos.to(vectors.dtype), signed_sin.to(vectors.dtype)
    return torch.addcmul(vectors * cos, vectors.roll(vectors.shape[-1] // 2, -1), signed_sin)


PositionsConfig = Annotated[LearnedPositionsConfig | RotaryPositionsConfig, Field(discriminator="kind")]
