"""Encoders: token ids in, one feature vector per sentence out."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class LstmEncoder(nn.Module):
    """The last state of an LSTM over `<s> … </s>`; of two, one for each direction, if `bidirectional`.

    The sentences are padded, never packed: a state after a sentence's end is not looked at, and the backward
    direction reads each sentence reversed within its own length, so that padding changes nothing. This keeps the
    fused kernels, which packed sequences do not reach on a CPU.
    """

    def __init__(
        self, num_ids: int, *, embedding_size: int, hidden_size: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        num_directions = 2 if bidirectional else 1
        self.directions = nn.ModuleList(
            nn.LSTM(embedding_size, hidden_size, batch_first=True) for _ in range(num_directions)
        )
        self.num_features = num_directions * hidden_size

    def forward(self, tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of each sentence; `lengths` counts `<s>` and `</s>`."""
        orders = (tokens, reverse_within_length(tokens, lengths))
        # one by one, as they are asked for: a second direction that is not there takes no random numbers
        return self._last_states((self.dropout(self.embedding(order)) for order in orders), lengths)

    def read(self, sequences: Float[Tensor, "K L E"]) -> Float[Tensor, "K H"]:
        """Features of sequences of vectors in the place of embeddings, all of one length, without dropout."""
        lengths = torch.full((len(sequences),), sequences.shape[1], device=sequences.device)
        return self._last_states((sequences, sequences.flip(1)), lengths)

    def _last_states(
        self, embedded: Iterable[Float[Tensor, "B T E"]], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B H"]:
        """Each direction's state at the last position of its own order."""
        last = (lengths - 1)[:, None, None]
        states = [
            torch.take_along_dim(lstm(order)[0], last, 1).squeeze(1)
            for lstm, order in zip(self.directions, embedded, strict=False)
        ]
        return torch.cat(states, dim=1)


def reverse_within_length(tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Int64[Tensor, "B T"]:
    """Each sentence backwards, its padding where it was."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    reversed_position = lengths.unsqueeze(1) - 1 - position
    return tokens.gather(1, torch.where(reversed_position >= 0, reversed_position, position))
