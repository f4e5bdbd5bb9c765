"""Run folders: `runs/<recipe>/<time>_s<seed>/` with config, environment, metrics, checkpoints and measures."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from latent.training.checkpoints import (
    Checkpoint,
    best_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from latent.training.files import write_atomically
from latent.training.state import TrainState

CONFIG, ENVIRONMENT, METRICS, LOG = "config.yaml", "env.json", "metrics.jsonl", "log.txt"


class RunError(ValueError):
    """A run that is not there, is named ambiguously or cannot be used."""

    exit_code = 2


class Run:
    """The folder of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: str, files: Mapping[str, bytes]) -> "Run":
        """Make the folder and write what the run is, the config last: without it a folder is no run.

        Raises RunError if there is something in the folder already.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{path}: exists and is not an empty folder; choose another --out")
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
            then = json.loads((self.path / ENVIRONMENT).read_text("utf-8"))
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

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def say(self, line: str) -> None:
        """Append a line to log.txt."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut short by a kill is left out."""
        if not (self.path / METRICS).exists():
            return
        for line in (self.path / METRICS).read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                return
            if type(row) is dict:
                yield row

    def last_validation(self) -> dict[str, float] | None:
        """The figures of the latest validation, if there has been one."""
        rows = [row for row in self.metrics() if row.get("split") == "valid"]
        return {name: value for name, value in rows[-1].items() if name not in ("step", "split")} if rows else None

    def cut_metrics(self, step: int) -> None:
        """Drop the rows after a step, which a resumed training will write again."""
        rows = [json.dumps(row) + "\n" for row in self.metrics() if row.get("step", 0) <= step]
        write_atomically(self.path / METRICS, "".join(rows))

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file of the run, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return path

    def save(self, state: TrainState, figures: dict[str, float], keep: int) -> Path:
        """Write a checkpoint, then drop the old ones."""
        path = save_checkpoint(self.path / "checkpoints", state, figures)
        prune_checkpoints(self.path / "checkpoints", keep)
        return path

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
        good, damaged = list_checkpoints(folder)
        if not good:
            found = "; ".join(damaged) or "it stopped before its first one"
            raise RunError(f"{self.path}: no checkpoint to load ({found}); train it again")
        return (good[-1] if which == "last" else best_checkpoint(good)), damaged


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

    A folder of runs stands for the latest of them: the one begun last. Raises RunError when none or several fit.
    """
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
    what = "several runs begin so" if fitting else "no such run"
    raise RunError(f"{name}: {what} in {root} (among them: {shown})")
