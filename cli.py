"""The command line `textvae`: parse, load, call one function, print. What imports torch is imported in the commands."""

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latent.machine.launch import print_first
from latent.machine.memory import keep_freed_memory
from textvae import options
from textvae.exits import run_command_line

if TYPE_CHECKING:
    from latent.training import Run, Side
    from latent.training.console import Shown


def sides() -> "tuple[Side[Any], ...]":
    """The sides of the project."""
    from imagevae.side import IMAGE
    from textvae.side import TEXT

    return TEXT, IMAGE


def found_recipe(name: str, overrides: tuple[str, ...]) -> "tuple[Path, Side[Any], Any]":
    """A recipe's file, its side and the recipe itself."""
    from latent.training import find_recipe, side_of

    path = find_recipe(name, [side.folder for side in sides()])
    side = side_of(path, sides(), overrides)
    return path, side, side.load_recipe(path, overrides)


def found_run(name: str) -> "tuple[Run, Side[Any]]":
    """A run and its side."""
    from latent.training import find_run, side_of

    run = find_run(name)
    return run, side_of(run.config_path, sides())


def verbs(side: "Side[Any]", module: str = "verbs") -> Any:
    """What the verbs do on a side, or another module of it."""
    return importlib.import_module(f"{side.name}vae.{module}")


def call(context: click.Context, verb: str | None = None, **changed: Any) -> "Shown":
    """Open the RUN of a command, with a word on standard error about each damaged checkpoint, and do what it says."""
    given, side = found_run(context.params["run"])
    asked = options.options_of(side.name, context) | changed
    settings = {k: v for k, v in asked.items() if k not in ("run", "as_json")}
    trained = verbs(side).open_run(given, settings.pop("checkpoint"))
    for line in trained.warnings:
        print_first(f"warning: {line}", to_errors=True)
    shown: Shown = getattr(verbs(side), verb or str(context.command.name))(trained, **settings)
    return shown


def show_result(as_json: bool, shown: "Shown") -> None:
    """Print one JSON document, or lines."""
    print_first(json.dumps(shown.value, indent=1, ensure_ascii=False) if as_json else "\n".join(shown.lines))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="textvae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; before the verb.")
def cli(debug: bool) -> None:
    """Train sentence VAEs, see whether z is used, sample, reconstruct, interpolate.

    A recipe or run may be named by the unique beginning of its name; RUN may also be a path or `latest`.
    """
    keep_freed_memory()


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@options.SET
def quickstart(out: Path, overrides: tuple[str, ...]) -> None:
    """Train a plain and a cured sentence VAE, compare them and write a report, in minutes."""
    from textvae.quickstart import run_quickstart

    run_quickstart(out, overrides, click.echo)


@cli.command()
@options.JSON
def recipes(as_json: bool) -> None:
    """List what can be trained."""
    from latent.training import list_recipes
    from latent.training.console import Shown

    found = {each.name: each.summary for each in list_recipes([side.folder for side in sides()])}
    rows = [{"name": name, "summary": summary} for name, summary in found.items()]
    show_result(as_json, Shown(rows, [f"{name:<{max(map(len, found))}}  {summary}" for name, summary in found.items()]))


@cli.command()
@options.RECIPE
@options.SET
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe fully resolved, every default written out."""
    _, side, loaded = found_recipe(recipe, overrides)
    click.echo(side.schema.dump(loaded), nl=False)


@cli.command()
@click.argument("recipe", required=False, type=options.NAME, shell_complete=options.recipe_names)
@options.SET
@options.training_options
def train(
    recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: str | None, dry_run: bool, profile: bool
) -> None:
    """Train a RECIPE, or go on with a run that was stopped."""
    if (recipe is None) == (resume is None):
        raise click.UsageError("give a RECIPE, or --resume RUN")
    if resume is not None and (out or dry_run or profile):
        raise click.UsageError("--resume goes on with the run as it is: of the other options it takes --set alone")
    from latent.training import check_recipe, resume_run, start_run
    from latent.training.runs import new_run_path, runs_root

    if resume is not None:
        stopped, side = found_run(resume)
        trained = resume_run(side, stopped, overrides)
    else:
        path, side, loaded = found_recipe(str(recipe), overrides)
        if dry_run:
            check_recipe(side, loaded)
            click.echo(side.schema.dump(loaded), nl=False)
            return
        out = out or new_run_path(path.stem, loaded.train.seed, runs_root())
        trained = start_run(side, loaded, out, profile=profile)
    print_first(str(trained.path))


@cli.command()
@options.RUN
@options.measuring_options
@click.pass_context
def measure(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Measure a RUN: bound, KL, mutual information, active units, use of z, with intervals."""
    show_result(as_json, call(context))


@cli.command()
@options.RUN
@options.gap_options
@click.pass_context
def gaps(context: click.Context, /, checkpoint: str, as_json: bool, **_: Any) -> None:
    """Split what the bound of a RUN lacks of log p(x) into the encoder's part and the posterior family's."""
    every = checkpoint == options.EVERY
    show_result(as_json, call(context, "gaps_over_training", checkpoint="last") if every else call(context))


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=options.NAME, shell_complete=options.run_names)
@options.comparison_options
def compare(runs: tuple[str, ...], html: Path | None, csv: bool, as_json: bool, **asked: Any) -> None:
    """Put RUNS, or those of a sweep's table, side by side, with paired differences and seeds pooled."""
    from latent.reporting.comparison_report import run_comparison
    from latent.reporting.comparison_tables import as_dict, comparison_lines, csv_text
    from latent.reporting.run_kind import one_side
    from latent.reporting.sweep import runs_named
    from latent.training.console import Shown

    given = [found_run(run) for each in runs for run in runs_named(each)]
    found = run_comparison(
        verbs(one_side(given), "run_kind").KIND,
        [run for run, _ in given],
        num_samples=asked.pop("samples"),
        report=html,
        say=lambda line: click.echo(line, err=True),
        **asked,
    )
    lines = [csv_text(found).rstrip("\n")] if csv else comparison_lines(found)
    show_result(as_json, Shown(as_dict(found), lines))


@cli.command()
@options.RUN
@click.option("-n", "num_samples", type=click.IntRange(1, 1_000_000), default=10, show_default=True)
@options.OUT
@options.LABEL
@options.generation_options("sampling")
@click.pass_context
def sample(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Draw from the prior: print sentences, or write images."""
    show_result(as_json, call(context))


@cli.command()
@options.RUN
@options.predicting_options
@click.pass_context
def predict(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Write a mask for each photograph in a folder: a PNG of its own size."""
    show_result(as_json, call(context))


@cli.command()
@options.RUN
@click.argument("examples", nargs=-1)
@click.option("--file", type=click.Path(path_type=Path), help="Take the lines of a file instead.")
@click.option("--from-sample", is_flag=True, help="Decode a draw of the posterior instead of its mean.")
@options.OUT
@options.generation_options("greedy")
@click.pass_context
def reconstruct(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Encode each of EXAMPLES and decode it again: sentences, or the numbers of test images."""
    show_result(as_json, call(context))


@cli.command()
@options.RUN
@click.argument("first")
@click.argument("last")
@click.option("--steps", type=click.IntRange(2, 10_000), default=7, show_default=True, help="Points, ends included.")
@click.option("--path", type=click.Choice(["linear", "slerp"]), default="linear", show_default=True)
@options.OUT
@options.generation_options("greedy")
@click.pass_context
def interpolate(context: click.Context, /, as_json: bool, **_: Any) -> None:
    """Walk from FIRST to LAST through z: two sentences, or the numbers of two test images."""
    show_result(as_json, call(context))


@cli.command()
@options.RUN
@click.option("--file", required=True, type=click.Path(path_type=Path), help="UTF-8, one sentence a line.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@options.CHECKPOINT
def encode(run: str, file: Path, out: Path, checkpoint: str) -> None:
    """Write the posterior of each line of a file to Parquet: line, text, mean, standard deviation."""
    given, side = found_run(run)
    if side.name != "text":
        raise click.UsageError(f"{given.path}: encode reads sentences, and this is a run of the {side.name} side")
    show_result(False, verbs(side).encode(given, checkpoint, file, out))


@cli.command()
@options.RUN
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@options.CHECKPOINT
def export(run: str, out: Path, checkpoint: str) -> None:
    """Write a RUN as a folder to give away: weights, recipe, tokenizer, measures and a model card."""
    from latent.reporting.export import export_run

    given, side = found_run(run)
    click.echo(export_run(verbs(side, "run_kind").KIND, given, out, checkpoint))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.sweep_options
def sweep(file: Path, out: Path, workers: int, address: str | None) -> None:
    """Train and measure what a YAML FILE lists: recipes, settings, seeds. Called again, it goes on."""
    from latent.reporting.cluster import pool_of
    from latent.reporting.sweep import read_sweep, run_sweep

    config, pool = read_sweep(file), pool_of(address, workers)
    kind_of = lambda run: verbs(found_run(str(run.path))[1], "run_kind").KIND  # noqa: E731
    table, num_failed = run_sweep(config, out, pool, found_recipe, kind_of, lambda line: click.echo(line, err=True))
    click.echo(table)
    sys.exit(1 if num_failed else 0)


@cli.group()
def corpus() -> None:
    """Look at a recipe's corpus, or prepare it."""


@corpus.command()
@options.RECIPE
@options.SET
@options.JSON
def stats(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """What a RECIPE's corpus holds: sizes, lengths, vocabulary, duplicates; or sizes, classes, pixels."""
    _, side, loaded = found_recipe(recipe, overrides)
    show_result(as_json, verbs(side).statistics(loaded))


@corpus.command()
@options.RECIPE
@options.SET
def prepare(recipe: str, overrides: tuple[str, ...]) -> None:
    """Tokenise a RECIPE's corpus into the cache, so that training starts at once."""
    _, side, loaded = found_recipe(recipe, overrides)
    show_result(False, verbs(side).prepare(loaded))


def main() -> None:
    """Run the command line; the exit status is told in textvae/exits.py."""
    run_command_line(cli)


if __name__ == "__main__":
    main()
