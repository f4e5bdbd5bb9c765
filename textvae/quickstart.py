"""`textvae quickstart`: a plain and a cured sentence VAE on the embedded corpus, measured and shown side by side."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from latent.training import Run
from latent.training.runs import new_run_path, runs_root
from textvae.decoding import Greedy, Sampling
from textvae.generation import interpolate, reconstruct, sample
from textvae.measuring import measure, save_measures
from textvae.recipe import find_recipe, load_recipe
from textvae.report import RunReport, write_report
from textvae.session import open_trained
from textvae.tables import measures_table, table_lines
from textvae.training import start_run

RECIPES = ("quickstart-plain", "quickstart-cured")
NUM_SAMPLES = 50  # importance samples: enough to see the difference, and soon done
LIMIT = 1000  # test sentences
ENDS = ("and he went up to the town .", "the children of israel did evil in the eyes of the lord .")
SENTENCES = (
    "and god said , let there be light .",
    "the king gave orders to his servants .",
    "have no fear , for i am with you .",
)


def run_quickstart(report: Path, overrides: Iterable[str], say: Callable[[str], None]) -> None:
    """Train both recipes, measure them, print them side by side and write the report."""
    recipes = {name: load_recipe(find_recipe(name), overrides) for name in RECIPES}
    shown: list[RunReport] = []
    for name, recipe in recipes.items():
        start = time.monotonic()
        run = start_run(recipe, new_run_path(name, recipe.train.seed, runs_root()))
        shown.append(_show(name, run, time.monotonic() - start))
    say("\n".join(table_lines(measures_table({one.name: one.measures for one in shown}))))
    for one in shown:
        _print_sentences(one, say)
    notes = (f"Recipes {' and '.join(RECIPES)} on the Bible in Basic English; {NUM_SAMPLES} importance samples.",)
    write_report(report, "Does the sentence VAE use z?", shown, notes)
    say(f'\nreport: {report}\nnext: textvae interpolate latest "{ENDS[0]}" "{ENDS[1]}"')


def _show(name: str, run: Run, seconds: float) -> RunReport:
    """Measure a run and let it speak."""
    trained = open_trained(run)
    measured = measure(trained, num_samples=NUM_SAMPLES, limit=LIMIT)
    save_measures(run, measured)
    return RunReport(
        name=name,
        metrics=tuple(run.metrics()),
        measures=measured.figures,
        samples=tuple(sample(trained, 8, Sampling())),
        reconstructions=tuple(zip(SENTENCES, reconstruct(trained, SENTENCES, Greedy()), strict=True)),
        interpolation=tuple(interpolate(trained, *ENDS, 7, "linear", Greedy())),
        seconds=seconds,
    )


def _print_sentences(one: RunReport, say: Callable[[str], None]) -> None:
    say(f"\n{one.name}: {one.measures.verdict}")
    for reason in one.measures.verdict_reasons:
        say(f"  {reason}")
    say("samples")
    for text in one.samples:
        say(f"  {text}")
    say("reconstructions")
    for original, back in one.reconstructions:
        say(f"  {original}\n    → {back}")
    say("interpolation")
    for point in one.interpolation:
        say(f"  {point.position:.2f}  {point.text}{'  (the same)' if point.is_repeat else ''}")
