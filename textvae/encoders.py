"""Encoders: token ids in, one feature vector per sentence out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from textvae.cells import LAYERS, CellName

PoolingName = Literal["last", "mean", "max"]


def last_state(states: Float[Tensor, "B T H"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The state at each sentence's end."""
    return torch.take_along_dim(states, (lengths - 1)[:, None, None], 1).squeeze(1)


def mean_state(states: Float[Tensor, "B T H"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The mean over each sentence's own positions."""
    return states.where(_inside(states, lengths), 0.0).sum(1) / lengths.unsqueeze(1)


def max_state(states: Float[Tensor, "B T H"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The largest value of each feature over each sentence's own positions."""
    return states.where(_inside(states, lengths), -torch.inf).amax(1)


def _inside(states: Float[Tensor, "B T H"], lengths: Int64[Tensor, " B"]) -> Bool[Tensor, "B T 1"]:
    positions = torch.arange(states.shape[1], device=states.device)
    return (positions < lengths.unsqueeze(1)).unsqueeze(-1)


POOLINGS: dict[PoolingName, Callable[[Tensor, Tensor], Tensor]] = {
    "last": last_state,
    "mean": mean_state,
    "max": max_state,
}


class RecurrentEncoder(nn.Module):
    """The last state of an LSTM or GRU over `<s> … </s>`; of two, one for each direction, if `bidirectional`.

    With `pooling` mean or max, each direction's states are pooled over all positions in the place of the last (Long
    et al. 2019, "Preventing Posterior Collapse in Sequence VAEs with Pooling").

    The sentences are padded, never packed: a state after a sentence's end is not looked at, and the backward
    direction reads each sentence reversed within its own length, so that padding changes nothing. This keeps the
    fused kernels, which packed sequences do not reach on a CPU.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        embedding_size: int,
        hidden_size: int,
        cell: CellName,
        bidirectional: bool,
        pooling: PoolingName,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        num_directions = 2 if bidirectional else 1
        self.directions = nn.ModuleList(LAYERS[cell](embedding_size, hidden_size) for _ in range(num_directions))
        self.pool = POOLINGS[pooling]
        self.num_features = num_directions * hidden_size

    def forward(self, tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of each sentence; `lengths` counts `<s>` and `</s>`."""
        return self._pooled((self.dropout(self.embedding(order)) for order in _orders(tokens, lengths)), lengths)

    def read(self, sequences: Float[Tensor, "K L E"]) -> Float[Tensor, "K H"]:
        """Features of sequences of vectors in the place of embeddings, all of one length, without dropout."""
        lengths = torch.full((len(sequences),), sequences.shape[1], device=sequences.device)
        return self._pooled((sequences, sequences.flip(1)), lengths)

    def _pooled(self, embedded: Iterable[Float[Tensor, "B T E"]], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Each direction's states, in its own order, brought to one."""
        found = [self.pool(layer(order)[0], lengths) for layer, order in zip(self.directions, embedded, strict=False)]
        return torch.cat(found, dim=1)


def _orders(tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Iterator[Int64[Tensor, "B T"]]:
    """What each direction reads, as it is asked for: one that is not there takes no time and no random numbers."""
    yield tokens
    yield reverse_within_length(tokens, lengths)


def reverse_within_length(tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Int64[Tensor, "B T"]:
    """Each sentence backwards, its padding where it was."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    reversed_position = lengths.unsqueeze(1) - 1 - position
    return tokens.gather(1, torch.where(reversed_position >= 0, reversed_position, position))
