r"""The importance-weighted bound on log p(x): \(L_K = \mathbb{E} \log \frac1K \sum_k w_k\) (Burda et al. 2016)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, LatentModel
from latent.distributions import take
from latent.machine.exchange import ALONE, add_up, place
from latent.measures.intervals import NORMAL_QUANTILE, Estimate, mean_estimate
from latent.measures.split import evaluating, require_finite, restore_order

LADDER = (1, 10, 50, 100, 500)
CONVERGED_NATS = 0.1  # of error that a bound may have and be called converged
FIRST_DRAWS = 32  # of each example before the adaptive mode may stop; then their number doubles
SLOWEST = 0.95  # ratio of the gains of two doublings that is believed
ROUNDING = 1e-6  # nats: a gain that is none
LEAST_EFFECTIVE = 20.0  # draws, before the adaptive mode believes an example's own standard error


@dataclass(frozen=True)
class ImportanceWeighted:
    r"""The importance-weighted NLL of each of N examples, in nats, and what its draws say of its error.

    `nll` is \(-\log \hat p\), \(\hat p = \frac1S \sum_s w_s\) over an example's S draws (`num_draws`). `ladder` maps K
    to each example's NLL at K draws: the mean over its disjoint blocks of K draws, which has the expectation of one
    block and a smaller variance; at an example with fewer draws than K, its `nll`. The last rung is `nll`.
    `at_fewer` holds the same at S/2, S/4 and S/8 draws. Where it `is_exact` there was nothing to draw.
    """

    nll: Float[Tensor, " N"]
    at_fewer: tuple[Float[Tensor, " N"], ...]
    effective_sample_size: Float[Tensor, " N"]
    num_draws: Int64[Tensor, " N"]
    ladder: dict[int, Float[Tensor, " N"]]
    is_exact: bool = False

    @classmethod
    def exact(cls, nll: Float[Tensor, " N"]) -> "ImportanceWeighted":
        """Of a model without a latent variable: the weight of the one z that there is, of size 0, is p(x) itself."""
        ones = torch.ones(len(nll), dtype=torch.int64)
        return cls(nll, (nll, nll, nll), ones.double(), ones, {1: nll}, is_exact=True)

    @property
    def estimate(self) -> Estimate:
        """The mean NLL; the interval is over examples, and each brings the noise of its own draws into it."""
        return mean_estimate(self.nll)

    @property
    def total_draws(self) -> int:
        """Draws spent on all examples together: how often the decoder has scored an example."""
        return int(self.num_draws.sum())

    @property
    def standard_error(self) -> Float[Tensor, " N"]:
        r"""Of each log p̂ given x, in nats, by the delta method; infinite, since unknown, for a single draw.

        \(\mathrm{sd}(w) / (\bar w \sqrt S) = \sqrt{\tfrac{S}{S-1} (1/\mathrm{ESS} - 1/S)}\) (Kong 1992, "A note on
        importance sampling using standardized weights"). It cannot exceed 1, whatever the truth, and is too small
        where a few draws carry the weight: an effective sample size below 20 is not to be believed.
        """
        if self.is_exact:
            return torch.zeros_like(self.effective_sample_size)
        draws = self.num_draws.double()
        variance = (1 / self.effective_sample_size - 1 / draws).clamp(min=0.0) * draws / (draws - 1)
        return torch.where(self.num_draws > 1, variance.sqrt(), torch.inf)

    @property
    def sampling_error(self) -> float:
        """The standard error of the mean NLL on these very examples: the noise of the draws alone."""
        return self.standard_error.square().sum().sqrt().item() / len(self.nll)

    @property
    def doubling_gain(self) -> Estimate:
        """How far the mean NLL fell from S/2 to S draws, in nats, with its paired interval over examples."""
        return mean_estimate(self.at_fewer[0] - self.nll)

    @property
    def bias(self) -> float:
        r"""An estimate of the bound's bias, mean NLL − true NLL in nats: how far the NLL would still fall.

        Weights of finite variance have \(\log p(x) - L_K = \mathrm{var}(w) / (2 K p(x)^2) + O(K^{-2})\) (Nowozin 2018,
        "Debiasing evidence approximations"): each doubling of K gains half of the one before, and all that follow gain
        as much as the last. Weights with a heavy tail fall more slowly, hence the mean ratio r of the last three gains,
        between ½ and 0.95, and the geometric series \(\mathrm{gain} \cdot r / (1 - r)\) (Aitken's extrapolation).
        Infinite, since unknown, with fewer than 8 draws. It is an estimate, not a bound: it cannot see a mode of
        p(z|x) that no draw has met.
        """
        if self.is_exact:
            return 0.0
        if int(self.num_draws.min()) < 8:
            return math.inf
        half, quarter, eighth = (nll.mean().item() for nll in self.at_fewer)
        gain, first_gain = half - self.nll.mean().item(), eighth - quarter
        if gain <= ROUNDING:
            return 0.0
        ratio = min(max(math.sqrt(gain / max(first_gain, ROUNDING)), 0.5), SLOWEST)
        return gain * ratio / (1 - ratio)

    @property
    def half_width(self) -> float:
        """The noise that the draws leave in the mean NLL on these very examples: 1.96 sampling errors, in nats.

        The bias is another matter: no further draw makes the noise of a biased estimate tell of it.
        """
        return NORMAL_QUANTILE * self.sampling_error

    @property
    def has_converged(self) -> bool:
        """Whether bias and noise are at most 0.1 nats together, by estimate, and the last gain clearly less."""
        return max(self.bias + self.half_width, self.doubling_gain.high) <= CONVERGED_NATS

    def is_tight(self, half_width: float) -> Bool[Tensor, " N"]:
        """Which examples' own 95 % interval reaches no farther than `half_width`, on enough effective draws."""
        enough = self.effective_sample_size >= LEAST_EFFECTIVE
        return enough & (NORMAL_QUANTILE * self.standard_error <= half_width)


def importance_weighted(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    device: torch.device,
    num_samples: int,
    *,
    half_width: float | None = None,
    rows_at_once: int = 1024,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> ImportanceWeighted:
    """−log (1/K Σ_k w_k) of each example, K = `num_samples` draws; the encoder runs once per example.

    With `half_width`, in nats, K is only the most that is spent. Draws are made in rounds that double their number,
    from 32. After each round an example whose own 95 % interval is within `half_width` leaves its batch, and all stop
    once the mean's is (`ImportanceWeighted.half_width`). All draws enter the estimate. Draws that were not made leave
    their bias: the estimate is that of the number of draws spent, and `ImportanceWeighted.bias` says what is left.
    That this number depends on the draws is a second bias, far below the first: there are few looks, each on many
    draws, and the stop that comes first as a rule is the one for all examples together.

    `rows_at_once` bounds draws times examples in one call of the decoder, hence the memory; of each draw only its
    weight is kept. The posterior is computed in float32, the decoder's products in `dtype`. Several processes share out
    the decoding, and all of them have what one would find. Raises ValueError for K < 1 or a half-width that is not
    positive, and NotFiniteError where weights are not finite.
    """
    if num_samples < 1:
        raise ValueError(f"the number of importance samples must be at least 1 (got {num_samples})")
    if half_width is not None and not half_width > 0:
        raise ValueError(f"the half-width must be positive, in nats (got {half_width})")
    if not batches:
        raise ValueError("nothing to measure: the split has no examples")
    totals = [num_samples] if half_width is None else _doubled(FIRST_DRAWS, num_samples)
    finished: list[_Draws[BatchT]] = []
    with evaluating(model, seed):
        going = [_Draws.none(model, batch, device) for batch in batches]
        for total in totals:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                going = _shared_out(going, total, model, device, rows_at_once)
            found = _summary([*finished, *going])
            if half_width is None or found.half_width <= half_width:
                break
            is_tight = found.is_tight(half_width)
            finished += _where(is_tight, going)
            going = _where(~is_tight, going)
    return found


def _doubled(first: int, last: int) -> Iterator[int]:
    total = first
    while total < last:
        yield total
        total *= 2
    yield last


@dataclass(frozen=True)
class _Draws(Generic[BatchT]):
    """The examples of a batch, their posteriors on the device, and the log weights of S draws of each on the CPU."""

    batch: BatchT
    q: Distribution
    log_weight: Float[Tensor, "S B"]

    @classmethod
    def none(cls, model: LatentModel[BatchT], batch: BatchT, device: torch.device) -> "_Draws[BatchT]":
        return cls(batch, model.posterior(batch.to(device)), torch.empty(0, len(batch), dtype=torch.float64))

    def up_to(
        self, num_draws: int, model: LatentModel[BatchT], device: torch.device, rows_at_once: int, first: int
    ) -> "_Draws[BatchT]":
        """With as many draws more as there are lacking, a chunk of draws at a time.

        The processes decode a chunk each in turn, from number `first` on. The weights of what others decode are 0
        here, and its draws are made nevertheless, so that torch's noise goes on as in one process.
        """
        batch, missing = self.batch.to(device), num_draws - len(self.log_weight)
        at_once = max(1, rows_at_once // len(batch))
        chunks = [min(at_once, missing - done) for done in range(0, missing, at_once)]
        process, num_processes = place()
        drawn = [self.log_weight]
        for number, chunk in enumerate(chunks, first):
            if number % num_processes == process:
                drawn.append(model.terms(self.q, batch, chunk).log_weight.cpu().double())
            else:
                self.q.sample(torch.Size([chunk]))
                drawn.append(self.log_weight.new_zeros(chunk, len(batch)))
        return _Draws(self.batch, self.q, torch.cat(drawn))

    def take(self, rows: Int64[Tensor, " M"]) -> "_Draws[BatchT]":
        return _Draws(self.batch.take(rows), take(self.q, rows), self.log_weight[:, rows])


def _shared_out(
    draws: list[_Draws[BatchT]], num_draws: int, model: LatentModel[BatchT], device: torch.device, rows_at_once: int
) -> list[_Draws[BatchT]]:
    """All of them with so many draws, whose weights the processes have found together."""
    grown = [each.up_to(num_draws, model, device, rows_at_once, first) for first, each in enumerate(draws)]
    if place() != ALONE:
        add_up([each.log_weight[len(before.log_weight) :] for before, each in zip(draws, grown, strict=True)])
    return grown


def _where(chosen: Bool[Tensor, " N"], draws: list[_Draws[BatchT]]) -> list[_Draws[BatchT]]:
    """The chosen ones of a split's examples, without the batches that are left empty."""
    rows = [chosen[d.batch.indices.cpu()].nonzero()[:, 0] for d in draws]
    return [d.take(r) for d, r in zip(draws, rows, strict=True) if len(r) > 0]


def _summary(draws: Sequence[_Draws[BatchT]]) -> ImportanceWeighted:
    """What the draws of a whole split say, in the split's own order."""
    order = restore_order([d.batch for d in draws])
    log_weights = [d.log_weight for d in draws]
    require_finite(torch.cat([torch.isfinite(w).all(0) for w in log_weights])[order], "the importance weight")
    nll = torch.cat([_blockwise_nll(w, len(w)) for w in log_weights])[order]
    num_draws = torch.cat([torch.full((w.shape[1],), len(w)) for w in log_weights])[order]
    most = int(num_draws.max())
    return ImportanceWeighted(
        nll=nll,
        at_fewer=tuple(
            torch.cat([_blockwise_nll(w, len(w) // part) for w in log_weights])[order] for part in (2, 4, 8)
        ),
        effective_sample_size=torch.cat([(2 * w.logsumexp(0) - (2 * w).logsumexp(0)).exp() for w in log_weights])[
            order
        ],
        num_draws=num_draws,
        ladder={k: torch.cat([_blockwise_nll(w, k) for w in log_weights])[order] for k in LADDER if k < most}
        | {most: nll},
    )


def _blockwise_nll(log_weight: Float[Tensor, "S B"], size: int) -> Float[Tensor, " B"]:
    """The mean over disjoint blocks of `size` draws, from 1 to S, of −log of the mean weight."""
    size = min(max(size, 1), len(log_weight))
    blocks = torch.stack(log_weight[: len(log_weight) // size * size].split(size))
    return math.log(size) - blocks.logsumexp(1).mean(0)
