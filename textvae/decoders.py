"""Decoders: p(x|z), teacher-forced for the likelihood and step by step for decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from corpora import EOS
from latent.bound import Schedule
from latent.distributions import at_least_float32
from textvae.cells import LAYERS, Carried, CellName, Layer
from textvae.noise import WordDropout
from textvae.scoring import ScoringDecoder, at_places, targets_at

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

    def expected(self, states: Float[Tensor, "M H"], embedding: nn.Module) -> Float[Tensor, "M E"]:
        """What is expected of the next word's embedding, without gradients."""
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

    @torch.no_grad()
    def expected(self, states: Float[Tensor, "M H"], embedding: nn.Module) -> Float[Tensor, "M E"]:
        """The mean of the next word's embedding, a few logits at a time."""
        weight = self.weight
        vectors = embedding(torch.arange(EOS, EOS + len(weight), device=weight.device))
        parts = states.split(max(1, RECOMPUTED_AT_ONCE // len(weight)))
        return torch.cat([F.linear(h, weight, self.bias).softmax(-1).to(vectors.dtype) @ vectors for h in parts])


def _log_prob(
    states: Float[Tensor, "M H"], weight: Float[Tensor, "V H"], bias: Float[Tensor, " V"], targets: Int64[Tensor, " M"]
) -> Float[Tensor, " M"]:
    return _log_softmax_at(F.linear(states, weight, bias), targets)


def _log_softmax_at(logits: Float[Tensor, "M V"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    return -F.cross_entropy(at_least_float32(logits), targets, reduction="none")


class Offset(nn.Module):
    """What is left of `nn.Linear` where there is nothing to read: its bias, learned from 0."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, nothing: Float[Tensor, "N 0"]) -> Float[Tensor, "N H"]:
        """The same vector for each of N."""
        return self.bias.expand(len(nothing), -1)


@dataclass(frozen=True)
class RecurrentState:
    """Where N decodings stand; each has its z."""

    carried: Carried
    z: Float[Tensor, "N Z"]

    def select(self, rows: Int64[Tensor, " M"]) -> "RecurrentState":
        """The states of the given rows, in their order."""
        return RecurrentState(tuple(part[rows] for part in self.carried), self.z[rows])


class RecurrentDecoder(ScoringDecoder):
    r"""A recurrent language model, LSTM or GRU, that is given z at the start and at every step.

    \(c_0 = W z,\; h_0 = \tanh c_0,\; h_t = \mathrm{LSTM}([e(x_{t-1}); z], h_{t-1})\) (He et al. 2019, appendix B).
    With `skip` the output layer is given z too, \(W_h h_t + W_z z + b\), without dropout on z (Dieng et al. 2019,
    "Avoiding Latent Variable Collapse with Generative Skip Models"). Its weight is [W_h, W_z], so it cannot be tied.
    With a z of size 0 it is a plain language model whose first cell state is learned.
    `embedding` turns ids into the vectors e; `output` builds, for the size of what it reads, what scores the next word.
    Without an embedding it reads z alone and no word, \(p(x|z) = \prod_t p(x_t|z)\) up to and with `</s>`: the
    historyless or inputless decoder of Bowman et al. 2016, section 3.2.
    In training alone, of the words read, a share of `expected_inputs` is replaced by what the decoder itself expects
    there, and `input_noise` is the standard deviation of normal noise on all their vectors.
    """

    def __init__(
        self,
        embedding: nn.Module | None,
        output: Callable[[int], Output],
        *,
        latent_size: int,
        embedding_size: int,
        hidden_size: int,
        cell: CellName,
        word_dropout: float,
        word_dropout_schedule: Schedule,
        expected_inputs: float,
        input_noise: float,
        dropout_in: float,
        dropout_out: float,
        skip: bool,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.initial_cell = nn.Linear(latent_size, hidden_size) if latent_size > 0 else Offset(hidden_size)
        num_inputs = (embedding_size if embedding is not None else 0) + latent_size
        self.cell = cell
        self.add_module(cell, LAYERS[cell](num_inputs, hidden_size))  # so that its weights' names say what it is
        self.output = output(hidden_size + latent_size if skip else hidden_size)
        self.dropout_in, self.dropout_out = nn.Dropout(dropout_in), nn.Dropout(dropout_out)
        self.word_dropout = WordDropout(word_dropout, word_dropout_schedule)
        self.expected_inputs, self.input_noise = expected_inputs, input_noise
        self.skip = skip

    @property
    def layer(self) -> Layer:
        """The recurrent layer."""
        found: Layer = self.get_submodule(self.cell)  # type: ignore[assignment]
        return found

    def scored_log_prob(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        """log p(x_t | x_<t, z) in nats at the scored places, one sentence after the other."""
        words = self._embedded(tokens[:, :-1])
        if self.training and self.expected_inputs > 0.0:
            is_expected = torch.rand(words.shape[:2], device=words.device) < self.expected_inputs
            words = torch.where(is_expected.unsqueeze(-1), self._expected(words, z, scored), words)
        return self.output.log_prob(self._states(words, z, scored), targets_at(tokens, scored))

    def _states(
        self, words: Float[Tensor, "N T E"], z: Float[Tensor, "N Z"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, "M R"]:
        """What the output layer reads at the scored places."""
        outputs = self.layer.run(self._inputs(words, z), self.start(z).carried)
        states: Tensor = self.dropout_out(at_places(outputs, scored))
        if self.skip:
            rows = z.index_select(0, scored // outputs.shape[1])
            states = torch.cat([states, rows.to(states.dtype)], -1)
        return states

    @torch.no_grad()
    def _expected(
        self, words: Float[Tensor, "N T E"], z: Float[Tensor, "N Z"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, "N T E"]:
        """What the decoder, where it has read these words, expects at each place; `<s>` as it is."""
        assert self.embedding is not None  # the config sees to it
        length = words.shape[1]
        found = self.output.expected(self._states(words, z, scored), self.embedding).to(words.dtype)
        after = scored + scored // length + 1  # in rows of one place more: what follows a last word is on no other row
        ahead = F.pad(words, (0, 0, 0, 1)).flatten(0, 1).index_copy(0, after, found)
        return ahead.view(len(words), length + 1, -1)[:, :-1]

    def start(self, z: Float[Tensor, "N Z"]) -> RecurrentState:
        """The state before the first word."""
        return RecurrentState(self.layer.start(self.initial_cell(z)), z)

    def step(self, tokens: Int64[Tensor, " N"], state: RecurrentState) -> tuple[Float[Tensor, "N V"], RecurrentState]:
        """Take one word each; return the logits of the next over all ids, and the new state."""
        carried = self.layer.step(self._inputs(self._embedded(tokens.unsqueeze(1)), state.z).squeeze(1), state.carried)
        states = self.dropout_out(carried[0])
        if self.skip:
            states = torch.cat([states, state.z], -1)
        return self.output.logits(states), RecurrentState(carried, state.z)

    def _embedded(self, tokens: Int64[Tensor, "N T"]) -> Float[Tensor, "N T E"]:
        """The vectors of the words, some dropped; of size 0 where none are read."""
        if self.embedding is None:
            return self.initial_cell.bias.new_empty(*tokens.shape, 0)
        found: Tensor = self.embedding(self.word_dropout(tokens))
        return found

    def _inputs(self, words: Float[Tensor, "N T E"], z: Float[Tensor, "N Z"]) -> Float[Tensor, "N T I"]:
        """What the layer reads: each word's vector and z."""
        words = self.dropout_in(words)
        if self.training and self.input_noise > 0.0:
            words = words + self.input_noise * torch.randn_like(words)
        return torch.cat([words, z.unsqueeze(1).expand(-1, words.shape[1], -1).to(words.dtype)], -1)
