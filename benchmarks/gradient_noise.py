"""How the noise in the gradients of importance-weighted bounds grows with their draws, for a trained image VAE.

    textvae train digits_vae --set train.precision=fp32 --out RUN
    python -m benchmarks.gradient_noise RUN

Independent estimates of the gradient of one batch, as training would take them: |mean| / standard deviation of each
weight, averaged over those of the encoder and of the decoder (Rainforth et al. 2018, section 3). R estimates of a
gradient of 0 give √(2/πR), the floor below which nothing can be seen.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corpora.images import ImageBatch, image_evaluation_batches
from imagevae.session import TrainedImages, open_trained_images
from latent.bound import IwaeObjective
from latent.training import Run

BOUNDS: dict[str, dict[str, Any]] = {
    "IWAE": {},
    "IWAE, DReG": {"gradient": "dreg"},
    "MIWAE, 8 bounds": {"num_bounds": 8},
    "CIWAE, β 0.05": {"elbo_weight": 0.05},
}


def gradient(trained: TrainedImages, objective: IwaeObjective, batch: ImageBatch) -> Tensor:
    """One estimate, of all the weights in a row."""
    terms = trained.model(batch, objective.num_samples, path_gradient=objective.path_gradient)
    found = torch.autograd.grad(objective(terms, 0).value, list(trained.model.parameters()))
    return torch.cat([each.flatten() for each in found])


def signal_to_noise(estimates: Iterator[Tensor]) -> Tensor:
    """|mean| / standard deviation of each weight, by sums."""
    first = next(estimates)
    count, total, squares = (
        1,
        torch.zeros_like(first, dtype=torch.float64),
        torch.zeros_like(first, dtype=torch.float64),
    )
    for each in estimates:  # from the first one's values, so that the squares do not cancel
        count, total, squares = count + 1, total + (each - first), squares + (each - first).double().square()
    variance = (squares - total.square() / count) / (count - 1)
    return ((first + total / count).abs() / variance.sqrt()).nan_to_num(0.0)


def main() -> None:
    """Print a row for each bound and number of draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 4, 16, 64], help="k, of each bound")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=400)
    given = parser.parse_args()
    trained = open_trained_images(Run.open(given.run))
    batch = next(image_evaluation_batches(trained.splits.test, given.images))
    known = {id(weight) for weight in trained.model.encoder_parameters(batch)}
    of_encoder = torch.cat(
        [torch.full((weight.numel(),), id(weight) in known) for weight in trained.model.parameters()]
    )
    print(f"{given.repeats} estimates for {given.images} images; floor {math.sqrt(2 / math.pi / given.repeats):.3f}\n")
    print("| bound | k | encoder | decoder |\n|---|---|---|---|")
    for name, settings in BOUNDS.items():
        for k in given.draws:
            objective = IwaeObjective(num_samples=k * settings.get("num_bounds", 1), **settings)
            torch.manual_seed(0)
            ratio = signal_to_noise(gradient(trained, objective, batch) for _ in range(given.repeats))
            print(f"| {name} | {k} | {ratio[of_encoder].mean():.3f} | {ratio[~of_encoder].mean():.3f} |", flush=True)


if __name__ == "__main__":
    main()
