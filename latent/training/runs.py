"""Run folders: `runs/<recipe>/<time>_s<seed>/` with config, environment, metrics, checkpoints and measures."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from latent.training.checkpoints import (
    Checkpoint,
    Parts,
    best_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from latent.training.config import Tree
from latent.training.files import read_json, sweep, write_atomically
from latent.training.hub import fetch_run
from latent.training.lock import LOCK
from latent.training.rows import Row, Rows
from latent.training.state import TrainState
from latent.training.window import Columns

CONFIG, ENVIRONMENT, METRICS, LOG = "config.yaml", "env.json", "metrics.jsonl", "log.txt"


class RunError(ValueError):
    """A run that is not there, is named ambiguously or cannot be used."""

    exit_code = 2


class Run:
    """The folder of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = Rows(path / METRICS)

    @classmethod
    def create(cls, path: Path, config: str, files: Mapping[str, bytes]) -> "Run":
        """Make the folder and write what the run is, the config last: without it a folder is no run.

        Raises RunError if there is something in the folder already, but for the lock that keeps others out of it.
        """
        refuse_used(path)
        environment = json.dumps(describe_environment(), indent=1) + "\n"
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / ENVIRONMENT, environment)
        for name, content in files.items():
            write_atomically(path / name, content)
        write_atomically(path / CONFIG, config)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open the folder of a training. Raises RunError if it is none."""
        if not is_run(path):
            raise RunError(f"{path}: not a run folder (it has no {CONFIG} or no {ENVIRONMENT})")
        return cls(path)

    def changed_environment(self) -> dict[str, tuple[Any, Any]]:
        """What the arithmetic depends on and is not as it was: by name, then and now."""
        now = describe_environment()
        try:
            then = read_json(self.path / ENVIRONMENT)
            return {key: (then[key], now[key]) for key in ("threads", "cuda") if then[key] != now[key]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path / ENVIRONMENT}: damaged ({error}); take it from a copy of the run") from error

    @property
    def name(self) -> str:
        """Recipe and run, as in `lstm/2026-01-31_12-00-00_s0`."""
        return f"{self.path.resolve().parent.name}/{self.path.resolve().name}"

    @property
    def config_path(self) -> Path:
        """The fully resolved recipe."""
        return self.path / CONFIG

    def log(self, row: Row) -> None:
        """Append a row to metrics.jsonl. Raises OSError where it cannot be; it is then kept, and written later."""
        self._rows.append(row)

    def say(self, line: str) -> None:
        """Append a line to log.txt. It is for people, and shown elsewhere too: no training ends for the want of it."""
        with suppress(OSError), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def metrics(self) -> Iterable[Row]:
        """The rows of metrics.jsonl; a last line cut short by a kill is left out."""
        return self._rows

    def last_row(self, key: str, value: Any = None) -> Row | None:
        """The latest row that has a key, with this value where one is given."""
        found = [row for row in self._rows if key in row and value in (None, row[key])]
        return found[-1] if found else None

    def cut_metrics(self, step: int) -> None:
        """Drop the rows after a step, which a resumed training will write again."""
        self._rows.cut(step)

    def sweep(self) -> None:
        """Remove what a killed training left behind of files half-written."""
        sweep(self.path / "checkpoints")
        for name in (METRICS, CONFIG):
            sweep(self.path, name)

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file of the run, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return path

    def save(self, state: TrainState, parts: Parts, figures: dict[str, float], window: Columns, recipe: Tree) -> Path:
        """Write a checkpoint, all rows up to it before it. Raises OSError; then the checkpoints are as they were."""
        self._rows.flush(sync=True)
        return save_checkpoint(self.path / "checkpoints", state, parts, figures, window, recipe)

    def prune(self, keep: int) -> None:
        """Drop the old checkpoints. Raises OSError."""
        prune_checkpoints(self.path / "checkpoints", keep)

    def checkpoint(self, which: str = "best") -> tuple[Checkpoint, list[str]]:
        """The checkpoint `best`, `last` or `step-000500`, and a line for each damaged one passed over.

        Raises RunError when there is none.
        """
        folder = self.path / "checkpoints"
        if which not in ("best", "last"):
            if not (folder / which).is_dir():
                known = ", ".join(sorted(p.name for p in folder.glob("step-*"))) or "none"
                raise RunError(f"{self.path}: no checkpoint {which} (there are: {known})")
            return read_checkpoint(folder / which), []
        good, damaged = self.checkpoints()
        return (good[-1] if which == "last" else best_checkpoint(good)), damaged

    def checkpoints(self) -> tuple[list[Checkpoint], list[str]]:
        """All that were kept and are whole, by step, and a line for each damaged one. Raises RunError for none."""
        good, damaged = list_checkpoints(self.path / "checkpoints")
        if not good:
            found = "; ".join(damaged) or "it stopped before its first one"
            raise RunError(f"{self.path}: no checkpoint to load ({found}); train it again")
        return good, damaged


def refuse_used(path: Path) -> None:
    """Raise RunError if there is something at a path where a run is to be, but for a lock."""
    if path.exists() and (not path.is_dir() or any(each.name != LOCK for each in path.iterdir())):
        raise RunError(f"{path}: exists and is not an empty folder; choose another --out")


def describe_environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    packages = ("textvae", "torch", "numpy", "accelerate", "safetensors")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def new_run_path(recipe: str, seed: int, root: Path) -> Path:
    """`root/recipe/time_sSEED`, with a number behind it if another run began in the same second."""
    path = root / recipe / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_s{seed}"
    candidates = [path, *(path.with_name(f"{path.name}_{number}") for number in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())


def runs_root() -> Path:
    """Where runs are kept: $TEXTVAE_RUNS, else `runs` in the current folder."""
    return Path(os.environ.get("TEXTVAE_RUNS", "runs"))


def is_run(path: Path) -> bool:
    """Whether a folder is a training's."""
    return (path / CONFIG).is_file() and (path / ENVIRONMENT).is_file()


def find_run(name: str, root: Path | None = None) -> Run:
    """The run with this path, `latest`, or the one whose path, name or recipe/name begins thus.

    A folder of runs stands for the latest of them: the one begun last. Of the hub it is `hf://user/name`, which is
    fetched. Raises RunError when none or several fit, HubError where the hub does not give it.
    """
    if name.startswith("hf:"):
        return Run.open(fetch_run(name))
    given = Path(name)
    if is_run(given):
        return Run(given)
    is_folder = given.is_dir()
    root = given if is_folder else root or runs_root()
    found = [path.parent for path in root.glob(f"**/{CONFIG}") if is_run(path.parent)]
    runs = sorted(found, key=lambda path: ((path / ENVIRONMENT).stat().st_mtime_ns, path.name))
    if not runs:
        raise RunError(f"{name}: no run found in {root}; train one first (`textvae train RECIPE`)")
    if name == "latest" or is_folder:
        return Run(runs[-1])
    fitting = [p for p in runs if any(str(each).startswith(name) for each in (p, p.relative_to(root), p.name))]
    if len(fitting) == 1:
        return Run(fitting[0])
    shown = ", ".join(str(p.relative_to(root)) for p in (fitting or runs)[-5:])
    what, remedy = ("several runs begin so", "; write more letters") if fitting else ("no such run", "")
    raise RunError(f"{name}: {what} in {root} (among them: {shown}){remedy}")
