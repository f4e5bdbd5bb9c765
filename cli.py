"""The command line `textvae`: parse, load a recipe or a run, call one function, print. No logic.

Whatever imports torch is imported inside the commands, so that `textvae --help` answers at once.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from textvae.decoding import Decoding
    from textvae.session import Trained

SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
SEED = click.option("--seed", default=0, show_default=True, help="Seed of the random numbers.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
CHECKPOINT = click.option("--checkpoint", default="best", show_default=True, help="best, last or step-000500.")


def generation_options(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every verb that decodes."""
    temperature, share = click.FloatRange(min=1e-6, max=1e3), click.FloatRange(0, 1, min_open=True)
    options = (
        click.option(
            "--decoding", type=click.Choice(["greedy", "sampling", "beam"]), default=default, show_default=True
        ),
        click.option("--temperature", type=temperature, default=1.0, show_default=True, help="Of sampling."),
        click.option("--top-k", type=click.IntRange(min=0), default=0, help="Sample from the k likeliest; 0: all."),
        click.option("--top-p", type=share, default=1.0, show_default=True, help="Sample from the nucleus of mass p."),
        click.option("--beam-size", type=click.IntRange(min=1), default=5, show_default=True),
        CHECKPOINT,
        SEED,
        JSON,
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def chosen_decoding(decoding: str, temperature: float, top_k: int, top_p: float, beam_size: int) -> "Decoding":
    """The strategy that the options name."""
    from latent.training import Schema
    from textvae.decoding import Decoding

    settings: dict[str, dict[str, Any]] = {
        "greedy": {},
        "sampling": {"temperature": temperature, "top_k": top_k, "top_p": top_p},
        "beam": {"size": beam_size},
    }
    schema: Schema[Decoding] = Schema(Decoding)
    return schema.validate({"kind": decoding, **settings[decoding]}, f"--decoding {decoding}")


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
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Train sentence VAEs, see whether z is used, sample, reconstruct, interpolate.

    A recipe or run may be named by the unique beginning of its name; RUN may also be a path or `latest`.
    """
    context.obj = debug


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
@click.argument("recipe")
@SET
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe fully resolved, every default written out."""
    from textvae.recipe import dump_recipe, find_recipe, load_recipe

    click.echo(dump_recipe(load_recipe(find_recipe(recipe), overrides)), nl=False)


@cli.command()
@click.argument("recipe", required=False)
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
@click.argument("run")
@click.option("--split", default="test", show_default=True, help="train, valid or test.")
@click.option("--samples", default=100, show_default=True, help="Importance samples for each sentence.")
@click.option("--limit", type=click.IntRange(min=2), help="Measure so many sentences of the split, chosen by seed.")
@CHECKPOINT
@SEED
@JSON
def measure(run: str, split: str, samples: int, limit: int | None, checkpoint: str, seed: int, as_json: bool) -> None:
    """Measure a RUN: bound, KL, mutual information, active units, perplexity, use of z, with intervals."""
    from textvae.measuring import measure as measure_run
    from textvae.measuring import save_measures
    from textvae.tables import measures_table, table_lines

    trained = opened(run, checkpoint)
    found = measure_run(trained, split, samples, limit, seed)
    save_measures(trained.run, found)
    show_result(as_json, found.figures.as_dict(), table_lines(measures_table({trained.run.name: found.figures})))


@cli.command()
@click.argument("run")
@click.option("-n", "num_samples", type=click.IntRange(min=1), default=10, show_default=True)
@generation_options("sampling")
def sample(run: str, num_samples: int, checkpoint: str, seed: int, as_json: bool, **decoding: Any) -> None:
    """Print sentences from the prior."""
    from textvae.generation import sample as sample_run

    texts = sample_run(opened(run, checkpoint), num_samples, chosen_decoding(**decoding), seed)
    show_result(as_json, texts, texts)


@cli.command()
@click.argument("run")
@click.argument("texts", nargs=-1)
@click.option("--file", type=click.Path(path_type=Path), help="Take the lines of a file instead.")
@click.option("--from-sample", is_flag=True, help="Decode a draw of the posterior instead of its mean.")
@generation_options("greedy")
def reconstruct(run: str, texts: tuple[str, ...], file: Path | None, from_sample: bool, **options: Any) -> None:
    """Encode each of TEXTS and decode it again."""
    if bool(texts) == (file is not None):
        raise click.UsageError("give sentences, or --file FILE")
    from textvae.generation import read_lines
    from textvae.generation import reconstruct as reconstruct_texts

    given = read_lines(file) if file else list(texts)
    checkpoint, seed, as_json = (options.pop(name) for name in ("checkpoint", "seed", "as_json"))
    trained = opened(run, checkpoint)
    found = reconstruct_texts(trained, given, chosen_decoding(**options), seed=seed, from_sample=from_sample)
    pairs = list(zip(given, found, strict=True))
    rows = [{"text": text, "reconstruction": back} for text, back in pairs]
    show_result(as_json, rows, [f"{text}\n  → {back}" for text, back in pairs])


@cli.command()
@click.argument("run")
@click.argument("first")
@click.argument("last")
@click.option("--steps", type=click.IntRange(min=2), default=7, show_default=True, help="Points, ends included.")
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
@click.argument("run")
@click.option("--file", required=True, type=click.Path(path_type=Path), help="UTF-8, one sentence a line.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@CHECKPOINT
def encode(run: str, file: Path, out: Path, checkpoint: str) -> None:
    """Write the posterior of each line of a file to Parquet: text, mean, standard deviation."""
    from textvae.generation import encode_file

    click.echo(f"{encode_file(opened(run, checkpoint), file, out):,} sentences → {out}")


@cli.group()
def corpus() -> None:
    """Look at a recipe's corpus, or prepare it."""


@corpus.command()
@click.argument("recipe")
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
@click.argument("recipe")
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
    except (ValueError, OSError, FloatingPointError) as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
