r"""Masks that nobody taught a model, against the true ones, which are read here and nowhere in training.

\[ \mathbb{E}[m_i|x] = \mathbb{E}_{q(z|x)}\, p(c_i = \text{foreground}\,|\,x_i, z) \]

is the probability that place i shows the foreground, given its own colour too; the mask before that colour is seen is
\(\mathbb{E}_{q(z|x)}\, \pi_i(z)\). Both by draws of q.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corpora.images import ImageBatch
from imagevae.models import LayeredVae
from imagevae.pictures import grid_png
from imagevae.segmentation import overlap
from latent.measures import Estimate, evaluating, mean_estimate

NUM_DRAWS = 20  # of z, for each image
HEADS = ("x", "E[m|x]", "π", "behind", "in front", "E[x|z]")


@dataclass(frozen=True, kw_only=True)
class LayerOverlap:
    """The foreground's IoU, mean over images, of masks from layers, which have no names.

    `as_it_is` takes the model's foreground for the foreground. By the truth, which no prediction has: `better_of_set`
    is of the assignment with the larger mean, one for all images, and `better_of_each` chooses for each image anew.
    """

    as_it_is: Estimate
    better_of_set: Estimate
    better_of_each: Estimate


@dataclass(frozen=True, kw_only=True)
class LayerMeasures:
    """Overlaps of E[m|x] above ½ with the masks, and of π above ½; `num_draws` of q for each image."""

    num_draws: int
    assigned: LayerOverlap
    mask: LayerOverlap


@dataclass(frozen=True)
class LayerMasks:
    """Probabilities of the foreground at each of P places, with the place's colour seen and without."""

    assigned: Float[Tensor, "N P"]
    mask: Float[Tensor, "N P"]


def layer_masks(model: LayeredVae, batch: ImageBatch, seed: int = 0, num_draws: int = NUM_DRAWS) -> LayerMasks:
    """E[m|x] and E[π|x]; of the batch only the photographs are read."""
    with evaluating(model, seed):
        q = model.posterior(batch)
        assigned = mask = batch.pixels.new_zeros(len(batch), model.likelihood.num_places)
        for _ in range(num_draws):  # one at a time: the outputs of all would fill the memory
            outputs = model.outputs(q.sample((1,)), batch)
            assigned = assigned + model.likelihood.assigned(outputs, batch.pixels.flatten(1))[0] / num_draws
            mask = mask + torch.sigmoid(model.likelihood.layers(outputs[0]).mask_logits) / num_draws
    return LayerMasks(assigned, mask)


def measure_layers(
    model: LayeredVae, batches: Sequence[ImageBatch], truth: Bool[Tensor, "N P"], device: torch.device, seed: int
) -> tuple[LayerMeasures, dict[str, Float[Tensor, " N"]]]:
    """The figures of a split, whose true masks are in the order of its images; and of each image."""
    found = [layer_masks(model, batch.to(device), seed) for batch in batches]
    parts = {
        "assigned": torch.cat([one.assigned.cpu() for one in found]),
        "mask": torch.cat([one.mask.cpu() for one in found]),
    }
    overlaps: dict[str, LayerOverlap] = {}
    columns: dict[str, Float[Tensor, " N"]] = {}
    for name, probabilities in parts.items():
        overlaps[name], of_images = layer_overlap(probabilities > 0.5, truth)
        columns |= {f"layer_iou_{name}_{key}": values for key, values in of_images.items()}
    return LayerMeasures(num_draws=NUM_DRAWS, **overlaps), columns


def layer_overlap(
    masks: Bool[Tensor, "N P"], truth: Bool[Tensor, "N P"]
) -> tuple[LayerOverlap, dict[str, Float[Tensor, " N"]]]:
    """The IoU by each assignment of the layers; also for each image."""
    as_it_is, exchanged = overlap(masks, truth).foreground_iou, overlap(~masks, truth).foreground_iou
    columns = {
        "as_it_is": as_it_is,
        "better_of_set": as_it_is if as_it_is.mean() >= exchanged.mean() else exchanged,
        "better_of_each": torch.maximum(as_it_is, exchanged),
    }
    return LayerOverlap(**{name: mean_estimate(values) for name, values in columns.items()}), columns


def layers_png(model: LayeredVae, batch: ImageBatch, seed: int = 0) -> bytes:
    """A row for each photograph: itself, E[m|x], π, both layers by themselves and E[x|z], these at E[z|x]."""
    masks = layer_masks(model, batch, seed)
    with evaluating(model, seed):
        outputs = model.outputs(model.posterior(batch).mean.unsqueeze(0), batch)[0]
        flat = (*model.likelihood.pictures(outputs), model.likelihood.mean(outputs))
    _, height, width = model.form.shape
    places = [mask.unflatten(1, (1, height, width)).expand_as(batch.pixels) for mask in (masks.assigned, masks.mask)]
    cells = [batch.pixels, *places, *(model.form.images(one) for one in flat)]
    return grid_png(torch.stack(cells, 1).flatten(0, 1).cpu(), len(cells), column_labels=HEADS)
