"""The clustering table: VaDE of several seeds on MNIST beside simpler methods, each seed printed, then the medians.

    python -m benchmarks.clustering --data ../shared/data/mnist --out results --seeds 0 1 2

A run that is there already is resumed, so the script may be stopped at any time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from corpora.images import load_images
from imagevae.clusters import ClusterMeasures, agreement, k_means, measure_clusters, mixture, spectral, split_labels
from imagevae.generation import posterior_means
from imagevae.recipe import ImageRecipe
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import IMAGE
from latent.training import Run, resume_run, start_run
from latent.training.pretraining import PretrainedUpdate

SPECTRAL_POINTS = 5000
KEEP_ALL = "train.keep_checkpoints=1000"  # the one that ends the first stage is a baseline
HEAD = ("method", "seed", "split", "N", "ACC %", "NMI", "ARI")
Found = list[tuple[str, int, ClusterMeasures]]


def trained_run(recipe: ImageRecipe, path: Path) -> Run:
    """The run at `path`, trained to its end."""
    if (path / "config.yaml").exists():
        return resume_run(IMAGE, Run.open(path))
    return start_run(IMAGE, recipe, path)


def on_points(
    train: np.ndarray, test: np.ndarray, labels: Iterable[np.ndarray], seed: int, covariance: str, num_starts: int
) -> Found:
    """k-means and a mixture on points that stand for the images of both splits."""
    of_train, of_test = labels
    sizes = (10, 10)
    methods = {
        "k-means": k_means(train, test, sizes[0], seed),
        "GMM": mixture(train, test, sizes[0], seed, covariance, num_starts),
    }
    return [
        (name, seed, agreement(clusters, classes, sizes, split))
        for name, both in methods.items()
        for split, clusters, classes in zip(("train", "test"), both, (of_train, of_test), strict=True)
    ]


def on_pixels(settings: Iterable[str], seed: int) -> Found:
    """Simpler methods on grey levels: a diagonal mixture of one start, spectral clustering of some test images."""
    grey = IMAGE.load_recipe(IMAGE.folder / "mnist_vade.yaml", [*settings, "corpus.binarisation=grey"])
    splits = load_images(grey.corpus)
    of_train, of_test = splits.train.labels, splits.test.labels
    assert of_train is not None
    assert of_test is not None
    train, test = (images.levels.reshape(len(images), -1) / 255 for images in (splits.train, splits.test))
    rows = on_points(train, test, (of_train, of_test), seed, "diag", 1)
    part = np.random.default_rng(seed).permutation(len(test))[:SPECTRAL_POINTS]
    clusters = agreement(spectral(test[part], 10, seed), of_test[part], (10, 10), "test")
    return [(f"pixels, {name}", each, found) for name, each, found in [*rows, ("spectral", seed, clusters)]]


def on_means(trained: TrainedImages, name: str, seed: int) -> Found:
    """Simpler methods on posterior means."""
    train, test = (posterior_means(trained, split).double().numpy() for split in ("train", "test"))
    labels = (split_labels(trained, "train"), split_labels(trained, "test"))
    return [(f"{name} + {method}", each, f) for method, each, f in on_points(train, test, labels, seed, "full", 10)]


def measured(given: argparse.Namespace, seed: int) -> Iterator[tuple[str, int, ClusterMeasures]]:
    """Every method at one seed."""
    settings = [f"corpus.path={given.data}", KEEP_ALL, f"train.seed={seed}", *given.overrides]
    recipe = IMAGE.load_recipe(IMAGE.folder / "mnist_vade.yaml", settings)
    start = time.monotonic()
    run = trained_run(recipe, given.out / f"mnist_vade_s{seed}")
    print(json.dumps({"seed": seed, "seconds": round(time.monotonic() - start)}), flush=True)
    trained = open_trained_images(run)
    for split in ("train", "test"):
        found = measure_clusters(trained, split)
        run.write(f"measures/clusters-{split}.json", json.dumps(asdict(found), indent=1) + "\n")
        yield "VaDE", seed, found
    assert isinstance(trained.recipe.update, PretrainedUpdate)
    yield from on_means(open_trained_images(run, f"step-{trained.recipe.update.steps:06d}"), "AE", seed)
    if given.vae_epochs:
        network = "{kind: mlp, hidden_sizes: [500, 500, 2000], activation: relu}"
        plain = [f"model={{kind: vae, latent_size: 10, network: {network}}}", "update={kind: joint}"]
        steady = ["train.learning_rate_schedule={kind: constant}", f"train.epochs={given.vae_epochs}"]
        vae = IMAGE.load_recipe(IMAGE.folder / "mnist_vade.yaml", [*settings, *plain, *steady])
        yield from on_means(open_trained_images(trained_run(vae, given.out / f"mnist_vae_s{seed}")), "VAE", seed)
    yield from on_pixels(settings, seed)


def line(name: str, seed: str, found: list[ClusterMeasures]) -> str:
    """A line of the table: one seed with its intervals over images, or the median of several and their range."""
    cells = [name, seed, found[0].split, f"{found[0].num_images:,}"]
    for figure, factor, digits in (("accuracy", 100, 2), ("nmi", 1, 3), ("ari", 1, 3)):
        estimates = [getattr(each, figure) for each in found]
        value = statistics.median(estimate.value for estimate in estimates) * factor
        low = min(estimate.low if len(found) == 1 else estimate.value for estimate in estimates) * factor
        high = max(estimate.high if len(found) == 1 else estimate.value for estimate in estimates) * factor
        cells.append(f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's idx files")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--vae-epochs", type=int, default=20, help="of the VAE among the baselines; 0 leaves it out")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    rows: Found = []
    for seed in given.seeds:
        for row in measured(given, seed):
            rows.append(row)
            print(line(row[0], str(seed), [row[2]]), flush=True)
    print(
        f"\nseeds {given.seeds}; a seed's line has 95 % intervals over images, a median's line the range over seeds\n"
    )
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in dict.fromkeys(name for name, _, _ in rows):
        for split in ("train", "test"):
            of_name = [(seed, found) for each, seed, found in rows if each == name and found.split == split]
            if of_name:
                print("\n".join(line(name, str(seed), [found]) for seed, found in of_name))
                print(line(f"**{name}**", "median", [found for _, found in of_name]))


if __name__ == "__main__":
    main()
