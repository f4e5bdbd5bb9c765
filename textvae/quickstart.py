"""`textvae quickstart`: a plain and a cured sentence VAE on the embedded corpus, measured and shown side by side."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_tables import comparison_lines
from latent.reporting.report import write_report
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.run_report import RunReport
from latent.reporting.stored_measures import save_measures
from latent.training import ConfigError, start_run
from latent.training.runs import new_run_path, runs_root
from textvae.measuring import measure
from textvae.run_kind import KIND
from textvae.run_report import Spoken, describe_run
from textvae.session import open_trained
from textvae.side import TEXT

RECIPES = ("quickstart-plain", "quickstart-cured")
NUM_SAMPLES = 50  # importance samples: enough to see the difference, and soon done
LIMIT = 600  # test sentences
SEED = 0
ENDS = ("and he went up to the town .", "the children of israel did evil in the eyes of the lord .")
SENTENCES = (
    "and god said , let there be light .",
    "the king gave orders to his servants .",
    "have no fear , for i am with you .",
)


def run_quickstart(report: Path, overrides: Iterable[str], say: Callable[[str], None]) -> None:
    """Train both recipes, measure them, print them side by side and write the report.

    Raises ConfigError, before anything is trained, for a report that cannot be written and for another corpus.
    """
    overrides = tuple(overrides)
    if report.is_dir() or not report.absolute().parent.is_dir():
        raise ConfigError(f"--out {report}: a file in a folder that exists is needed")
    if any(override.partition("=")[0].partition(".")[0] == "corpus" for override in overrides):
        raise ConfigError("quickstart is on the embedded corpus; for your own text: textvae train lstm --set corpus.…")
    recipes = {name: TEXT.load_recipe(TEXT.folder / f"{name}.yaml", overrides) for name in RECIPES}
    measured: list[MeasuredRun] = []
    shown: list[RunReport[Spoken]] = []
    for name, recipe in recipes.items():
        start = time.monotonic()
        run = start_run(TEXT, recipe, new_run_path(name, recipe.train.seed, runs_root()))
        seconds = time.monotonic() - start
        trained = open_trained(run)
        found = measure(trained, "test", NUM_SAMPLES, LIMIT, SEED)
        save_measures(run, found)
        measured.append(MeasuredRun(KIND, name, run, trained.recipe, found))
        shown.append(describe_run(trained, name, found.figures, SENTENCES, ENDS, seconds))
    comparison = compare_measured(measured)
    say("\n".join(comparison_lines(comparison)))
    for one in shown:
        _print_sentences(one, say)
    notes = (f"Recipes {' and '.join(RECIPES)} on the Bible in Basic English; {NUM_SAMPLES} importance samples.",)
    write_report(report, "Does the sentence VAE use z?", shown, comparison, notes)
    say(f'\nreport: {report}\nnext: textvae interpolate latest "{ENDS[0]}" "{ENDS[1]}"')


def _print_sentences(one: RunReport[Spoken], say: Callable[[str], None]) -> None:
    say(f"\n{one.name}: {one.measures.verdict}")
    for reason in one.measures.verdict_reasons:
        say(f"  {reason}")
    say("samples")
    for text in one.content.samples:
        say(f"  {text}")
    say("reconstructions")
    for original, back in one.content.reconstructions:
        say(f"  {original}\n    → {back}")
    say("interpolation")
    for point in one.content.interpolation:
        say(f"  {point.position:.2f}  {point.text}{'  (the same)' if point.is_repeat else ''}")
