"""Everything that the terms of the bound say of a model on a split: what text and images are both measured by."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from latent.bound import BatchT, LatentModel
from latent.measures.collapse import active_units, marginal_kl, mutual_information
from latent.measures.importance import ImportanceWeighted, importance_weighted
from latent.measures.intervals import Estimate, mean_estimate, quantile_estimate
from latent.measures.refinement import RefinedFigures, Refinement, refine_split
from latent.measures.rounding import Precision, Rounding, choose_rounding
from latent.measures.split import SplitTerms, encode_split
from latent.measures.verdict import WITHOUT_Z, judge

KL_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class BoundMeasures:
    """What a run is worth on a split. Nats per example, but for counts and shares.

    `num_samples` is K, the most importance samples of an example; with `half_width` fewer were drawn where they were
    enough. `nll_precision` is that of the decoder's products in the importance weights, and `nll_rounding` what it
    moved the NLL by. `examples_digest` names the examples: figures of other ones may not be compared. All are of the
    encoder's own posteriors; `refined` holds what these became by steps of their own, where they were asked for.
    """

    split: str
    examples_digest: str
    num_examples: int
    num_samples: int
    half_width: float | None
    seed: int
    checkpoint: str
    elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    kl_per_dimension: tuple[float, ...]
    kl_quantiles: dict[str, Estimate]
    mutual_information: Estimate
    mutual_information_ceiling: float
    mutual_information_is_at_ceiling: bool
    marginal_kl: Estimate
    active_units: Estimate
    active_units_at_0_001: int
    active_units_at_0_1: int
    nll: Estimate
    nll_ladder: dict[str, Estimate]
    nll_bias: float | None
    nll_has_converged: bool
    nll_precision: str
    nll_rounding: float
    effective_sample_size: Estimate
    total_draws: int
    shuffled_gain: Estimate
    prior_gain: Estimate
    verdict: str
    verdict_reasons: tuple[str, ...]
    verdict_advice: tuple[str, ...]
    refined: RefinedFigures | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: each figure an object with `value`, `low` and `high`; what is not finite is null."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


MeasuresT = TypeVar("MeasuresT", bound=BoundMeasures)


@dataclass(frozen=True)
class Measured(Generic[MeasuresT]):
    """The figures of a split, and what stands behind them for each of its N examples, in nats where it is no count."""

    figures: MeasuresT
    per_example: dict[str, Float[Tensor, " N"]]


@dataclass(frozen=True)
class SplitMeasured:
    """One measuring of a split's N examples: their terms and their importance-weighted likelihoods.

    `refined` has the same of posteriors that were refined, and how they were, where they were.
    """

    terms: SplitTerms
    weighted: ImportanceWeighted
    rounding: Rounding
    refined: "tuple[Refinement, SplitMeasured] | None" = None

    @property
    def per_example(self) -> dict[str, Float[Tensor, " N"]]:
        """What stands behind the figures for each example, in nats."""
        return {
            "elbo": self.terms.elbo,
            "reconstruction": self.terms.reconstruction,
            "kl": self.terms.kl,
            "nll": self.weighted.nll,
            **({} if self.refined is None else self._refined_columns(self.refined[1])),
        }

    def _refined_columns(self, refined: "SplitMeasured") -> dict[str, Float[Tensor, " N"]]:
        return {f"refined_{name}": column for name, column in refined.per_example.items()}

    def figures(self, shuffled_gain: Estimate, prior_gain: Estimate, seed: int) -> dict[str, Any]:
        """The members of `BoundMeasures` that the examples and what z is worth to the decoder give."""
        return self._of_z(shuffled_gain, prior_gain, seed) | self._of_bound() | {"refined": self._of_refined()}

    def _of_refined(self) -> RefinedFigures | None:
        """How good is it with posteriors of each example's own?"""
        if self.refined is None:
            return None
        refinement, after = self.refined
        return RefinedFigures.of(refinement, (self.terms, self.weighted), (after.terms, after.weighted))

    def _of_z(self, shuffled_gain: Estimate, prior_gain: Estimate, seed: int) -> dict[str, Any]:
        """Is z used?"""
        information = mutual_information(self.terms.posterior, self.terms.z)
        marginal = marginal_kl(self.terms, information).estimate
        units = active_units(self.terms.posterior.mean.cpu(), seed)
        has_z = self.terms.z.shape[1] > 0
        verdict = judge(information.estimate, units.count, shuffled_gain, marginal) if has_z else WITHOUT_Z
        return {
            "mutual_information": information.estimate,
            "mutual_information_ceiling": information.ceiling,
            "mutual_information_is_at_ceiling": information.is_at_ceiling,
            "marginal_kl": marginal,
            "active_units": units.count,
            "active_units_at_0_001": units.count_at_0_001,
            "active_units_at_0_1": units.count_at_0_1,
            "shuffled_gain": shuffled_gain,
            "prior_gain": prior_gain,
            "verdict": verdict.name,
            "verdict_reasons": verdict.reasons,
            "verdict_advice": verdict.advice,
        }

    def _of_bound(self) -> dict[str, Any]:
        """How good is the bound?"""
        terms, weighted = self.terms, self.weighted
        per_dimension = terms.kl_per_dimension
        return {
            "elbo": mean_estimate(terms.elbo),
            "reconstruction": mean_estimate(terms.reconstruction),
            "kl": mean_estimate(terms.kl),
            "kl_per_dimension": () if per_dimension is None else tuple(per_dimension.double().mean(0).tolist()),
            "kl_quantiles": {f"{share:g}": quantile_estimate(terms.kl, share) for share in KL_QUANTILES},
            "nll": weighted.estimate,
            "nll_ladder": {str(k): mean_estimate(nll) for k, nll in weighted.ladder.items()},
            "nll_bias": weighted.bias if math.isfinite(weighted.bias) else None,
            "nll_has_converged": weighted.has_converged,
            "nll_precision": self.rounding.precision,
            "nll_rounding": self.rounding.bias,
            "effective_sample_size": mean_estimate(weighted.effective_sample_size),
            "total_draws": weighted.total_draws,
        }


def measure_split(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    device: torch.device,
    num_samples: int,
    *,
    half_width: float | None,
    rows_at_once: int,
    seed: int,
    precision: Precision = "auto",
    refinement: Refinement | None = None,
) -> SplitMeasured:
    """Encode a split in float32, and weigh its draws in `precision` (`choose_rounding`).

    With a `refinement` the same is done once more with refined posteriors, beside it, with the same noise and in the
    precision that was chosen for the encoder's. A model without a latent variable has no draws to weigh: its
    likelihoods, in float32, are the exact ones. Raises as `encode_split`, `importance_weighted` and `refine_split` do.
    """
    refined = None if refinement is None else refine_split(model, batches, device, refinement, seed)
    terms = encode_split(model, batches, device, seed)
    if model.latent_size == 0:
        return SplitMeasured(terms, ImportanceWeighted.exact(terms.reconstruction.double()), Rounding("fp32", 0.0))
    rounding = choose_rounding(model, batches, terms, device, precision)

    def weighed(model: LatentModel[BatchT]) -> ImportanceWeighted:
        return importance_weighted(
            model,
            batches,
            device,
            num_samples,
            half_width=half_width,
            rows_at_once=rows_at_once,
            seed=seed,
            dtype=rounding.dtype,
        )

    own = SplitMeasured(terms, weighed(model), rounding)
    if refinement is None or refined is None:
        return own
    after = SplitMeasured(encode_split(refined, batches, device, seed), weighed(refined), rounding)
    return replace(own, refined=(refinement, after))


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
