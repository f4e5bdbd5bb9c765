"""A transformer that sees a whole sentence, pooled by a token of its own."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from textvae.transformer.attention import masked_attention
from textvae.transformer.blocks import Block, initialise
from textvae.transformer.positions import Positions


class TransformerEncoder(nn.Module):
    """The last state of a learned latent token before `<s> … </s>`, all of which see one another; padding is not seen.

    Pooling by a token as in BERT (Devlin et al. 2019). In the last layer only the latent token asks, since nothing else
    is read. Dropout is on the embeddings alone.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        positions: Positions,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, hidden_size)
        self.latent_token = nn.Parameter(torch.empty(1, hidden_size))
        self.positions = positions
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, 0.0) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size
        initialise(self.blocks, self.latent_token, *self.embedding.parameters(), *positions.parameters())

    def forward(self, tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of each sentence; `lengths` counts `<s>` and `</s>`."""
        return self._pooled(self.dropout(self.embedding(tokens)), lengths)

    def read(self, sequences: Float[Tensor, "K L E"]) -> Float[Tensor, "K H"]:
        """Features of sequences of vectors in the place of embeddings, all of one length, without dropout."""
        return self._pooled(sequences, torch.full((len(sequences),), sequences.shape[1], device=sequences.device))

    def _pooled(self, embedded: Float[Tensor, "B T H"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        token = self.latent_token.expand(len(embedded), 1, -1)
        x, rotation = self.positions(torch.cat([token, embedded], 1), 0)
        visible = torch.arange(x.shape[1], device=x.device) <= lengths[:, None]
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, rotation, partial(masked_attention, visible=visible))
        x = last(x, rotation, partial(_first_query, visible=visible))
        features: Tensor = self.norm(x[:, 0])
        return features


def _first_query(
    q: Float[Tensor, "N A T D"], k: Float[Tensor, "N A T D"], v: Float[Tensor, "N A T D"], visible: Bool[Tensor, "N T"]
) -> Float[Tensor, "N A 1 D"]:
    return masked_attention(q[:, :, :1], k, v, visible)
