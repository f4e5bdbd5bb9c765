"""The keys and values of what has been written, with room for more."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

LEAST_ROOM = 16  # positions


@dataclass
class Cache:
    """Keys and values of N rows in L layers: C places, the first `num_taken` of them in use."""

    places: Float[Tensor, "2 L N A C D"]
    num_taken: int

    def after(self, length: int, num_more: int) -> "Cache":
        """A cache of the first `length` positions in which the next `num_more` are taken, to be written to.

        It is this one, unless these places are taken already (a state was gone on from twice) or there are not so many:
        then a copy with twice the room, so that a row of T positions is copied less than twice in all.
        """
        end = length + num_more
        if length == self.num_taken and end <= self.places.shape[-2]:
            self.num_taken = end
            return self
        *shape, _, head_size = self.places.shape
        places = self.places.new_empty(*shape, max(LEAST_ROOM, 2 * end), head_size)
        places[..., :length, :] = self.places[..., :length, :]
        return Cache(places, end)

    def select(self, rows: Int64[Tensor, " M"]) -> "Cache":
        """A copy of the given rows, in their order."""
        return Cache(self.places.index_select(2, rows), self.num_taken)


@dataclass(frozen=True)
class TransformerState:
    """Where N decodings stand: what their first `length` positions left, and what z adds to every word."""

    cache: Cache
    length: int
    shift: Float[Tensor, "N H"]

    def select(self, rows: Int64[Tensor, " M"]) -> "TransformerState":
        """The states of the given rows, in their order."""
        return TransformerState(self.cache.select(rows), self.length, self.shift[rows])
