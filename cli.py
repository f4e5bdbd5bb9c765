"""The command line `textvae`: parse, load a recipe or a run, call one function, print. No logic.

Whatever imports torch is imported inside the commands, so that `textvae --help` answers at once.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textvae.options import (
    CHECKPOINT,
    JSON,
    RECIPE,
    RUN,
    SAMPLES,
    SEED,
    SET,
    chosen_decoding,
    generation_options,
    recipe_names,
    run_names,
)

if TYPE_CHECKING:
    from textvae.session import Trained


def opened(run: str, checkpoint: str = "best") -> "Trained":
    """The run by name, with a word on standard error about each damaged checkpoint."""
    from latent.training import find_run
    from textvae.session import open_trained

    trained = open_trained(find_run(run), checkpoint)
    for line in trained.warnings:
        click.echo(f"warning: {line}", err=True)
    return trained


def show_result(as_json: bool, value: Any, lines: Sequence[str]) -> None:
    """Print one JSON document, or lines."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="textvae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; before the verb.")
def cli(debug: bool) -> None:
    """Train sentence VAEs, see whether z is used, sample, reconstruct, interpolate.

    A recipe or run may be named by the unique beginning of its name; RUN may also be a path or `latest`.
    """


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@SET
def quickstart(out: Path, overrides: tuple[str, ...]) -> None:
    """Train a plain and a cured sentence VAE, compare them and write a report, in minutes."""
    from textvae.quickstart import run_quickstart

    run_quickstart(out, overrides, click.echo)


@cli.command()
@JSON
def recipes(as_json: bool) -> None:
    """List what can be trained."""
    from textvae.recipe import list_recipes

    found = list_recipes()
    rows = [{"name": recipe.name, "summary": recipe.summary} for recipe in found]
    show_result(as_json, rows, [f"{recipe.name:<18} {recipe.summary}" for recipe in found])


@cli.command()
@RECIPE
@SET
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe fully resolved, every default written out."""
    from textvae.recipe import dump_recipe, find_recipe, load_recipe

    click.echo(dump_recipe(load_recipe(find_recipe(recipe), overrides)), nl=False)


@cli.command()
@click.argument("recipe", required=False, shell_complete=recipe_names)
@SET
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; by default runs/RECIPE/TIME_sSEED.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and stop.")
def train(recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: str | None, dry_run: bool) -> None:
    """Train a RECIPE, or go on with a run that was stopped."""
    if (recipe is None) == (resume is None):
        raise click.UsageError("give a RECIPE, or --resume RUN")
    if resume is not None and (overrides or out or dry_run):
        raise click.UsageError("--resume goes on with the run as it is: it takes no --set, --out or --dry-run")
    from latent.training import find_run
    from latent.training.runs import new_run_path, runs_root
    from textvae.recipe import dump_recipe, find_recipe, load_recipe
    from textvae.training import resume_run, start_run

    if resume is not None:
        click.echo(resume_run(find_run(resume)).path)
        return
    path = find_recipe(str(recipe))
    loaded = load_recipe(path, overrides)
    if dry_run:
        click.echo(dump_recipe(loaded), nl=False)
        return
    click.echo(start_run(loaded, out or new_run_path(path.stem, loaded.train.seed, runs_root())).path)


@cli.command()
@RUN
@click.option("--split", default="test", show_default=True, help="train, valid or test.")
@click.option("--samples", type=SAMPLES, default=100, show_default=True, help="Importance samples of each sentence.")
@click.option("--half-width", type=float, help="Stop drawing where the NLL is known within so many nats.")
@click.option("--limit", type=click.IntRange(min=2), help="Measure so many sentences of the split, chosen by seed.")
@click.option(
    "--full", is_flag=True, help="Also samples of the prior against the corpus, and interpolation smoothness."
)
@CHECKPOINT
@SEED
@JSON
def measure(
    run: str,
    split: str,
    samples: int,
    half_width: float | None,
    limit: int | None,
    full: bool,
    checkpoint: str,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a RUN: bound, KL, mutual information, active units, perplexity, use of z, with intervals."""
    from textvae.measuring import measure as measure_run
    from textvae.measuring import save_measures
    from textvae.tables import measured_lines

    trained = opened(run, checkpoint)
    found = measure_run(trained, split, samples, limit, seed, half_width=half_width, by_decoding=full)
    show_result(as_json, found.figures.as_dict(), measured_lines(trained.run.name, found.figures))
    save_measures(trained.run, found)


@cli.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=run_names)
@click.option("--split", default="test", show_default=True, help="train, valid or test.")
@click.option("--samples", type=SAMPLES, help="Measure again where K, the importance samples, is another.")
@click.option("--limit", type=click.IntRange(min=2), help="Measure again where the number of sentences is another.")
@click.option("--seed", type=click.IntRange(min=0), help="Measure again where the seed of the measuring is another.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report there: one page, nothing beside it.")
@click.option("--csv", is_flag=True, help="Print CSV instead of tables; --json goes before it.")
@JSON
def compare(runs: tuple[str, ...], html: Path | None, csv: bool, as_json: bool, **asked: Any) -> None:
    """Put RUNS side by side: paired differences from the first, seeds pooled, what may not be compared."""
    from latent.training import find_run
    from textvae.comparison_report import run_comparison
    from textvae.comparison_tables import as_dict, comparison_lines, csv_text

    found = run_comparison(
        [find_run(run) for run in runs],
        num_samples=asked.pop("samples"),
        report=html,
        say=lambda line: click.echo(line, err=True),
        **asked,
    )
    show_result(as_json, as_dict(found), [csv_text(found).rstrip("\n")] if csv else comparison_lines(found))


@cli.command()
@RUN
@click.option("-n", "num_samples", type=click.IntRange(1, 1_000_000), default=10, show_default=True)
@generation_options("sampling")
def sample(run: str, num_samples: int, checkpoint: str, seed: int, as_json: bool, **decoding: Any) -> None:
    """Print sentences from the prior."""
    from textvae.generation import sample as sample_run

    texts = sample_run(opened(run, checkpoint), num_samples, chosen_decoding(**decoding), seed)
    show_result(as_json, texts, texts)


@cli.command()
@RUN
@click.argument("texts", nargs=-1)
@click.option("--file", type=click.Path(path_type=Path), help="Take the lines of a file instead.")
@click.option("--from-sample", is_flag=True, help="Decode a draw of the posterior instead of its mean.")
@generation_options("greedy")
def reconstruct(run: str, texts: tuple[str, ...], file: Path | None, from_sample: bool, **options: Any) -> None:
    """Encode each of TEXTS and decode it again."""
    if bool(texts) == (file is not None):
        raise click.UsageError("give sentences, or --file FILE")
    from corpora import read_sentences
    from textvae.generation import reconstruct as reconstruct_texts

    given = read_sentences(file).sentences if file else list(texts)
    checkpoint, seed, as_json = (options.pop(name) for name in ("checkpoint", "seed", "as_json"))
    trained = opened(run, checkpoint)
    found = reconstruct_texts(trained, given, chosen_decoding(**options), seed=seed, from_sample=from_sample)
    pairs = list(zip(given, found, strict=True))
    rows = [{"text": text, "reconstruction": back} for text, back in pairs]
    show_result(as_json, rows, [f"{text}\n  → {back}" for text, back in pairs])


@cli.command()
@RUN
@click.argument("first")
@click.argument("last")
@click.option("--steps", type=click.IntRange(2, 10_000), default=7, show_default=True, help="Points, ends included.")
@click.option("--path", type=click.Choice(["linear", "slerp"]), default="linear", show_default=True)
@generation_options("greedy")
def interpolate(run: str, first: str, last: str, steps: int, path: str, **options: Any) -> None:
    """Walk from the sentence FIRST to the sentence LAST through z."""
    from textvae.generation import interpolate as walk

    checkpoint, seed, as_json = (options.pop(name) for name in ("checkpoint", "seed", "as_json"))
    found = walk(opened(run, checkpoint), first, last, steps, path, chosen_decoding(**options), seed)
    points = [{"position": p.position, "text": p.text, "is_repeat": p.is_repeat} for p in found]
    show_result(
        as_json,
        {"first": first, "last": last, "kind": path, "path": points},
        [f"{p.position:.2f}  {p.text}{'  (the same)' if p.is_repeat else ''}" for p in found],
    )


@cli.command()
@RUN
@click.option("--file", required=True, type=click.Path(path_type=Path), help="UTF-8, one sentence a line.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@CHECKPOINT
def encode(run: str, file: Path, out: Path, checkpoint: str) -> None:
    """Write the posterior of each line of a file to Parquet: line, text, mean, standard deviation."""
    from textvae.generation import encode_file

    texts = encode_file(opened(run, checkpoint), file, out)
    click.echo(f"{len(texts.sentences):,} sentences, {texts.num_empty:,} empty lines skipped → {out}")


@cli.group()
def corpus() -> None:
    """Look at a recipe's corpus, or prepare it."""


@corpus.command()
@RECIPE
@SET
@JSON
def stats(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Sentences, tokens, lengths, vocabulary, unknown words, duplicates and overlap of a RECIPE's corpus."""
    from corpora import corpus_statistics, load_splits
    from textvae.recipe import find_recipe, load_recipe
    from textvae.tables import corpus_table, table_lines

    found = corpus_statistics(load_splits(load_recipe(find_recipe(recipe), overrides).corpus))
    show_result(as_json, found, table_lines(corpus_table(found)))


@corpus.command()
@RECIPE
@SET
def prepare(recipe: str, overrides: tuple[str, ...]) -> None:
    """Tokenise a RECIPE's corpus into the cache, so that training starts at once."""
    from corpora import load_splits
    from textvae.recipe import find_recipe, load_recipe

    splits = load_splits(load_recipe(find_recipe(recipe), overrides).corpus)
    click.echo(f"{len(splits.train):,} / {len(splits.valid):,} / {len(splits.test):,} sentences ready")


def main() -> None:
    """Run the command line: exit status 0 done, 1 failed, 2 wrong call, 130 interrupted."""
    debug = "--debug" in sys.argv[1:2]
    try:
        cli(prog_name="textvae", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        click.echo(f"error: {error.format_message()}{hint}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo(str(error.__cause__ or error) or "interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
        if debug:
            raise
        shown = str(error).strip().splitlines() or [type(error).__name__]
        click.echo("error: " + "\n".join(shown[:2]), err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
