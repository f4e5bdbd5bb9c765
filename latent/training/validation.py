"""What a training looks at on the validation examples, shared out over its processes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent.bound import Batch, LatentModel
from latent.measures import (
    SplitTerms,
    active_units,
    encode,
    evaluating,
    gain_over,
    joined,
    mutual_information,
    score,
    shuffled_z,
)
from latent.training.processes import gather_rows, of_the_first
from latent.training.state import TrainState


def validate(state: TrainState, batches: Sequence[Batch]) -> dict[str, float]:
    """The bound with KL weight 1 and the use of z on the validation examples, in nats per example.

    Of W processes number r encodes and scores the batches r, r + W, …, then all have the values of each example. The
    noise of a batch is a function of its number, so that the figures do not hang on W. Raises NotFiniteError.
    """
    accelerator, model = state.accelerator, state.model
    own = _share(batches, accelerator.process_index, accelerator.num_processes)
    places = torch.cat([torch.arange(0), *(batch.indices for number, batch in own if number < len(batches))])
    num_examples = sum(map(len, batches))

    def of_all(rows: Float[Tensor, "M *rest"]) -> Float[Tensor, "N *rest"]:
        return gather_rows(accelerator, rows[: len(places)], places, num_examples)

    with state.layout.opened(model):
        with accelerator.autocast():
            parts = []
            for number, batch in own:
                with evaluating(model, seed=number):
                    parts.append(encode(model, batch.to(accelerator.device)))
            split = joined(parts).change_rows(of_all).checked()
            # one example alone has no other one's z to be given
            scores, other_z = [], shuffled_z(split) if len(split) > 1 else split.z
            for number, batch in own:
                with evaluating(model, seed=number):
                    scores.append(score(model, batch.to(accelerator.device), other_z))
            gain = gain_over(split, of_all(torch.cat(scores)).cpu())
        return of_the_first(accelerator, lambda: _figures(model, split, gain))


def _share(batches: Sequence[Batch], process: int, num_processes: int) -> list[tuple[int, Batch]]:
    """A process's batches with their numbers, as many as any other's: the last once more where there is no other."""
    num_each = math.ceil(len(batches) / num_processes)
    numbers = range(process, num_each * num_processes, num_processes)
    return [(number, batches[min(number, len(batches) - 1)]) for number in numbers]


def _figures(model: LatentModel[Any], split: SplitTerms, gain: Float[Tensor, " N"]) -> dict[str, float]:
    found = {"elbo": split.elbo, "reconstruction": split.reconstruction, "kl": split.kl}
    figures = {name: value.double().mean().item() for name, value in found.items()}
    information = mutual_information(split.posterior, split.z)
    figures["mutual_information"] = information.estimate.value
    figures["mutual_information_ceiling"] = information.ceiling
    figures["active_units"] = active_units(split.posterior.mean.cpu()).count.value
    figures |= model.validation_figures(split.posterior)
    return figures | {"shuffled_gain": gain.double().mean().item()} if len(split) > 1 else figures
