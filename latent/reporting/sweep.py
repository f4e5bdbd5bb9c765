"""`textvae sweep`: recipes × settings × seeds, each trained and measured in processes of its own, into one table.

A trial is a run under OUT and a file OUT/trials/NAME.json that says how far it has come; so a sweep that was stopped
goes on where it was, and a trial that failed is tried again and stops no other.
"""

import itertools
import json
import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from latent.reporting.processes import Job, Pool, run_jobs
from latent.reporting.run_kind import AnyKind
from latent.reporting.stored_measures import load_measures
from latent.training import ConfigError, Run, Schema, Side, check_recipe, read_tree
from latent.training.files import read_json, read_plain, write_atomically
from latent.training.lock import break_lock
from latent.training.parquet import parquet_bytes

TABLE = "sweep.parquet"
MAX_TRIALS = 10_000  # each of them a training: more is a mistake
Status = Literal["new", "trained", "done", "failed"]
Say = Callable[[str], None]
ReadRecipe = Callable[[str, tuple[str, ...]], tuple[Path, Side[Any], Any]]  # by name, with its overrides


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """The options of `textvae measure` for every trial."""

    split: Literal["train", "valid", "test"] = "test"
    samples: PositiveInt = 100
    limit: Annotated[int, Field(ge=2)] | None = None
    half_width: PositiveFloat | None = None

    def options(self) -> list[str]:
        """As they are typed."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What a sweep's YAML file holds: every recipe with every combination of `grid` and every seed is a trial."""

    recipes: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    set: tuple[str, ...] = ()  # key=value, of every trial
    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = field(default_factory=dict)  # a key, its values
    measure: MeasureConfig = field(default_factory=MeasureConfig)

    def trials(self, out: Path) -> "list[Trial]":
        """All of them, seed after seed. Raises ConfigError where two would have the same folder."""
        num_trials = math.prod([len(self.seeds), len(self.recipes), *map(len, self.grid.values())])
        if num_trials > MAX_TRIALS:
            raise ConfigError(f"sweep: {num_trials:,} trials, where {MAX_TRIALS:,} are the most; make several of it")
        points = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        trials = [
            Trial(recipe=recipe, seed=seed, point=point, set=self.set, out=out)
            for seed, recipe, point in itertools.product(self.seeds, self.recipes, points)
        ]
        names = [trial.name for trial in trials]
        name, number = Counter(names).most_common(1)[0]
        if number > 1:
            raise ConfigError(f"sweep: two trials would be {name}; leave out what stands there twice")
        if outside := [trial for trial in trials if not _is_below(trial.path, out)]:
            raise ConfigError(f"sweep: recipes: {outside[0].recipe!r:.80} is no name that a folder could have")
        return trials


SCHEMA: Schema[SweepConfig] = Schema(SweepConfig)


def read_sweep(path: Path) -> SweepConfig:
    """Read a sweep's YAML file. Raises ConfigError that names the file and the key."""
    return SCHEMA.validate(read_tree(path), str(path))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe, one seed, one point of the grid."""

    recipe: str
    seed: int
    point: dict[str, Any]
    set: tuple[str, ...]
    out: Path

    @property
    def name(self) -> str:
        """As a path below OUT: `plain/free_bits=0.1_s0`."""
        values = [f"{key.rpartition('.')[2]}={json.dumps(value)}" for key, value in self.point.items()]
        told = re.sub(r"[^\w.=,-]+", "", ",".join(values))[:100]
        return f"{Path(self.recipe).stem}/{told or 'as-is'}_s{self.seed}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """What is `--set`."""
        of_point = (f"{key}={json.dumps(value)}" for key, value in self.point.items())
        return (*self.set, *of_point, f"train.seed={self.seed}")

    @property
    def path(self) -> Path:
        """The run."""
        return self.out / self.name

    @property
    def is_started(self) -> bool:
        """Whether there is a run: its training goes on by what stands in it, and reads the recipe no more."""
        return (self.path / "config.yaml").exists()

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.record.with_suffix(".log")

    @property
    def record(self) -> Path:
        """How far it has come."""
        return self.out / "trials" / f"{self.name.replace('/', '-')}.json"

    def read(self) -> "Progress":
        """How far it has come. Raises ConfigError where the file is damaged or of a trial with other settings."""
        try:
            found: dict[str, Any] = read_json(self.record)
            progress = Progress(found["status"], tuple(found["overrides"]), float(found["seconds"]), found["error"])
        except FileNotFoundError:
            return Progress("new", self.overrides)
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise ConfigError(f"{self.record}: damaged ({error}); remove it, and the trial is made again") from error
        if progress.overrides != self.overrides:
            raise ConfigError(f"{self.path}: was made with other settings than the sweep has now; choose another --out")
        return progress

    def write(self, progress: "Progress") -> None:
        """Store how far it has come."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.record, json.dumps(asdict(progress), indent=1) + "\n")


@dataclass(frozen=True)
class Progress:
    """Of a trial: its settings, its time, and the last line of what went wrong."""

    status: Status
    overrides: tuple[str, ...]
    seconds: float = 0.0
    error: str = ""


def run_sweep(
    config: SweepConfig, out: Path, pool: Pool, read: ReadRecipe, kind_of: Callable[[Run], AnyKind], say: Say
) -> tuple[Path, int]:
    """Train and measure what has not been yet, as many trials at a time as the pool has; its table, how many failed.

    The table is written anew after every trial. A signal stops the trainings, each of which saves first. Raises
    ConfigError, with nothing started, where the recipe of one that is to be trained is not right.
    """
    trials = config.trials(out)
    pending = [trial for trial in trials if trial.read().status != "done"]
    _check([trial for trial in pending if not trial.is_started], read)
    jobs = [_job(trial, config.measure, say) for trial in pending]
    say(f"{len(trials)} trials, {len(trials) - len(jobs)} done before")
    out.mkdir(parents=True, exist_ok=True)
    table = out / TABLE
    for _ in itertools.chain([None], run_jobs(jobs, pool)):
        write_atomically(table, parquet_bytes(_table(trials, config.measure.split, kind_of)))
    return table, sum(trial.read().status == "failed" for trial in trials)


def _check(trials: Sequence[Trial], read: ReadRecipe) -> None:
    """Raise ConfigError, in one line, for the first that `train --dry-run` would refuse; of the seeds one is tried."""
    different: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        different.setdefault((trial.recipe, json.dumps(trial.point)), trial)
    for trial in different.values():
        try:
            _, side, recipe = read(trial.recipe, trial.overrides)
            check_recipe(side, recipe)
        except (ValueError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"sweep: {trial.name}: {reason}; mend it in the sweep's file: none was started"
            ) from error


def _job(trial: Trial, measure: MeasureConfig, say: Say) -> Job:
    """The commands that are left of a trial, in their order."""

    def commands() -> Iterator[list[str]]:
        textvae = [sys.executable, "-m", "cli"]
        progress, begun = trial.read(), time.monotonic()
        started = trial.is_started
        if trial.record.exists() and not started:
            shutil.rmtree(trial.path, ignore_errors=True)  # a kill came before the folder was a run
        trial.write(progress)
        if progress.status != "trained":
            settings = [part for one in trial.overrides for part in ("--set", one)]
            what = ["--resume", str(trial.path)] if started else [trial.recipe, *settings, "--out", str(trial.path)]
            yield [*textvae, "train", *what]
            progress = replace(progress, status="trained", seconds=progress.seconds + time.monotonic() - begun)
            trial.write(progress)
        yield [*textvae, "measure", str(trial.path), *measure.options()]
        trial.write(replace(progress, status="done", error=""))
        say(f"{trial.name}: done")

    def failed(error: str) -> None:
        kept = trial.read()
        trial.write(replace(kept, status="failed", error=error))
        say(f"{trial.name}: failed: {error} (all it said: {trial.log})")

    return Job(commands, trial.log, failed, lambda: break_lock(trial.path))


def _table(trials: Sequence[Trial], split: str, kind_of: Callable[[Run], AnyKind]) -> pa.Table:
    """A row for each trial: what it is, how far it has come, and each figure with its interval."""
    rows = [_row(trial, split, kind_of) for trial in trials]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _row(trial: Trial, split: str, kind_of: Callable[[Run], AnyKind]) -> dict[str, Any]:
    progress = trial.read()
    row: dict[str, Any] = {"recipe": trial.recipe, "seed": trial.seed}
    row |= {key: json.dumps(value) for key, value in trial.point.items()}
    row |= {"run": trial.name, "status": progress.status, "seconds": progress.seconds, "error": progress.error}
    if progress.status == "done":
        run = Run.open(trial.path)
        kind = kind_of(run)
        found = load_measures(kind, run, split)
        if found is not None:
            row["verdict"] = found.figures.verdict
            for name in kind.rows:
                estimate = getattr(found.figures, name)
                row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row


def runs_of_table(path: Path) -> list[Path]:
    """The runs of a sweep's table that are done. Raises ConfigError for a file that is none, or has none."""
    try:
        file = pq.ParquetFile(pa.BufferReader(read_plain(path)))
        if file.metadata.num_rows > MAX_TRIALS:
            raise ValueError(f"{file.metadata.num_rows:,} rows, where a sweep has {MAX_TRIALS:,} at most")
        found = file.read(columns=["run", "status"]).to_pylist()
        done = [path.parent / str(row["run"]) for row in found if row["status"] == "done"]
        if any(not _is_below(run, path.parent) for run in done):
            raise ValueError("one of its runs lies outside of its folder")
    except (OSError, ValueError, pa.ArrowException, KeyError) as error:
        raise ConfigError(f"{path}: not the table of a sweep ({' '.join(str(error).split())[:100]})") from error
    if not done:
        raise ConfigError(f"{path}: no trial of the sweep is done yet")
    return done


def _is_below(path: Path, folder: Path) -> bool:
    """Whether a path leads to something in a folder, as it is written: of two dots none is followed."""
    return ".." not in path.relative_to(folder).parts if path.is_relative_to(folder) else False


def runs_named(name: str) -> list[str]:
    """The run of this name, or the runs of the sweep whose table it is."""
    return [str(path) for path in runs_of_table(Path(name))] if name.endswith(".parquet") else [name]
