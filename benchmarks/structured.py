"""The table of MNIST quadrants: baseline, CVAE, hybrid and GSNN, one to three quadrants given, each by its estimators.

    python -m benchmarks.structured --data mnist --out results --quadrants 1 2 3

A run that is there already is resumed and a measuring that is stored is not made again, so the script may be stopped at
any time; the table of all that is there is printed, and written to OUT/structured.md, after every run.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from imagevae.measuring import ImageMeasures, measure
from imagevae.run_kind import KIND
from imagevae.session import open_trained_images
from imagevae.side import IMAGE
from latent.measures import Measured, mean_estimate
from latent.reporting import shown
from latent.reporting.stored_measures import load_measures, save_measures
from latent.reporting.tables import negated
from latent.training import Run, resume_run, start_run

NETWORK = "network: {kind: mlp, hidden_sizes: [500, 500], activation: relu}"


@dataclass(frozen=True)
class Method:
    """What it changes of the recipe `mnist_quadrantN`, and its published test NLL by the quadrants given."""

    overrides: tuple[str, ...]
    from_prior: tuple[float, ...] = ()  # Sohn et al. 2015, table 1, by Monte Carlo; the baseline's own
    weighted: tuple[float, ...] = ()  # by importance sampling


METHODS = {
    "baseline": Method(
        (
            f"model={{kind: structured_baseline, {NETWORK}}}",
            "objective={kind: elbo}",
            "update={kind: joint}",
            "train.steps=4000",
            "train.checkpoint_steps=500",
            "train.learning_rate_schedule={kind: linear, start: 1.0, end: 0.05, steps: 4000}",
        ),
        (99.75, 62.18, 25.99),
    ),
    # without a recognition network the bound is the GSNN's objective
    "GSNN": Method(("model.recognition=false",), (99.82, 62.41, 26.29)),
    "CVAE": Method((), (68.39, 45.34, 20.96), (63.91, 44.73, 20.95)),
    "hybrid": Method(("objective+={kind: hybrid, bound_share: 0.5}",)),
}
HEAD = (
    "given",
    "method",
    "NLL by draws of the prior",
    "published",
    "NLL by importance sampling",
    "published",
    "−ELBO",
    "pixels right: prior mean",
    "averaged",
    "best of 50",
    "checkpoint",
)


def trained_run(name: str, quadrants: int, given: argparse.Namespace) -> Run:
    """The method's run, trained to its end."""
    path = given.out / f"quadrant{quadrants}_{name}_s{given.seed}"
    if (path / "config.yaml").exists():
        return resume_run(IMAGE, Run.open(path))
    settings = (f"corpus.path={given.data}", f"train.seed={given.seed}", *METHODS[name].overrides, *given.overrides)
    return start_run(IMAGE, IMAGE.load_recipe(IMAGE.folder / f"mnist_quadrant{quadrants}.yaml", settings), path)


def measured(run: Run, samples: int, limit: int | None) -> Measured[ImageMeasures]:
    """The run's figures on the test images: the stored ones where they were found with the same settings."""
    stored = load_measures(KIND, run, "test")
    trained = open_trained_images(run)
    num_images = min(limit or len(trained.splits.test), len(trained.splits.test))
    asked = (samples, num_images, trained.checkpoint.path.name)
    if stored and (stored.figures.num_samples, stored.figures.num_examples, stored.figures.checkpoint) == asked:
        return stored
    found = measure(trained, "test", samples, limit, 0)
    save_measures(run, found)
    return found


def row(quadrants: int, name: str, found: Measured[ImageMeasures]) -> str:
    """The method's line of the table."""
    figures, method = found.figures, METHODS[name]
    conditional = figures.conditional
    assert conditional is not None
    published = [f"{each[quadrants - 1]:.2f}" if each else "–" for each in (method.from_prior, method.weighted)]
    is_one_estimate = name in ("baseline", "GSNN")  # nothing to draw, or nothing but the prior to draw from
    cells = (
        str(quadrants),
        name,
        shown(conditional.nll_from_prior) if name != "baseline" else f"{shown(figures.nll)}, exact",
        published[0],
        "as left" if is_one_estimate else shown(figures.nll),
        published[1],
        shown(negated(figures.elbo)),
        shown(conditional.accuracy_at_prior_mean, 4),
        shown(conditional.accuracy_of_averaged, 4),
        shown(conditional.accuracy_of_best, 4),
        figures.checkpoint,
    )
    return f"| {' | '.join(cells)} |"


def table(found: dict[tuple[int, str], Measured[ImageMeasures]]) -> str:
    """Every method that there is, and by how many nats it beats its baseline over the same images."""
    one = next(iter(found.values())).figures
    lines = [
        f"MNIST quadrants, binarisation {one.binarisation}, {one.num_examples:,} test images, "
        f"S = {one.num_samples:,}, 95 % intervals over images",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(row(quadrants, name, each) for (quadrants, name), each in found.items()),
        "",
    ]
    for (quadrants, name), each in found.items():
        if name != "baseline" and (quadrants, "baseline") in found:
            gain = found[quadrants, "baseline"].per_example["nll"] - each.per_example["nll"]
            lines.append(f"{quadrants} given: {name} below the baseline by {shown(mean_estimate(gain))} nats, paired")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's idx files")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--quadrants", type=int, nargs="+", choices=[1, 2, 3], default=[1, 2, 3])
    parser.add_argument("--samples", type=int, default=100, help="draws of z for each image, of either proposal")
    parser.add_argument("--limit", type=int, help="measure so many test images, chosen by seed 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    found: dict[tuple[int, str], Measured[ImageMeasures]] = {}
    for quadrants in given.quadrants:
        for name in given.methods:
            start = time.monotonic()
            run = trained_run(name, quadrants, given)
            print(f"{quadrants}, {name}: trained in {time.monotonic() - start:,.0f} s", flush=True)
            found[quadrants, name] = measured(run, given.samples, given.limit)
            print(table(found), flush=True)
            (given.out / "structured.md").write_text(table(found) + "\n", "utf-8")


if __name__ == "__main__":
    main()
