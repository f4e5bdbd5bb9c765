"""Decoding strategies: from latent vectors to token ids, the whole batch at once.

Shapes: N sentences, M of them still unfinished, K hypotheses of a sentence, R = M·K rows that the decoder works on,
T tokens, V vocabulary, Z latent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeInt
from torch import Tensor

from corpora.tokenizer import BOS, EOS, PAD

State = TypeVar("State", bound="DecoderState")


# Checkable at run time because the annotations are held to their word under pytest.
@runtime_checkable
class DecoderState(Protocol):
    """What a decoder carries from one token to the next, with one row per sentence or hypothesis."""

    def select(self: State, rows: Int64[Tensor, " M"]) -> State:
        """The state of these rows in this order: rows may be dropped, moved or repeated, and M may be 0."""
        ...


@runtime_checkable
class Decoder(Protocol[State]):
    """An autoregressive p(x | z), one token at a time. Rows must not influence one another."""

    def start(self, z: Float[Tensor, "N Z"]) -> State:
        """The state before the first token."""
        ...

    def step(self, tokens: Int64[Tensor, " N"], state: State) -> tuple[Float[Tensor, "N V"], State]:
        """Take in each row's previous token (BOS at first) and return the logits of the next.

        They are log p(next token | tokens so far, z) but for a constant of each row, float32, and −∞ at PAD and BOS,
        which are never generated.
        """
        ...


Choose = Callable[[Float[Tensor, "M V"], Int64[Tensor, " M"], int], Int64[Tensor, " M"]]


def top_k_filter(log_probs: Float[Tensor, "N V"], k: int) -> Float[Tensor, "N V"]:
    """Set all but the k largest to −∞ (all are kept where k ≥ V). Not renormalised.

    Reference: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.
    """
    kept, ids = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1)
    return torch.full_like(log_probs, -math.inf).scatter(-1, ids, kept)


def top_p_filter(log_probs: Float[Tensor, "N V"], p: float) -> Float[Tensor, "N V"]:
    """Keep the nucleus, the smallest set of tokens whose mass is at least p (never empty); set the rest to −∞.

    The mass is measured on softmax(log_probs), so the input may come from another filter. Not renormalised.

    Reference: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", equation 2.
    """
    ordered, ids = log_probs.sort(dim=-1, descending=True)
    mass = ordered.softmax(dim=-1).cumsum(dim=-1)
    mass_before = torch.nn.functional.pad(mass[:, :-1], (1, 0))
    return log_probs.scatter(-1, ids, ordered.masked_fill(mass_before >= p, -math.inf))


def inverse_cdf(log_probs: Float[Tensor, "M V"], draws: Float[Tensor, " M"]) -> Int64[Tensor, " M"]:
    """Turn draws from [0, 1) into ids distributed as softmax(log_probs): the first whose cumulative mass is ≥ 1 − draw.

    One number per row instead of the V that the Gumbel-max trick needs. An id of probability 0 is never returned,
    however the cumulative sums are rounded (a parallel scan need not be monotone).
    """
    probabilities = log_probs.softmax(dim=-1)
    cumulative = probabilities.cumsum(dim=-1).where(probabilities > 0, 0.0)
    threshold = (1.0 - draws)[:, None] * cumulative.amax(dim=-1, keepdim=True)
    return (cumulative >= threshold).byte().argmax(dim=-1)


def _generate(
    decoder: Decoder[State], z: Float[Tensor, "N Z"], choose: Choose, max_length: int
) -> Int64[Tensor, "N T"]:
    """Write left to right; `choose(logits, rows, step)` picks the next token of each unfinished row."""
    tokens = torch.full((len(z), max_length), PAD, device=z.device)
    rows = torch.arange(len(z), device=z.device)
    last = torch.full_like(rows, BOS)
    state = decoder.start(z)
    step = 0
    while step < max_length and len(rows) > 0:
        logits, state = decoder.step(last, state)
        last = choose(logits, rows, step)
        tokens[rows, step] = last
        step += 1
        unfinished = (last != EOS).nonzero().squeeze(-1)  # the step's one wait for the device
        if len(unfinished) < len(rows):
            rows, last, state = rows[unfinished], last[unfinished], state.select(unfinished)
    return tokens[:, :step]


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """The most probable token at every step: the limit of sampling as the temperature goes to 0."""

    kind: Literal["greedy"] = "greedy"

    def search(
        self, decoder: Decoder[State], z: Float[Tensor, "N Z"], max_length: int, generator: torch.Generator | None
    ) -> Int64[Tensor, "N T"]:
        """See `decode`; the generator is not used."""

        def choose(logits: Float[Tensor, "M V"], rows: Int64[Tensor, " M"], step: int) -> Int64[Tensor, " M"]:
            # Not argmax, which breaks ties in another way: a beam of size 1 must agree.
            return logits.topk(1, dim=-1).indices.squeeze(-1)

        return _generate(decoder, z, choose, max_length)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw each token from p^(1/temperature), cut to the `top_k` most probable and then to the nucleus of mass `top_p`.

    All uniforms are drawn before the first token, N × max_length of them, row by row. A row's text therefore depends on
    (generator, position of the row, max_length) and its own z, not on what the other rows are or when they finish;
    and a batch decoded in chunks with one CPU generator gives what it gives in one piece. A CPU generator gives the
    same draws whatever the device of z.
    """

    kind: Literal["sampling"] = "sampling"
    temperature: Annotated[float, Field(ge=1e-6, allow_inf_nan=False)] = 1.0  # lower still: use greedy
    top_k: NonNegativeInt = 0  # 0: not cut
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    def filtered(self, logits: Float[Tensor, "M V"]) -> Float[Tensor, "M V"]:
        """The logits of what is drawn from: temperature, then top-k, then top-p."""
        logits = logits / self.temperature
        if self.top_k > 0:
            logits = top_k_filter(logits, self.top_k)
        if self.top_p < 1:
            logits = top_p_filter(logits, self.top_p)
        return logits

    def search(
        self, decoder: Decoder[State], z: Float[Tensor, "N Z"], max_length: int, generator: torch.Generator | None
    ) -> Int64[Tensor, "N T"]:
        """See `decode`."""
        source = torch.default_generator if generator is None else generator
        draws = torch.rand(len(z), max_length, generator=source, device=source.device).to(z.device)

        def choose(logits: Float[Tensor, "M V"], rows: Int64[Tensor, " M"], step: int) -> Int64[Tensor, " M"]:
            return inverse_cdf(self.filtered(logits), draws[rows, step])

        return _generate(decoder, z, choose, max_length)


def _extend(
    log_prob: Float[Tensor, "M K"], next_log_probs: Float[Tensor, "R V"], size: int
) -> tuple[Float[Tensor, "M J"], Int64[Tensor, "M J"], Int64[Tensor, "M J"]]:
    """The `size` most probable continuations of each sentence's hypotheses, best first: log p, parent row, new token.

    J is less than `size` while there are not yet so many continuations.
    """
    num_sentences, num_hypotheses = log_prob.shape
    # No more than `size` of one parent can be among the best; cutting before adding also keeps a parent's own order.
    steps, ids = next_log_probs.topk(min(size, next_log_probs.shape[-1]), dim=-1)
    num_candidates = num_hypotheses * steps.shape[-1]
    candidates = (log_prob.reshape(-1, 1) + steps).reshape(num_sentences, num_candidates)
    log_prob, chosen = candidates.topk(min(size, num_candidates), dim=-1)
    offsets = torch.arange(num_sentences, device=log_prob.device)[:, None] * num_hypotheses
    return log_prob, offsets + chosen // steps.shape[-1], ids.reshape(num_sentences, num_candidates).gather(1, chosen)


@dataclass(frozen=True, kw_only=True)
class Beam:
    r"""Beam search for the complete sentence with the highest score of Wu et al. 2016, equation 14 (no coverage term).

    \[s(y) = \frac{\log p(y \mid z)}{lp(|y|)}, \quad lp(n) = \left(\frac{5 + n}{5 + 1}\right)^\alpha\]

    where |y| counts EOS and α is `length_penalty` (0: plain log-probability; the paper finds 0.6 to 0.7 best).
    A step keeps the `size` most probable continuations of a sentence's open hypotheses. Those of them that end leave
    the beam, the best one is remembered, and the open ones fill the free places with the next step. So a beam of size 1
    is greedy decoding. A sentence is done when no open hypothesis can still beat its best: log p only falls, so an
    open one scores at most log p / lp(max_length). One that is cut off at max_length counts only where none ended.

    Reference: Wu et al. 2016, "Google's Neural Machine Translation System", section 7.
    """

    kind: Literal["beam"] = "beam"
    size: Annotated[int, Field(ge=1, le=100)] = 5  # a step costs as much as so many sentences
    length_penalty: Annotated[float, Field(ge=0, le=10)] = 0.6

    def normalizer(self, length: int) -> float:
        """Return lp(length), which divides the log-probability of a sentence of `length` tokens, EOS among them."""
        return float(((5 + length) / 6) ** self.length_penalty)

    def search(
        self, decoder: Decoder[State], z: Float[Tensor, "N Z"], max_length: int, generator: torch.Generator | None
    ) -> Int64[Tensor, "N T"]:
        """See `decode`; the generator is not used."""
        tokens = torch.full((len(z), max_length), PAD, device=z.device)  # the best that ended, of every sentence
        # Of the sentences still searched: position in the batch, best score so far, open hypotheses with their log p.
        sentences = torch.arange(len(z), device=z.device)
        best = torch.full((len(z),), -math.inf, device=z.device)
        prefixes, log_prob = tokens[:, None], torch.zeros(len(z), 1, device=z.device)
        last = torch.full_like(sentences, BOS)
        state = decoder.start(z)
        step = 0
        while step < max_length and len(sentences) > 0:
            logits, state = decoder.step(last.flatten(), state)
            log_prob, parents, last = _extend(log_prob, logits.log_softmax(-1), self.size)
            prefixes = prefixes.flatten(0, 1)[parents]
            prefixes[:, :, step] = last
            step += 1

            ended = last == EOS
            top, slot = (log_prob / self.normalizer(step)).masked_fill(~ended, -math.inf).max(dim=1)
            tokens[sentences] = _pick(prefixes, slot).where((top > best)[:, None], tokens[sentences])
            best = torch.maximum(best, top)

            log_prob = log_prob.masked_fill(ended, -math.inf)
            bound = log_prob.amax(dim=1) / self.normalizer(max_length)
            going = (bound > best).nonzero().squeeze(-1)  # the step's one wait for the device
            sentences, best, prefixes, log_prob, last = (x[going] for x in (sentences, best, prefixes, log_prob, last))
            state = state.select(parents[going].flatten())
        cut_off = _pick(prefixes, log_prob.argmax(dim=1))
        tokens[sentences] = cut_off.where((best == -math.inf)[:, None], tokens[sentences])
        return tokens[:, : int((tokens != PAD).any(dim=0).sum())]


def _pick(prefixes: Int64[Tensor, "M K T"], slot: Int64[Tensor, " M"]) -> Int64[Tensor, "M T"]:
    """One hypothesis of each sentence."""
    return prefixes[torch.arange(len(slot), device=slot.device), slot]


Decoding = Annotated[Greedy | Sampling | Beam, Field(discriminator="kind")]


@torch.no_grad()
def decode(
    decoder: Decoder[State],
    z: Float[Tensor, "N Z"],
    decoding: Decoding,
    *,
    max_length: int,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "N T"]:
    """Generate one sentence for each z, without gradients.

    A row holds the generated ids without BOS, ended by EOS if it was reached within `max_length`, then PAD; T, at most
    `max_length`, is the length of the longest row (0 where N = 0). Finished sentences are dropped from the computation,
    and the host waits for the device once a step. A sentence does not depend on the others in its batch. `generator` is
    what sampling draws from (None: torch's default); the other strategies are deterministic. A decoder with dropout
    must be in evaluation mode.

    Raises ValueError if `max_length` is less than 1.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    return decoding.search(decoder, z, max_length, generator)
