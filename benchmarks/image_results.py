"""The image baselines' table: train the recipes on MNIST, measure them, print target | ours | interval | source.

    python -m benchmarks.image_results --data mnist --out results vae iwae5 cvae

A run that is there already is resumed, so the script may be stopped at any time. `--epochs 40` or `364` takes another
cut of the 3,280 epochs; with a list, as in `--epochs 40 121`, one training of the longest is measured at each.
VaDE's table, over seeds and beside its baselines, is `benchmarks/clustering.py`'s.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpora.images import load_images
from imagevae.measuring import ImageMeasures, measure
from imagevae.session import open_trained_images
from imagevae.side import IMAGE
from latent.measures import Measured, mean_estimate
from latent.reporting import shown
from latent.training import Run, resume_run, start_run
from latent.training.checkpoints import list_checkpoints

BURDA = "Burda et al. 2016, table 1, 3,280 epochs, K = 5,000"


@dataclass(frozen=True)
class Case:
    """A recipe, what was published of it in full length, what is to be reached in a cut, and where that stands."""

    recipe: str
    published: str
    target: dict[int, float]  # NLL by epochs
    source: str


CASES = {
    "vae": Case("mnist_vae", "86.76", {121: 89.3, 364: 88.0}, BURDA),
    "iwae5": Case("mnist_iwae5", "85.54", {121: 88.0, 364: 86.8}, BURDA),
    "iwae50": Case("mnist_iwae50", "84.78", {}, BURDA),
    "vae2": Case("mnist_vae_2layer", "85.33", {}, BURDA),
    "iwae5-2": Case("mnist_iwae5_2layer", "83.89", {}, BURDA),
    "cvae": Case("mnist_cvae", "–", {}, "log p(x|y): below vae's"),
}
HEAD = ("run", "epochs", "published", "target", "NLL", "K, images", "−ELBO", "active units", "source")


def trained_run(name: str, data: Path, out: Path, epochs: int, overrides: list[str]) -> Run:
    """The case's run, trained to its end."""
    if (out / name / "config.yaml").exists():
        return resume_run(IMAGE, Run.open(out / name))
    path = IMAGE.folder / f"{CASES[name].recipe}.yaml"
    settings = [f"corpus.path={data}", f"train.epochs={epochs}", "train.keep_checkpoints=1000", *overrides]
    return start_run(IMAGE, IMAGE.load_recipe(path, settings), out / name)


def measured(run: Run, epochs: int, samples: int, limit: int | None) -> Measured[ImageMeasures]:
    """The run's figures at the checkpoint nearest to a number of epochs."""
    checkpoints, _ = list_checkpoints(run.path / "checkpoints")
    recipe = IMAGE.load_recipe(run.config_path)
    steps_per_epoch = math.ceil(len(load_images(recipe.corpus).train) / recipe.train.images_per_batch)
    nearest = min(checkpoints, key=lambda one: abs(one.step - epochs * steps_per_epoch))
    return measure(open_trained_images(run, nearest.path.name), "test", samples, limit, 0)


def row(name: str, epochs: int, found: ImageMeasures) -> str:
    """The case's line of the table."""
    case = CASES[name]
    bias = "unknown" if found.nll_bias is None else f"{found.nll_bias:.2f}"
    cells = (
        name,
        f"{epochs} ({found.checkpoint})",
        case.published,
        f"≤ {case.target[epochs]}" if epochs in case.target else "–",
        f"{shown(found.nll)}, bias {bias}",
        f"{found.num_samples:,}, {found.num_examples:,}",
        f"{-found.elbo.value:.2f}",
        shown(found.active_units, 0),
        case.source,
    )
    return f"| {' | '.join(cells)} |"


def differences(found: dict[tuple[str, int], Measured[ImageMeasures]]) -> Iterator[str]:
    """Every case less the first at the same number of epochs, paired over the same images."""
    first = next(iter(found))[0]
    for (name, epochs), one in found.items():
        if name != first and (first, epochs) in found:
            difference = one.per_example["nll"] - found[first, epochs].per_example["nll"]
            yield f"{name} − {first} at {epochs} epochs: {shown(mean_estimate(difference), 3)} nats"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["vae", "iwae5", "cvae"], metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's idx files")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--epochs", type=int, nargs="+", default=[121])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--limit", type=int, help="measure so many test images, chosen by seed 0")
    parser.add_argument("--no-training", action="store_true", help="measure what is there")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    found = {}
    for name in given.cases:
        if not given.no_training:
            start = time.monotonic()
            trained_run(name, given.data, given.out, max(given.epochs), given.overrides)
            print(f"{name}: trained in {time.monotonic() - start:,.0f} s", flush=True)
        for epochs in given.epochs:
            start = time.monotonic()
            found[name, epochs] = measured(Run.open(given.out / name), epochs, given.samples, given.limit)
            print(f"{name}, {epochs} epochs: measured in {time.monotonic() - start:,.0f} s", flush=True)
    print(f"\nMNIST, binarisation dynamic, seed 0, 95 % intervals over images\n\n| {' | '.join(HEAD)} |")
    print(f"|{'---|' * len(HEAD)}")
    for (name, epochs), one in found.items():
        print(row(name, epochs, one.figures))
    print("\n" + "\n".join(differences(found)))


if __name__ == "__main__":
    main()
