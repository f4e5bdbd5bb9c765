"""Where z enters a transformer decoder: before the words, on each of them, or in every layer's keys and values.

N rows, L layers, A heads of size D; each way leaves the places of the others empty.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from textvae.transformer.blocks import SCALE


@dataclass(frozen=True)
class Injected:
    """What a decoder is given of z. The words' positions follow those of prefix and memory."""

    prefix: Float[Tensor, "N P H"]  # goes through all layers, before the words
    shift: Float[Tensor, "N H"]  # added to the embedding of every word
    memory: Float[Tensor, "2 L N A M D"]  # keys and values of each layer, before its own


class Injection(nn.Module, ABC):
    """From z to what the decoder is given of it: a linear map without bias.

    It begins with weights by which a z drawn from N(0, I) is as large as what it stands beside. Were it larger, draws
    of a posterior that is not yet used would drown the words.
    """

    def __init__(self, latent_size: int, *, hidden_size: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.memory_shape = (2, num_layers, num_heads, hidden_size // num_heads)
        self.map = nn.Linear(latent_size, self.num_given(hidden_size, num_layers), bias=False)
        nn.init.normal_(self.map.weight, std=self.size_beside(hidden_size) / math.sqrt(latent_size))

    @staticmethod
    def num_given(hidden_size: int, num_layers: int) -> int:
        """How many numbers the map gives: one vector, unless a way says otherwise."""
        return hidden_size

    @staticmethod
    def size_beside(hidden_size: int) -> float:
        """The standard deviation of what z stands beside at first: an embedding, unless a way says otherwise."""
        return SCALE

    @abstractmethod
    def forward(self, z: Float[Tensor, "N Z"]) -> Injected:
        """Prefix, shift and memory, two of them empty or zero."""

    def no_prefix(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N 0 H"]:
        """Nothing before the words."""
        return z.new_zeros(len(z), 0, self.hidden_size)

    def no_shift(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N H"]:
        """Nothing added to the words."""
        return z.new_zeros(len(z), self.hidden_size)

    def no_memory(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "2 L N A 0 D"]:
        """Nothing that the layers see but the words."""
        two, num_layers, num_heads, head_size = self.memory_shape
        return z.new_zeros(two, num_layers, len(z), num_heads, 0, head_size)


class PrefixInjection(Injection):
    r"""A token \(W z\) stands before `<s>` and goes through all layers like a word."""

    def forward(self, z: Float[Tensor, "N Z"]) -> Injected:
        """One vector before the words."""
        return Injected(self.map(z).unsqueeze(1), self.no_shift(z), self.no_memory(z))


class EmbeddingInjection(Injection):
    r"""\(W z\) is added to the embedding of every word: "embedding" of Li et al. 2020, "Optimus"."""

    def forward(self, z: Float[Tensor, "N Z"]) -> Injected:
        """One vector on every word."""
        return Injected(self.no_prefix(z), self.map(z), self.no_memory(z))


class LayersInjection(Injection):
    r"""Each layer has one key and one value of z before those of the words, from maps of its own.

    "Memory" of Li et al. 2020, "Optimus", where a layer's key and value are the same vector. With rotary
    positions the key stands at position 0.
    """

    @staticmethod
    def num_given(hidden_size: int, num_layers: int) -> int:
        """A key and a value for each layer."""
        return 2 * num_layers * hidden_size

    @staticmethod
    def size_beside(hidden_size: int) -> float:
        """Keys and values are maps of normalised states."""
        return SCALE * math.sqrt(hidden_size)

    def forward(self, z: Float[Tensor, "N Z"]) -> Injected:
        """One key and one value in every layer."""
        memory = self.map(z).view(len(z), *self.memory_shape).permute(1, 2, 0, 3, 4).unsqueeze(-2)
        return Injected(self.no_prefix(z), self.no_shift(z), memory)


InjectionName = Literal["prefix", "embedding", "layers"]
INJECTIONS: dict[InjectionName, type[Injection]] = {
    "prefix": PrefixInjection,
    "embedding": EmbeddingInjection,
    "layers": LayersInjection,
}
