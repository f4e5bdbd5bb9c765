r"""Predicted masks against the truth: overlaps, calibration, and whether draws differ as they should.

\[ \mathrm{IoU}(s, y) = \frac{|s \cap y|}{|s \cup y|}, \quad d = 1 - \mathrm{IoU}, \quad
   \mathrm{GED}^2 = 2\,\mathbb{E}\,d(s, y) - \mathbb{E}\,d(s, s') \]

with s and s' independent predictions; y, of which there is one, has no distance from itself. References: Sohn et al.
2015, section 5.2 (IoU of the foreground, image by image); Kohl et al. 2018, "A Probabilistic U-Net for Segmentation of
Ambiguous Images", equation 4 (generalised energy distance); Naeini et al. 2015, "Obtaining Well Calibrated
Probabilities Using Bayesian Binning", equation 3 (expected calibration error).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent.measures import Estimate, bootstrap_estimate, mean_estimate, ratio_estimate

NUM_BINS = 15  # of equal width between 0 and 1, for the calibration error


@dataclass(frozen=True, kw_only=True)
class MaskMeasures:
    """Predicted masks of a split; `at_prior_mean`, `of_averaged` and `of_best` as in `ConditionalMeasures`.

    `foreground_iou` is the mean over images of the foreground's IoU, 0 where truth and prediction have none;
    `mean_iou` that of the mean of foreground's and background's, of those which the image or its prediction has;
    `jaccard` is of the pixels of all images together. `calibration_error` is that of the averaged probabilities of
    foreground over all pixels, in `num_bins` bins. Of masks drawn, 1 where a draw's probability is above ½,
    `distance_to_truth` is E d(s, y), `diversity` E d(s, s') over pairs of different draws, and `energy_distance` GED²;
    there two masks without foreground are at distance 0.
    """

    foreground_iou_at_prior_mean: Estimate
    foreground_iou_of_averaged: Estimate
    foreground_iou_of_best: Estimate
    mean_iou_at_prior_mean: Estimate
    mean_iou_of_averaged: Estimate
    jaccard_at_prior_mean: Estimate
    jaccard_of_averaged: Estimate
    calibration_error: Estimate
    num_bins: int
    energy_distance: Estimate
    distance_to_truth: Estimate
    diversity: Estimate


@dataclass(frozen=True)
class Overlap:
    """Pixels that are foreground in both masks and in either, and the same of the background."""

    intersection: Float[Tensor, "*N 2"]
    union: Float[Tensor, "*N 2"]

    @property
    def foreground_iou(self) -> Float[Tensor, "*N"]:
        """0 where neither mask has foreground."""
        return self.intersection[..., 0] / self.union[..., 0].clamp(min=1)

    @property
    def mean_iou(self) -> Float[Tensor, "*N"]:
        """The mean over foreground and background, of those that either mask has."""
        return (self.intersection / self.union.clamp(min=1)).sum(-1) / (self.union > 0).sum(-1)

    @property
    def distance(self) -> Float[Tensor, "*N"]:
        """1 − IoU of the foreground; 0 where neither mask has any."""
        return torch.where(self.union[..., 0] > 0, 1 - self.foreground_iou, 0.0)


@dataclass(frozen=True)
class MaskPredictions:
    """What is known of the predictions of each of N masks."""

    at_prior_mean: Overlap
    of_averaged: Overlap
    iou_of_best: Float[Tensor, " N"]
    distance_to_truth: Float[Tensor, " N"]
    diversity: Float[Tensor, " N"]
    reliability: Float[Tensor, "N bins 2"]  # sums over the pixels in a bin: of the probability, of the truth

    @property
    def energy_distance(self) -> Float[Tensor, " N"]:
        """GED² of each image."""
        return 2 * self.distance_to_truth - self.diversity


def overlap(ours: Bool[Tensor, "*N D"], theirs: Bool[Tensor, "*N D"]) -> Overlap:
    """Of two masks of D pixels each."""
    both = torch.stack([(ours & theirs).sum(-1), (~ours & ~theirs).sum(-1)], -1).double()
    return Overlap(both, both.new_tensor(ours.shape[-1]) - both.flip(-1))


def compare_masks(
    at_prior_mean: Float[Tensor, "N D"],
    averaged: Float[Tensor, "N D"],
    drawn: Bool[Tensor, "S N D"],
    truth: Bool[Tensor, "N D"],
) -> MaskPredictions:
    """Hold probabilities of foreground, and two masks or more that were drawn, against the true masks."""
    assert len(drawn) > 1
    of_draws = overlap(drawn, truth.expand_as(drawn))
    return MaskPredictions(
        at_prior_mean=overlap(at_prior_mean > 0.5, truth),
        of_averaged=overlap(averaged > 0.5, truth),
        iou_of_best=of_draws.foreground_iou.max(0).values,
        distance_to_truth=of_draws.distance.mean(0),
        diversity=torch.stack([diversity(masks) for masks in drawn.unbind(1)]),
        reliability=reliability(averaged, truth),
    )


def diversity(masks: Bool[Tensor, "S D"]) -> Float[Tensor, ""]:
    """The mean of d over the S (S − 1) pairs of different masks: unbiased for two independent draws."""
    counts = masks.float()
    intersection = (counts @ counts.T).double()  # exact: counts are below 2²⁴
    size = intersection.diagonal()
    union = size + size.unsqueeze(1) - intersection
    distance = torch.where(union > 0, 1 - intersection / union.clamp(min=1), 0.0)
    return distance.sum() / (len(masks) * (len(masks) - 1))


def reliability(probabilities: Float[Tensor, "N D"], truth: Bool[Tensor, "N D"]) -> Float[Tensor, "N bins 2"]:
    """For each image and each of NUM_BINS bins, the sums over its pixels of probability and truth."""
    bins = (probabilities.double() * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    sums = torch.zeros(*truth.shape[:1], NUM_BINS, 2, dtype=torch.float64, device=truth.device)
    values = torch.stack([probabilities.double(), truth.double()], -1)
    return sums.scatter_add_(1, bins.unsqueeze(-1).expand(-1, -1, 2), values)


def calibration_error(sums: Float[Tensor, "N bins 2"], num_pixels: int, seed: int = 0) -> Estimate:
    r"""\(\sum_b \frac{n_b}{n} |\bar p_b - \bar y_b|\) over the pixels of N images; bootstrapped over images.

    The n_b cancel, which leaves the sums' differences. It cannot be below 0 and is too large by the noise in the bins.
    """
    differences = (sums[..., 0] - sums[..., 1]) / num_pixels
    return bootstrap_estimate(lambda weights: (weights @ differences.to(weights)).abs().sum(-1), len(sums), seed)


def measure_masks(
    predicted: Sequence[MaskPredictions], num_pixels: int, seed: int
) -> tuple[MaskMeasures, dict[str, Float[Tensor, " N"]]]:
    """The figures of a split of masks of `num_pixels`, and those that are means over images for each of these."""
    at_mean = _joined([one.at_prior_mean for one in predicted])
    averaged = _joined([one.of_averaged for one in predicted])
    columns = {
        "foreground_iou_at_prior_mean": at_mean.foreground_iou,
        "foreground_iou_of_averaged": averaged.foreground_iou,
        "foreground_iou_of_best": torch.cat([one.iou_of_best for one in predicted]).cpu(),
        "mean_iou_at_prior_mean": at_mean.mean_iou,
        "mean_iou_of_averaged": averaged.mean_iou,
        "energy_distance": torch.cat([one.energy_distance for one in predicted]).cpu(),
        "distance_to_truth": torch.cat([one.distance_to_truth for one in predicted]).cpu(),
        "diversity": torch.cat([one.diversity for one in predicted]).cpu(),
    }
    figures = MaskMeasures(
        jaccard_at_prior_mean=ratio_estimate(at_mean.intersection[:, 0], at_mean.union[:, 0]),
        jaccard_of_averaged=ratio_estimate(averaged.intersection[:, 0], averaged.union[:, 0]),
        calibration_error=calibration_error(torch.cat([one.reliability for one in predicted]).cpu(), num_pixels, seed),
        num_bins=NUM_BINS,
        **{name: mean_estimate(values) for name, values in columns.items()},
    )
    return figures, columns


def _joined(parts: Sequence[Overlap]) -> Overlap:
    return Overlap(torch.cat([one.intersection for one in parts]).cpu(), torch.cat([one.union for one in parts]).cpu())
