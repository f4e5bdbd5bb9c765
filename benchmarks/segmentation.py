"""The table of segmentation: baseline, GSNN, CVAE, hybrid and a CVAE trained at three scales, on horses or on birds.

    python -m benchmarks.segmentation --data weizmann_horses --out results
    python -m benchmarks.segmentation --corpus cub --data FOLDER --out results

A run that is there already is resumed and a measuring that is stored is not made again, so the script may be stopped at
any time; the table of all that is there is printed, and written to OUT/segmentation_CORPUS.md, after every run.
Masks that were learned from photographs alone stand below it, the layered VAE's at its own size, with those that
nothing was learned for: all foreground, an ellipse in the middle, the clusters of each photograph's colours and
positions, and the layered VAE's own mixture fitted to each photograph by itself.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from benchmarks.structured import measured
from corpora.images import Images, load_images
from imagevae.form import ImageForm
from imagevae.layers import LayeredLikelihood, centred_logits, cosines
from imagevae.measuring import ImageMeasures
from imagevae.models import LayeredVaeConfig
from imagevae.recipe import ImageRecipe
from imagevae.segmentation import overlap
from imagevae.side import IMAGE
from latent.measures import Measured, mean_estimate
from latent.reporting import shown
from latent.reporting.tables import negated
from latent.training import Run, resume_run, start_run


@dataclass(frozen=True)
class Method:
    """The recipe CORPUS_…, and what is changed of it."""

    recipe: str
    overrides: tuple[str, ...] = ()


METHODS = {
    "baseline": Method("baseline"),
    "GSNN": Method("cvae", ("model.recognition=false",)),  # whose bound is the GSNN's objective, in one pass
    "CVAE": Method("cvae"),
    "hybrid": Method("cvae", ("objective+={kind: hybrid, bound_share: 0.5}",)),
    "multiscale": Method("cvae", ("model.coarser_scales=2",)),
}
LAYERED = "unsupervised"
HEAD = (
    "method",
    "foreground IoU: prior mean",
    "averaged",
    "best of 50",
    "pixels right: prior mean",
    "NLL by draws of the prior",
    "NLL by importance sampling",
    "−ELBO",
    "calibration error",
    "checkpoint",
)
DIFFERENCES = {"foreground_iou_at_prior_mean": 1, "foreground_iou_of_averaged": 1, "nll_from_prior": -1, "nll": -1}


def recipe_of(name: str, given: argparse.Namespace) -> ImageRecipe:
    """The method's recipe on the given data."""
    own = (f"train.seed={given.seed}", *given.overrides)
    if name == LAYERED:  # of photographs of any corpus
        corpus = "masks" if given.corpus == "horses" else given.corpus
        settings = (f"corpus={{kind: {corpus}, path: {given.data}, size: 64}}", *own)
        return IMAGE.load_recipe(IMAGE.folder / "horses_unsupervised.yaml", settings)
    method = METHODS[name]
    settings = (f"corpus.path={given.data}", *method.overrides, *own)
    return IMAGE.load_recipe(IMAGE.folder / f"{given.corpus}_{method.recipe}.yaml", settings)


def trained_run(name: str, given: argparse.Namespace) -> Run:
    """The method's run, trained to its end."""
    path = given.out / f"{given.corpus}_{name}_s{given.seed}"
    if (path / "config.yaml").exists():
        return resume_run(IMAGE, Run.open(path))
    return start_run(IMAGE, recipe_of(name, given), path)


def measured_in_full(run: Run, samples: int, limit: int | None) -> Measured[ImageMeasures]:
    """The run's figures, with every column of its test images: of those stored already `measured` reads but some."""
    found = measured(run, samples, limit)
    table = pq.read_table(run.path / "measures" / "test.parquet")
    columns = {name: torch.tensor(table.column(name).to_numpy()) for name in table.column_names}
    return replace(found, per_example=columns)


def row(name: str, found: Measured[ImageMeasures]) -> str:
    """The method's line of the table."""
    figures = found.figures
    conditional = figures.conditional
    assert conditional is not None
    masks = conditional.masks
    assert masks is not None
    cells = (
        name,
        shown(masks.foreground_iou_at_prior_mean, 4),
        shown(masks.foreground_iou_of_averaged, 4),
        shown(masks.foreground_iou_of_best, 4),
        shown(conditional.accuracy_at_prior_mean, 4),
        f"{shown(figures.nll, 0)}, exact" if name == "baseline" else shown(conditional.nll_from_prior, 0),
        "as left" if name in ("baseline", "GSNN") else shown(figures.nll, 0),
        shown(negated(figures.elbo), 0),
        shown(masks.calibration_error, 4),
        figures.checkpoint,
    )
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, Measured[ImageMeasures]], corpus: str) -> str:
    """Every method that there is, and by how much it beats the baseline over the same images."""
    one = next(iter(found.values())).figures
    lines = [
        f"corpus {corpus}, {one.num_examples:,} test images, S = {one.num_samples:,}, nats per image, 95 % intervals "
        "over images",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(row(name, each) for name, each in found.items()),
        "",
    ]
    for name, each in found.items():
        if name != "baseline" and "baseline" in found:
            gains = {
                column: mean_estimate(sign * (each.per_example[column] - found["baseline"].per_example[column]))
                for column, sign in DIFFERENCES.items()
            }
            told = (f"{column} {shown(gain, 4 if 'iou' in column else 0)}" for column, gain in gains.items())
            lines.append(f"{name} better than the baseline, paired: {', '.join(told)}")
    return "\n".join(lines)


def ellipse(height: int, width: int, share: float) -> Bool[np.ndarray, "H W"]:
    """In the middle, with axes in proportion to the sides, over a share of the image."""
    down, across = np.mgrid[:height, :width]
    squared = ((down + 0.5) / height - 0.5) ** 2 + ((across + 0.5) / width - 0.5) ** 2
    found: Bool[np.ndarray, "H W"] = squared * np.pi <= share
    return found


def clusters(photograph: Float[np.ndarray, "C H W"], method: str) -> Bool[np.ndarray, "H W"]:
    """Two clusters of the pixels' colours and positions, each value with unit variance; foreground is the one that has
    less of the image's border."""
    channels, height, width = photograph.shape
    values = np.concatenate([photograph, *(np.mgrid[:height, :width][:, None] / height)])
    values = values.reshape(channels + 2, -1).T
    values = (values - values.mean(0)) / (values.std(0) + 1e-6)
    model = KMeans(2, n_init=3, random_state=0) if method == "k-means" else GaussianMixture(2, random_state=0)
    labels = model.fit_predict(values).reshape(height, width)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    found: Bool[np.ndarray, "H W"] = labels != round(border.mean())
    return found


def fitted_layers(photographs: Float[np.ndarray, "N C H W"], num_steps: int = 15) -> Bool[np.ndarray, "N P"]:
    """Where the foreground is likelier in the mixture of `horses_unsupervised`, fitted to each photograph by EM.

    π is the ellipse, which stays; colours and scales of the layers are weighted least squares, with a little ridge.
    """
    config, (_, channels, height, width) = LayeredVaeConfig(), photographs.shape
    form = ImageForm(channels=channels, height=height, width=width, class_names=())
    turned = LayeredLikelihood(form).turn @ torch.from_numpy(photographs).float().flatten(2)
    ellipse = centred_logits(form, config.foreground_share, config.sharpness).flatten()
    bases = [
        torch.einsum("ha,wb->hwab", cosines(height, waves), cosines(width, waves)).reshape(height * width, -1)
        for waves in (config.background_waves, config.foreground_waves)
    ]
    logits = ellipse.expand(len(photographs), -1)
    for _ in range(num_steps):
        weights = torch.sigmoid(-logits), torch.sigmoid(logits)
        behind, front = (fitted_density(turned, weight, basis) for weight, basis in zip(weights, bases, strict=True))
        logits = ellipse + front - behind
    return (logits > 0).numpy()


def fitted_density(
    x: Float[torch.Tensor, "N C P"], weight: Float[torch.Tensor, "N P"], basis: Float[torch.Tensor, "P K"]
) -> Float[torch.Tensor, "N P"]:
    """The log-density of each place, up to a constant, under the layer that fits the weighted places best."""
    products = torch.einsum("np,pk,pl->nkl", weight, basis, basis) + 0.5 * torch.eye(basis.shape[1])
    location = (torch.linalg.solve(products, torch.einsum("np,pk,ncp->nkc", weight, basis, x)).mT) @ basis.T
    squared = (x - location).square()
    variance = (squared * weight.unsqueeze(1)).sum(-1, keepdim=True) / weight.sum(-1).clamp(min=1)[:, None, None]
    variance = variance.clamp(min=4e-4)
    density: Float[torch.Tensor, "N P"] = -0.5 * (squared / variance + variance.log()).sum(1)
    return density


def untrained(train: Images, test: Images) -> dict[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]]:
    """By name the foreground IoU of each test image, as it is and by the better assignment, chosen by the truth."""
    assert test.context is not None
    truth = torch.from_numpy(test.levels[:, 0] >= 128).flatten(1)
    _, height, width = test.shape
    share = float(train.mean.mean())  # of the training masks: more than a method without masks knows
    found = {
        "all foreground": np.ones((len(test), height, width), dtype=bool),
        f"ellipse over {share:.2f} of the image": np.tile(ellipse(height, width, share), (len(test), 1, 1)),
        **{
            f"{method} on colour and position": np.stack([clusters(each / 255, method) for each in test.context])
            for method in ("k-means", "GMM")
        },
        "two layers of each photograph, by EM": fitted_layers(test.context / 255).reshape(len(test), height, width),
    }
    overlaps = {name: torch.from_numpy(masks).flatten(1) for name, masks in found.items()}
    return {
        name: (
            overlap(masks, truth).foreground_iou.numpy(),
            torch.maximum(overlap(masks, truth).foreground_iou, overlap(~masks, truth).foreground_iou).numpy(),
        )
        for name, masks in overlaps.items()
    }


def untrained_table(train: Images, test: Images) -> str:
    """What masks are worth that nothing was learned for."""
    lines = ["", "| without training | foreground IoU | by the better of both assignments |", "|---|---|---|"]
    for name, (as_it_is, better) in untrained(train, test).items():
        cells = (shown(mean_estimate(torch.from_numpy(each)), 4) for each in (as_it_is, better))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def layered_table(found: Measured[ImageMeasures]) -> str:
    """What masks are worth that a model has of photographs alone."""
    layers = found.figures.layers
    assert layers is not None
    lines = ["", "| learned without masks | foreground IoU | better for the set | better for each image | NLL |"]
    lines.append(f"|{'---|' * 5}")
    for name, each in (("layered VAE at 64×64, E[m\\|x]", layers.assigned), ("its π alone", layers.mask)):
        cells = (shown(one, 4) for one in (each.as_it_is, each.better_of_set, each.better_of_each))
        lines.append(f"| {name} | {' | '.join(cells)} | {shown(found.figures.nll, 0)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "methods", nargs="*", default=[LAYERED, *METHODS], metavar="METHOD", help=", ".join([LAYERED, *METHODS])
    )
    parser.add_argument("--corpus", choices=["horses", "cub"], default="horses")
    parser.add_argument("--data", type=Path, required=True, help="the corpus' folder")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--samples", type=int, default=100, help="draws of z for each image, of either proposal")
    parser.add_argument("--limit", type=int, help="measure so many test images, chosen by seed 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    splits = load_images(recipe_of("baseline", given).corpus)
    simple = untrained_table(splits.train, splits.test)
    print(simple, flush=True)
    found: dict[str, Measured[ImageMeasures]] = {}
    for name in given.methods:
        start = time.monotonic()
        run = trained_run(name, given)
        print(f"{name}: trained in {time.monotonic() - start:,.0f} s", flush=True)
        figures = measured_in_full(run, given.samples, given.limit)
        if name == LAYERED:
            simple += "\n" + layered_table(figures)
        else:
            found[name] = figures
        text = (table(found, given.corpus) if found else "") + "\n" + simple
        print(text, flush=True)
        (given.out / f"segmentation_{given.corpus}.md").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
