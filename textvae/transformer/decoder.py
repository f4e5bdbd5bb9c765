"""A transformer language model that is given z."""

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from latent.bound import Schedule
from textvae.decoders import WordOutput
from textvae.noise import WordDropout
from textvae.scoring import ScoringDecoder, at_places, targets_at
from textvae.transformer.attention import causal_attention
from textvae.transformer.blocks import Attend, Block, initialise
from textvae.transformer.cache import Cache, TransformerState
from textvae.transformer.injection import INJECTIONS, InjectionName
from textvae.transformer.positions import Positions


class TransformerDecoder(ScoringDecoder):
    """GPT-2's layers (Radford et al. 2019) without biases, given z in one of the ways of `injection.py`.

    Dropout is on the words' embeddings and on what each layer adds, never on z itself.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        latent_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        injection: InjectionName,
        positions: Positions,
        word_dropout: float,
        word_dropout_schedule: Schedule,
        dropout: float,
        tie_weights: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, hidden_size)
        self.injection = INJECTIONS[injection](
            latent_size, hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads
        )
        self.positions = positions
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size, bias=False)
        self.output = WordOutput(num_ids, hidden_size, self.embedding if tie_weights else None)
        self.word_dropout, self.dropout = WordDropout(word_dropout, word_dropout_schedule), nn.Dropout(dropout)
        initialise(self.blocks, *self.embedding.parameters(), *self.output.parameters(), *positions.parameters())

    def scored_log_prob(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        """log p(x_t | x_<t, z) in nats at the scored places, one sentence after the other."""
        given = self.injection(z)
        words = self._embedded(self.word_dropout(tokens[:, :-1]), given.shift)
        before = (partial(_causal_after, memory=memory) for memory in given.memory.unbind(1))
        x = self._through(torch.cat([given.prefix, words], 1), given.memory.shape[-2], before)
        states = self.norm(at_places(x[:, given.prefix.shape[1] :], scored))
        return self.output.log_prob(states, targets_at(tokens, scored))

    @torch.no_grad()
    def start(self, z: Float[Tensor, "N Z"]) -> TransformerState:
        """The state before the first word."""
        given = self.injection(z)
        state = TransformerState(Cache(given.memory, given.memory.shape[-2]), given.memory.shape[-2], given.shift)
        return self._written(given.prefix, state)[1]

    def step(
        self, tokens: Int64[Tensor, " N"], state: TransformerState
    ) -> tuple[Float[Tensor, "N V"], TransformerState]:
        """Take one word each; return the logits of the next over all ids, and the new state."""
        return self.read(tokens.unsqueeze(1), state)

    @torch.no_grad()
    def read(
        self, tokens: Int64[Tensor, "N T"], state: TransformerState
    ) -> tuple[Float[Tensor, "N V"], TransformerState]:
        """Take T words each at once; return the logits of the next over all ids, and the new state."""
        x, state = self._written(self._embedded(tokens, state.shift), state)
        return self.output.logits(self.norm(x[:, -1])), state

    def _embedded(self, tokens: Int64[Tensor, "N T"], shift: Float[Tensor, "N H"]) -> Float[Tensor, "N T H"]:
        embedded: Tensor = self.dropout(self.embedding(tokens))
        return embedded + shift.unsqueeze(1)

    def _written(self, x: Float[Tensor, "N T H"], state: TransformerState) -> tuple[Tensor, TransformerState]:
        """The last layer's output at the positions after the state's, whose keys and values are kept."""
        cache = state.cache.after(state.length, x.shape[1])
        end = state.length + x.shape[1]
        layers = cache.places[..., :end, :].unbind(1)
        writing = (partial(_causal_in, kept=kept, start=state.length) for kept in layers)
        return self._through(x, state.length, writing), TransformerState(cache, end, state.shift)

    def _through(self, x: Float[Tensor, "N T H"], start: int, attends: Iterable[Attend]) -> Float[Tensor, "N T H"]:
        """Through all layers, from position `start` on."""
        x, rotation = self.positions(x, start)
        for block, attend in zip(self.blocks, attends, strict=True):
            x = block(x, rotation, attend)
        return x


def _causal_after(
    q: Float[Tensor, "N A T D"],
    k: Float[Tensor, "N A T D"],
    v: Float[Tensor, "N A T D"],
    memory: Float[Tensor, "2 N A M D"],
) -> Float[Tensor, "N A T D"]:
    """A layer's memory stands before its own keys and values, and all positions see it."""
    return causal_attention(q, torch.cat([memory[0], k], 2), torch.cat([memory[1], v], 2))


def _causal_in(
    q: Float[Tensor, "N A T D"],
    k: Float[Tensor, "N A T D"],
    v: Float[Tensor, "N A T D"],
    kept: Float[Tensor, "2 N A K D"],
    start: int,
) -> Float[Tensor, "N A T D"]:
    """Keys and values are written from position `start` on, and what stands before them is seen too."""
    kept[0, :, :, start:], kept[1, :, :, start:] = k, v
    return causal_attention(q, kept[0], kept[1])
