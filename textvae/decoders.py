"""Decoders: p(x|z), teacher-forced for the likelihood and step by step for decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from corpora import BOS, EOS, UNK
from latent.distributions import at_least_float32

LOGITS_AT_ONCE = 2**24  # 32 MB of bfloat16: more rows would not make the products faster
CACHE_LINE = 16  # float32
CACHED_LOGITS = 2**20  # 4 MB of float32
KEPT_LOGITS = 2**27  # 512 MB of float32: beyond, the backward pass computes them a second time
RECOMPUTED_AT_ONCE = 2**24


@runtime_checkable
class Output(Protocol):
    """What reads the next word from a decoder's state."""

    def log_prob(self, states: Float[Tensor, "M H"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
        """log p(target | state), in nats."""
        ...

    def logits(self, states: Float[Tensor, "N H"]) -> Float[Tensor, "N V"]:
        """log p(word | state) but for a constant, for all ids, −inf for `<pad>` and `<s>`; for decoding."""
        ...


def word_embedding(num_ids: int, size: int) -> nn.Embedding:
    """A learned vector for each id."""
    embedding = nn.Embedding(num_ids, size)
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    return embedding


class WordOutput(nn.Module):
    """log p(next word | state): a linear map and a softmax over the words that can be scored.

    It has no rows for `<pad>` and `<s>`, which are never scored and never generated.
    """

    def __init__(self, num_ids: int, hidden_size: int, tied_to: nn.Embedding | None = None) -> None:
        super().__init__()
        own_weight = nn.Parameter(nn.init.uniform_(torch.empty(num_ids - EOS, hidden_size), -0.1, 0.1))
        self.own_weight = own_weight if tied_to is None else None
        self.bias = nn.Parameter(torch.zeros(num_ids - EOS))
        # in a tuple, so that the embedding's weight is not registered here a second time
        self.tied_to: tuple[nn.Embedding, ...] = () if tied_to is None else (tied_to,)

    @property
    def weight(self) -> Float[Tensor, "V H"]:
        """One row for each word that can be scored."""
        return self.own_weight if self.own_weight is not None else self.tied_to[0].weight[EOS:]

    def log_prob(self, states: Float[Tensor, "M H"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
        """log p(target | state), in nats.

        Without gradients no more than a few logits are kept at once. With them all are kept for the backward pass, or,
        where they would fill too much memory, computed a second time in it.
        """
        weight, targets = self.weight, targets - EOS
        with_gradient = torch.is_grad_enabled()
        if with_gradient and len(states) * len(weight) <= KEPT_LOGITS:
            return _log_prob(states, weight, self.bias, targets)
        at_once = max(1, (RECOMPUTED_AT_ONCE if with_gradient else LOGITS_AT_ONCE) // len(weight))
        parts = zip(states.split(at_once), targets.split(at_once), strict=True)
        if not with_gradient:
            return torch.cat([self._log_prob_in_cache(h, target) for h, target in parts])
        # no random numbers are drawn in it, and their state is not to be saved
        found = [
            checkpoint(_log_prob, h, weight, self.bias, target, use_reentrant=False, preserve_rng_state=False)
            for h, target in parts
        ]
        return torch.cat(found)

    def _log_prob_in_cache(self, states: Float[Tensor, "M H"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
        """One product for all states, and its softmax a few rows at a time, while they are in the cache."""
        logits = F.linear(states, self.weight, self.bias)
        at_once = max(1, CACHED_LOGITS // logits.shape[1])
        parts = zip(logits.split(at_once), targets.split(at_once), strict=True)
        return torch.cat([_log_softmax_at(some, target) for some, target in parts])

    @torch.no_grad()
    def logits(self, states: Float[Tensor, "N H"]) -> Float[Tensor, "N V"]:
        """log p(word | state) but for a constant, for all ids, −inf for `<pad>` and `<s>`; for decoding."""
        logits = states.new_empty((len(states), CACHE_LINE + len(self.bias)))
        # the product is written to an aligned place: elsewhere it takes half as long again
        torch.addmm(self.bias, states, self.weight.t(), out=logits[:, CACHE_LINE:])
        logits[:, CACHE_LINE - EOS : CACHE_LINE] = -torch.inf
        return logits[:, CACHE_LINE - EOS :]


def _log_prob(
    states: Float[Tensor, "M H"], weight: Float[Tensor, "V H"], bias: Float[Tensor, " V"], targets: Int64[Tensor, " M"]
) -> Float[Tensor, " M"]:
    return _log_softmax_at(F.linear(states, weight, bias), targets)


def _log_softmax_at(logits: Float[Tensor, "M V"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    return -F.cross_entropy(at_least_float32(logits), targets, reduction="none")


@dataclass(frozen=True)
class LstmState:
    """Where N decodings stand; each has its z."""

    hidden: Float[Tensor, "N H"]
    cell: Float[Tensor, "N H"]
    z: Float[Tensor, "N Z"]

    def select(self, rows: Int64[Tensor, " M"]) -> "LstmState":
        """The states of the given rows, in their order."""
        return LstmState(self.hidden[rows], self.cell[rows], self.z[rows])


class LstmDecoder(nn.Module):
    r"""An LSTM language model that is given z at the start and at every step.

    \(c_0 = W z,\; h_0 = \tanh c_0,\; h_t = \mathrm{LSTM}([e(x_{t-1}); z], h_{t-1})\) (He et al. 2019, appendix B).
    With `skip` the output layer is given z too, \(W_h h_t + W_z z + b\), without dropout on z (Dieng et al. 2019,
    "Avoiding Latent Variable Collapse with Generative Skip Models"). Its weight is [W_h, W_z], so it cannot be tied.

    `embedding` turns ids into the vectors e; `output` builds, for the size of what it reads, what scores the next word.
    """

    def __init__(
        self,
        embedding: nn.Module,
        output: Callable[[int], Output],
        *,
        latent_size: int,
        embedding_size: int,
        hidden_size: int,
        word_dropout: float,
        dropout_in: float,
        dropout_out: float,
        skip: bool,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.initial_cell = nn.Linear(latent_size, hidden_size)
        self.lstm = nn.LSTM(embedding_size + latent_size, hidden_size, batch_first=True)
        self.output = output(hidden_size + latent_size if skip else hidden_size)
        self.dropout_in, self.dropout_out = nn.Dropout(dropout_in), nn.Dropout(dropout_out)
        self.word_dropout = word_dropout
        self.skip = skip

    def log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, " N"]:
        """log p(x|z) in nats: the sum over the words and `</s>`, which `mask` marks among `tokens[:, 1:]`."""
        log_prob = self._scored_log_prob(z, tokens, mask)
        row = torch.arange(len(z), device=z.device).repeat_interleave(mask.sum(1))
        return log_prob.new_zeros(len(z)).index_add(0, row, log_prob)

    def token_log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, "N T-1"]:
        """log p(x_t | x_<t, z) in nats at each position that `mask` marks, 0 elsewhere: what `log_likelihood` sums."""
        log_prob = self._scored_log_prob(z, tokens, mask)
        return log_prob.new_zeros(mask.shape).masked_scatter(mask, log_prob)

    def _scored_log_prob(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, " M"]:
        """log p of the marked tokens, one sentence after the other."""
        embedded = self.dropout_in(self.embedding(self._with_dropped_words(tokens[:, :-1])))
        state = self.start(z)
        inputs = torch.cat([embedded, z.to(embedded.dtype).unsqueeze(1).expand(-1, embedded.shape[1], -1)], -1)
        outputs, _ = self.lstm(inputs, (state.hidden.unsqueeze(0), state.cell.unsqueeze(0)))
        states = self.dropout_out(outputs[mask])
        if self.skip:
            states = torch.cat([states, z.repeat_interleave(mask.sum(1), 0).to(states.dtype)], -1)
        return self.output.log_prob(states, tokens[:, 1:][mask])

    def start(self, z: Float[Tensor, "N Z"]) -> LstmState:
        """The state before the first word."""
        cell = self.initial_cell(z)
        return LstmState(torch.tanh(cell), cell, z)

    def step(self, tokens: Int64[Tensor, " N"], state: LstmState) -> tuple[Float[Tensor, "N V"], LstmState]:
        """Take one word each; return the logits of the next over all ids, and the new state."""
        # Not the fused layer, which would prepare itself anew for each number of rows that are left.
        inputs = torch.cat([self.dropout_in(self.embedding(tokens)), state.z], -1)
        hidden, cell = torch.lstm_cell(inputs, (state.hidden, state.cell), *self.lstm.all_weights[0])
        states = self.dropout_out(hidden)
        if self.skip:
            states = torch.cat([states, state.z], -1)
        return self.output.logits(states), LstmState(hidden, cell, state.z)

    def _with_dropped_words(self, tokens: Int64[Tensor, "N T"]) -> Int64[Tensor, "N T"]:
        """Replace a share of the input words by `<unk>`, in training only and never `<s>` (Bowman et al. 2016)."""
        if not self.training or self.word_dropout == 0.0:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
        return torch.where(dropped & (tokens != BOS), UNK, tokens)
