"""What a model says of the part of an image that it is not given: likelihoods by draws of the prior, and predictions.

Nothing here asks for q(z|x, y), which would see what is to be predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from corpora.images import ImageBatch
from imagevae.models import ImageModel
from imagevae.models.structured import completed
from imagevae.segmentation import MaskMeasures, MaskPredictions, compare_masks, measure_masks
from imagevae.side import rows_at_once
from latent.measures import Estimate, FromPrior, SplitMeasured, evaluating, importance_weighted, mean_estimate

NUM_PREDICTIONS = 50  # draws of z that predictions are made from
UNKNOWN = 0.5  # how a pixel that is not given is shown


@dataclass(frozen=True, kw_only=True)
class ConditionalMeasures:
    r"""What a model that is given `num_observed` values of each image says of the other `num_scored`, y.

    Where it is given another image, of `context_channels`, y is all of the image, a mask, of which `masks` tells more.
    `nll_from_prior` is \(-\log \frac1S \sum_s p(y|x, z_s)\) with z_s of the prior p(z|x), whereas `nll` has draws of
    q(z|x, y) and their weights, and −`elbo` neither. An accuracy is the share of y's pixels that a prediction, 1 where
    it is above ½, has right: at the prior's mean; of the mean of E[y|x, z_s] over `num_predictions` draws; of the best
    of these draws for each image, chosen by the truth.
    """

    num_observed: int
    num_scored: int
    context_channels: int = 0
    nll_from_prior: Estimate
    nll_from_prior_ladder: dict[str, Estimate]
    nll_from_prior_has_converged: bool
    effective_sample_size_from_prior: Estimate
    num_predictions: int
    accuracy_at_prior_mean: Estimate
    accuracy_of_averaged: Estimate
    accuracy_of_best: Estimate
    masks: MaskMeasures | None = None


@dataclass(frozen=True)
class Predictions:
    """Probabilities that each pixel is 1, and for each of N images the share of y's pixels that is right."""

    at_prior_mean: Float[Tensor, "N D"]
    averaged: Float[Tensor, "N D"]
    accuracy_at_prior_mean: Float[Tensor, " N"]
    accuracy_of_averaged: Float[Tensor, " N"]
    accuracy_of_best: Float[Tensor, " N"]
    masks: MaskPredictions | None  # where the images are masks

    @property
    def uncertainty(self) -> Float[Tensor, "N D"]:
        """4 p (1 − p) of the averaged probabilities: 1 where a pixel is as likely 0 as 1."""
        return 4 * self.averaged * (1 - self.averaged)


def predict(model: ImageModel, batch: ImageBatch, num_draws: int, seed: int = 0) -> Predictions:
    """Predict y from x alone: at the prior's mean, by averaged probabilities, and by the best of the draws."""
    with evaluating(model, seed):
        p = model.prior(batch)
        at_mean = probabilities(model, p.mean, batch)
        total, best = torch.zeros_like(at_mean), at_mean.new_zeros(len(batch))
        drawn_masks = []
        for _ in range(num_draws):
            drawn = probabilities(model, p.sample(), batch)
            total += drawn
            best = torch.maximum(best, accuracy(drawn, batch))
            if batch.scored is None:
                drawn_masks.append(drawn > 0.5)
    averaged, masks = total / num_draws, None
    if batch.scored is None:
        masks = compare_masks(at_mean, averaged, torch.stack(drawn_masks), batch.pixels.flatten(1) > 0.5)
    return Predictions(at_mean, averaged, accuracy(at_mean, batch), accuracy(averaged, batch), best, masks)


def draws(model: ImageModel, batch: ImageBatch, num_draws: int, seed: int = 0) -> Float[Tensor, "S N D"]:
    """E[y|x, z] at draws of p(z|x): the first of those that `predict` makes with the same seed."""
    with evaluating(model, seed):
        p = model.prior(batch)
        return torch.stack([probabilities(model, p.sample(), batch) for _ in range(num_draws)])


def probabilities(model: ImageModel, z: Float[Tensor, "N Z"], batch: ImageBatch) -> Float[Tensor, "N D"]:
    """That each pixel is 1, given x and z."""
    return model.likelihood.mean(model.outputs(z.unsqueeze(0), batch)[0])


def accuracy(predicted: Float[Tensor, "N D"], batch: ImageBatch) -> Float[Tensor, " N"]:
    """The share of y's pixels that are on one side of ½ together with their prediction."""
    is_right = (predicted > 0.5) == (batch.pixels.flatten(1) > 0.5)
    return batch.mean_over_scored(is_right.double())


def shown(batch: ImageBatch, y: Float[Tensor, "N D"] | None) -> Float[Tensor, "N _ H W"]:
    """x and the given y as one image on the CPU, or x in a field of grey; of another image as x, x or y by itself."""
    if batch.scored is None:
        assert batch.context is not None
        return batch.context.cpu() if y is None else y.unflatten(1, batch.pixels.shape[1:]).cpu()
    inside = torch.full_like(batch.pixels, UNKNOWN) if y is None else y.unflatten(1, batch.pixels.shape[1:])
    return completed(batch, inside).cpu()


def measure_conditional(
    model: ImageModel,
    batches: Sequence[ImageBatch],
    found: SplitMeasured,
    device: torch.device,
    num_samples: int,
    half_width: float | None,
    seed: int,
) -> tuple[ConditionalMeasures | None, dict[str, Float[Tensor, " N"]]]:
    """Likelihoods by draws of the prior, and predictions, of a split that has been measured; also for each image.

    Nothing where a model is given nothing of an image. One without a latent variable has one likelihood, which is
    exact.
    """
    if not model.form.has_context:
        return None, {}
    from_prior = found.weighted
    if model.latent_size > 0:
        from_prior = importance_weighted(
            FromPrior(model),
            batches,
            device,
            num_samples,
            half_width=half_width,
            rows_at_once=rows_at_once(model.form),
            seed=seed,
            dtype=found.rounding.dtype,
        )
    predicted = [predict(model, batch.to(device), NUM_PREDICTIONS, seed) for batch in batches]
    columns = {
        "nll_from_prior": from_prior.nll,
        "accuracy_at_prior_mean": torch.cat([one.accuracy_at_prior_mean.cpu() for one in predicted]),
        "accuracy_of_averaged": torch.cat([one.accuracy_of_averaged.cpu() for one in predicted]),
        "accuracy_of_best": torch.cat([one.accuracy_of_best.cpu() for one in predicted]),
    }
    masks = [one.masks for one in predicted if one.masks is not None]
    of_masks, more = measure_masks(masks, model.form.num_pixels, seed) if masks else (None, {})
    figures = ConditionalMeasures(
        num_observed=model.form.num_observed,
        num_scored=model.form.num_scored,
        nll_from_prior_ladder={str(k): mean_estimate(nll) for k, nll in from_prior.ladder.items()},
        nll_from_prior_has_converged=from_prior.has_converged,
        effective_sample_size_from_prior=mean_estimate(from_prior.effective_sample_size),
        context_channels=model.form.context_channels,
        num_predictions=NUM_PREDICTIONS,
        masks=of_masks,
        **{name: mean_estimate(values) for name, values in columns.items()},
    )
    return figures, columns | more
