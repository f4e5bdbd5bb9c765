"""Options and arguments that the verbs share, and their tab completion; nothing here imports torch until it is used."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from textvae.decoding import Decoding

Option = Callable[[Callable[..., None]], Callable[..., None]]
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")


class _Name(click.types.StringParamType):
    """What a recipe, a run or a checkpoint is called."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found: str = super().convert(value, param, ctx)
        if not found.strip():
            self.fail("it is empty; is a shell variable not set?", param, ctx)
        return found


class _Positive(click.FloatRange):
    """A number above 0, and finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


NAME = _Name()
POSITIVE = _Positive(min=0, min_open=True)


def recipe_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Tab completion of recipes, from the file names alone."""
    root = Path(__file__).parents[1]
    return sorted(path.stem for path in root.glob(f"*vae/recipes/{incomplete}*.yaml"))


def run_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Tab completion of runs: `latest`, and the folders below $TEXTVAE_RUNS or ./runs."""
    root = Path(os.environ.get("TEXTVAE_RUNS", "runs"))
    names = ["latest", *(str(path.parent.relative_to(root)) for path in sorted(root.glob("*/*/config.yaml")))]
    return [name for name in names if name.startswith(incomplete)]


RECIPE = click.argument("recipe", type=NAME, shell_complete=recipe_names)
RUN = click.argument("run", type=NAME, shell_complete=run_names)
SAMPLES = click.IntRange(1, 1_000_000)
SEEDS = click.IntRange(0, 2**63 - 1)
SEED = click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the random numbers.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
OUT = click.option("--out", type=click.Path(path_type=Path), help="Of an image run: the PNG to write.")
LABEL = click.option("--label", type=click.IntRange(min=0), help="Of a conditional image run: the class to draw.")
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the decoder's products in the NLL; auto takes bf16 where it is fast and within 0.02 nats of fp32.",
)
CHECKPOINT = click.option(
    "--checkpoint", type=NAME, default="best", show_default=True, help="best, last or step-000500."
)
EVERY = "all"


TRAINING = (
    click.option("--out", type=click.Path(path_type=Path), help="The run's folder; by default runs/RECIPE/TIME_sSEED."),
    click.option(
        "--resume", type=NAME, metavar="RUN", help="Go on with a run that was stopped; --set may lengthen it."
    ),
    click.option("--dry-run", is_flag=True, help="Check the recipe, print it resolved and stop."),
    click.option(
        "--profile", is_flag=True, help="Write where the time of steps 23 to 32 goes to the run's profile.txt."
    ),
)

SPLIT = click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
MEASURING = (
    SPLIT,
    click.option("--samples", type=SAMPLES, default=100, show_default=True, help="Importance samples of each example."),
    click.option("--half-width", type=POSITIVE, help="Stop drawing where the noise in the NLL is within so many nats."),
    PRECISION,
    click.option("--limit", type=click.IntRange(min=2), help="Measure so many examples of the split, chosen by seed."),
    click.option("--refine", type=click.IntRange(1, 1_000_000), help="Beside it, the bound of q refined by N steps."),
    click.option("--refine-from", type=click.Choice(["posterior", "prior"]), help="Where these begin.  [posterior]"),
    click.option("--refine-by", type=click.Choice(["adam", "natural"]), help="What steps these are.  [adam]"),
    click.option("--full", is_flag=True, help="Of text, also samples of the prior against the corpus, and smoothness."),
    CHECKPOINT,
    SEED,
    JSON,
)
COMPARISON = (
    SPLIT,
    click.option("--samples", type=SAMPLES, help="Measure again where K, the importance samples, is another."),
    click.option("--limit", type=click.IntRange(min=2), help="Measure again where the number of examples is another."),
    click.option("--seed", type=SEEDS, help="Measure again where the seed of the measuring is another."),
    click.option("--html", type=click.Path(path_type=Path), help="Write a report there: one page, nothing beside it."),
    click.option("--csv", is_flag=True, help="Print CSV instead of tables; --json goes before it."),
    JSON,
)
GAPS = (
    SPLIT,
    click.option("--limit", type=click.IntRange(min=2), default=100, show_default=True, help="So many examples of it."),
    click.option("--samples", type=SAMPLES, default=5000, show_default=True, help="Draws of each bound."),
    click.option("--steps", type=click.IntRange(min=1), default=3000, show_default=True, help="At most, towards q*."),
    click.option("--chains", type=click.IntRange(min=1), default=16, show_default=True, help="Of each example."),
    click.option("--temperatures", type=click.IntRange(min=1), default=500, show_default=True, help="Of each chain."),
    click.option(
        "--checkpoint",
        type=NAME,
        default="best",
        show_default=True,
        help=f"best, last, step-000500, or {EVERY}: the gaps over training, as a table and a picture.",
    ),
    SEED,
    JSON,
)
PREDICTING = (
    click.option("--images", required=True, type=click.Path(path_type=Path), help="A folder of photographs."),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder of the masks."),
    CHECKPOINT,
    SEED,
    JSON,
)

SWEEPING = (
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder of its runs and its table."),
    click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time."),
    click.option("--address", help="Of a Ray cluster, whose nodes share the trials and all see OUT."),
)

TEXT_ONLY = ("decoding", "temperature", "top_k", "top_p", "beam_size", "from_sample", "file")
OF_DECODING = {"temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "size": "--beam-size"}
IMAGE_ONLY = ("out", "label", "images")


def options_of(side: str, context: click.Context) -> dict[str, Any]:
    """The command's options that a run of this side takes. Raises UsageError for one that it does not take.

    A command that cannot do without such an option is not for the side.
    """
    foreign, other = (IMAGE_ONLY, "image") if side == "text" else (TEXT_ONLY, "text")
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in foreign or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if parameter.required:
            raise click.UsageError(
                f"{context.params['run']}: {context.info_name} needs a run of the {other} side, "
                f"and this is one of the {side} side"
            )
        raise click.UsageError(f"{parameter.opts[0]} is not for a run of the {side} side")
    return {name: value for name, value in context.params.items() if name not in foreign}


def generation_options(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every verb that decodes."""
    options = (
        click.option(
            "--decoding", type=click.Choice(["greedy", "sampling", "beam"]), default=default, show_default=True
        ),
        click.option("--temperature", type=float, help="Of sampling; below 1 plays safe."),
        click.option("--top-k", type=int, help="Sample from the k likeliest words."),
        click.option("--top-p", type=float, help="Sample from the likeliest words of mass p (the nucleus)."),
        click.option("--beam-size", type=int, help="Hypotheses kept by the beam, 100 at most."),
        CHECKPOINT,
        SEED,
        JSON,
    )

    return lambda command: _with(options, command)


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `train` beside --set."""
    return _with(TRAINING, command)


def measuring_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `measure`."""
    return _with(MEASURING, command)


def comparison_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `compare`."""
    return _with(COMPARISON, command)


def gap_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `gaps`."""
    return _with(GAPS, command)


def predicting_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `predict`."""
    return _with(PREDICTING, command)


def sweep_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `sweep`."""
    return _with(SWEEPING, command)


def _with(options: tuple[Option, ...], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def chosen_decoding(
    decoding: str, temperature: float | None, top_k: int | None, top_p: float | None, beam_size: int | None
) -> "Decoding":
    """The strategy that the options name; what is not given keeps the strategy's own default.

    Raises ConfigError for a setting that is out of range or belongs to another strategy.
    """
    from latent.training import ConfigError, Schema
    from textvae.decoding import Decoding

    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "size": beam_size}
    settings = {name: value for name, value in given.items() if value is not None}
    schema: Schema[Decoding] = Schema(Decoding)
    source = f"--decoding {decoding}"
    try:
        return schema.validate({"kind": decoding, **settings}, source)
    except ConfigError as error:
        told = str(error)
        for name, option in OF_DECODING.items():
            told = told.replace(f"{source}: {name}:", f"{source} {option}:")
        raise ConfigError(told) from error
