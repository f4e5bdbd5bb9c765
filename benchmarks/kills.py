"""Kill a training at random moments, go on with it each time, and hold the end against a training left alone.

    python -m benchmarks.kills --kills 50

Each process is forked from this one, which has imported what a training needs, trains (as `textvae train` does, then
`--resume`) and gets SIGKILL after a random time, in real time, whatever it is at. Checkpoints by time come twenty times
a second, so that many kills fall into a save. At the end weights, moments and metrics.jsonl must be those of the
training that was left alone; of a row only `rate`, a speed, is not compared.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # it comes with the first optimizer, and takes a second or two

from latent.training import Run, resume_run, start_run
from latent.training.checkpoints import list_checkpoints
from latent.training.files import checksum
from textvae.recipe import TextRecipe
from textvae.side import TEXT

SETTINGS = (
    "corpus={kind: grammar, num_train: 400, num_valid: 40, num_test: 40}",
    "model.latent_size=8", "model.embedding_size=16", "model.hidden_size=16",
    "train.tokens_per_batch=96", "train.precision=fp32", "train.log_steps=7", "train.checkpoint_steps=50",
    "train.checkpoint_every=0.05s",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print where the kills fell and whether the end is the same; exit status 1 if it is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--longest", type=float, default=3.0, help="Seconds that a process lives at most.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a process with threads cannot be forked
    recipe = TEXT.load_recipe(TEXT.folder / "grammar.yaml", (*SETTINGS, f"train.steps={asked.steps}"))
    with tempfile.TemporaryDirectory() as name:
        alone, killed = Path(name) / "alone", Path(name) / "killed"
        begun = time.monotonic()
        assert finished(lambda: start_run(TEXT, recipe, alone), None)
        took = time.monotonic() - begun
        where = kill_and_go_on(recipe, killed, asked.kills, asked.longest, random.Random(asked.seed))
        good, damaged = list_checkpoints(killed / "checkpoints")
        print(f"left alone: {asked.steps} steps in {took:.0f} s")
        print(f"killed {sum(where.values())} times: " + ", ".join(f"{n} {what}" for what, n in sorted(where.items())))
        same = outcome(alone) == outcome(killed) and not damaged
        print(f"at step {good[-1].step}: " + ("identical" if same else "NOT identical"))
        sys.exit(0 if same and sum(where.values()) == asked.kills else 1)


def kill_and_go_on(
    recipe: TextRecipe, path: Path, num_kills: int, longest: float, moments: random.Random
) -> Counter[str]:
    """Train at `path` to the end, killed so many times unless the end comes first; return where the kills fell."""
    where: Counter[str] = Counter()
    while True:
        if not (path / "config.yaml").exists():  # it was killed before the folder was a run
            shutil.rmtree(path, ignore_errors=True)
        before = last_step(path)
        seconds = moments.uniform(0, longest) if sum(where.values()) < num_kills else None
        if finished(lambda: train(recipe, path), seconds):
            return where
        in_save = any((path / "checkpoints").glob(".*.tmp"))
        moved = last_step(path) > before
        where["within a save" if in_save else "while training" if moved else "before the first new checkpoint"] += 1


def train(recipe: TextRecipe, path: Path) -> None:
    """Begin the training, or go on with it."""
    if (path / "config.yaml").exists():
        resume_run(TEXT, Run.open(path))
    else:
        start_run(TEXT, recipe, path)


def finished(work: Callable[[], object], seconds: float | None) -> bool:
    """Do something in a process of its own, killed after so many seconds; return whether it ended before.

    Raises RuntimeError if it failed.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training ended with status {status}")
    return status == 0


def last_step(path: Path) -> int:
    """The newest checkpoint's, by its name; 0 if there is none."""
    return max((int(each.name.removeprefix("step-")) for each in (path / "checkpoints").glob("step-*")), default=0)


def outcome(path: Path) -> dict[str, Any]:
    """The rows but for their speed, and a checksum of each file of tensors."""
    rows = [{key: value for key, value in row.items() if key != "rate"} for row in Run.open(path).metrics()]
    files = {str(each.relative_to(path)): checksum(each) for each in sorted(path.glob("checkpoints/*/*.safetensors"))}
    return {"rows": rows, "files": files}


if __name__ == "__main__":
    main()
