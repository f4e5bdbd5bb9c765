"""The remedies' table: a language model, the plain VAE and the remedies on the Penn Treebank, otherwise alike.

    python -m benchmarks.remedies --data ../shared/data --out remedies --epochs 20 --seeds 0 1 2

Rows stand in the order of their importance, and are trained and measured in it, seed after seed. After each run
`OUT/remedies.md` and `OUT/remedies.png` are written anew, of all runs in OUT that have been measured; so the script may
be stopped at any time and called again. Options that make another training want another `--out`.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.remedy_rows import BASELINE, ROWS, row_recipe
from latent.reporting import shown
from latent.reporting.comparability import differing_settings
from latent.reporting.comparison import Comparison, Difference, compare_measured
from latent.reporting.comparison_plots import plot_rate_distortion
from latent.reporting.pooling import Group
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import load_measures, save_measures
from latent.reporting.tables import negated
from latent.training import Run, resume_run, start_run
from latent.training.checkpoints import list_checkpoints
from latent.training.files import write_atomically
from textvae.measuring import Measures, measure
from textvae.recipe import TextRecipe
from textvae.run_kind import KIND
from textvae.session import open_trained
from textvae.side import TEXT, read_material

SECONDS = "training_seconds.json"
HEAD = (
    "row", "seeds", "−ELBO", "IW NLL", "its difference from the LM", "PPL", "KL", "MI", "active units",
    "shuffled-z gain", "BLEU", "verdict", "minutes",
)  # fmt: skip


@contextmanager
def timed(path: Path) -> Iterator[None]:
    """Add the time within to what the run's file says of the trainings before; an interrupted one counts."""
    start = time.monotonic()
    try:
        yield
    finally:
        if path.parent.is_dir():
            write_atomically(path, json.dumps(seconds_of(path) + time.monotonic() - start))


def seconds_of(path: Path) -> float:
    """The time spent on a training."""
    return float(json.loads(path.read_text())) if path.is_file() else 0.0


def trained_run(recipe: TextRecipe, path: Path) -> Run:
    """The row's run, trained to its end. Raises ValueError for a folder with another training."""
    if not (path / "config.yaml").exists():
        with timed(path / SECONDS):
            return start_run(TEXT, recipe, path)
    run = Run.open(path)
    if others := other_settings(recipe, run):
        raise ValueError(f"{path}: holds a training with another {', '.join(others)}; choose another --out")
    good, _ = list_checkpoints(path / "checkpoints")
    if good and good[-1].step == recipe.train.steps:
        return run
    with timed(path / SECONDS):
        return resume_run(TEXT, run)


def other_settings(recipe: TextRecipe, run: Run) -> list[str]:
    """The keys in which a run is of another recipe, but for what was left open and resolved when the run began."""
    changed = differing_settings([recipe, TEXT.load_recipe(run.config_path)])
    open_keys = {f"train.{name}" for name in ("compile", "precision") if getattr(recipe.train, name) == "auto"}
    return [key for key in changed if key not in open_keys]


def measure_run(run: Run, checkpoint: str, given: argparse.Namespace) -> None:
    """Measure the run at a checkpoint, unless what it keeps was found in this way."""
    found, trained = load_measures(KIND, run, "test"), open_trained(run, checkpoint)
    if found is None or not as_asked(found.figures, given) or found.figures.checkpoint != trained.checkpoint.path.name:
        save_measures(run, measure(trained, "test", given.samples, given.limit, 0, half_width=given.half_width))


def as_asked(figures: Measures, given: argparse.Namespace) -> bool:
    """Whether they were found with the draws and on the sentences that are asked for."""
    asked = (given.samples, given.half_width, given.num_examples)
    return (figures.num_samples, figures.half_width, figures.num_examples) == asked


def line(group: Group, difference: Difference | None) -> str:
    """A row of the table: every figure with its interval over sentences, of several seeds their mean."""
    figures, num_seeds = group.figures, len(group.runs)
    spread = figures["nll"].over_seeds
    nll = shown(figures["nll"].estimate) + (f" (sd {spread.sd:.2f})" if spread else "")
    cells = (
        group.runs[0].name,
        ", ".join(map(str, group.seeds)),
        shown(negated(figures["elbo"].estimate)),
        nll,
        _difference(difference),
        shown(figures["ppl"].estimate, 1),
        *(shown(figures[name].estimate) for name in ("kl", "mutual_information")),
        shown(figures["active_units"].estimate, 0),
        shown(figures["shuffled_gain"].estimate),
        shown(figures["bleu"].estimate, 1),
        ", ".join(dict.fromkeys(run.figures.verdict for run in group.runs)),
        f"{sum(seconds_of(run.run.path / SECONDS) for run in group.runs) / num_seeds / 60:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _difference(found: Difference | None) -> str:
    """Paired over sentences; of several seeds on both sides also Welch's interval."""
    if found is None:
        return "–"
    if found.reasons:
        return "not comparable"
    nll = found.estimates["nll"]
    is_clear = nll.low > 0 or nll.high < 0
    over = found.over_seeds.get("nll")
    seeds = f", seeds [{over.low:.2f}, {over.high:.2f}]" if over else ""
    return f"{shown(nll)}{' *' if is_clear else ''}{seeds}"


def table(found: Comparison, given: argparse.Namespace, steps: int) -> str:
    """The table in Markdown, and what its figures were found with."""
    differences: list[Difference | None] = [None, *found.differences]
    has_baseline = found.groups[0].runs[0].name == BASELINE
    rows = [
        line(*pair)
        for pair in zip(found.groups, differences if has_baseline else [None] * len(differences), strict=True)
    ]
    one = found.runs[0].figures
    basis = (
        f"Penn Treebank, word level, T = {one.tokens_per_sentence.value:.3f}, V = {one.vocabulary_size.value:,.0f}; "
        f"{one.num_examples:,} test sentences, K = {one.num_samples}, half-width {one.half_width}, seed 0; "
        f"{steps:,} steps ({given.epochs:g} epochs); --set {' '.join(given.overrides) or 'nothing'}. ± is the 95 % "
        "interval over sentences; * a paired difference whose interval excludes 0."
    )
    return "\n".join([basis, "", f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}", *rows]) + "\n"


def draw(found: Comparison, path: Path) -> None:
    """The rows on the rate–distortion plane, named above and below their points by turns: neighbours are near."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    points = [(group.figures["kl"].estimate, group.figures["reconstruction"].estimate) for group in found.groups]
    plot_rate_distortion(axes, points, [False] * len(points))
    named = zip([group.runs[0].name for group in found.groups], points, strict=True)
    for number, (name, (rate, distortion)) in enumerate(sorted(named, key=lambda each: each[1][0].value)):
        at = (5, 4 if number % 2 == 0 else -11)
        axes.annotate(name, (rate.value, distortion.value), at, textcoords="offset points", fontsize=8)
    axes.set_xlim(right=1.1 * axes.get_xlim()[1])
    FigureCanvasAgg(figure).print_png(path)


def stored_rows(given: argparse.Namespace, steps: int, steps_per_epoch: int) -> Iterator[MeasuredRun]:
    """Every run in the folder that is of this table and has been measured as asked for, row by row."""
    for name in ROWS:
        for path in sorted(given.out.glob(f"{name}_s*"), key=lambda one: int(one.name.rpartition("_s")[2])):
            run = Run.open(path)
            recipe, found = TEXT.load_recipe(run.config_path), load_measures(KIND, run, "test")
            wanted = row_recipe(name, given.data, steps, steps_per_epoch, recipe.train.seed, given.overrides)
            if found is not None and as_asked(found.figures, given) and not other_settings(wanted, run):
                yield MeasuredRun(KIND, name, run, recipe, found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ptb/")
    parser.add_argument("--out", type=Path, default=Path("remedies"))
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--half-width", type=float)
    parser.add_argument("--limit", type=int, help="measure so many test sentences, chosen by seed 0")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], help="of every row; STEPS is the number of steps"
    )
    given = parser.parse_args(arguments)
    probe = row_recipe(given.only[0], given.data, 100, 100, 0, given.overrides)
    material = read_material(probe, None)
    given.num_examples = min(given.limit or sys.maxsize, len(material.splits.test))
    steps_per_epoch = material.training_data().batches.num_batches
    steps = max(1, round(given.epochs * steps_per_epoch))
    try:
        for seed, name in itertools.product(given.seeds, [name for name in ROWS if name in given.only]):
            recipe = row_recipe(name, given.data, steps, steps_per_epoch, seed, given.overrides)
            run = trained_run(recipe, given.out / f"{name}_s{seed}")
            measure_run(run, ROWS[name].checkpoint, given)
            found = compare_measured(list(stored_rows(given, steps, steps_per_epoch)))
            written = table(found, given, steps)
            (given.out / "remedies.md").write_text(written, encoding="utf-8")
            draw(found, given.out / "remedies.png")
            print(f"{written}\n", flush=True)
    except KeyboardInterrupt:
        print(f"stopped; the table so far is {given.out / 'remedies.md'}; call again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
