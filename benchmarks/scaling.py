"""The same training in one process and in several: is the end the same, and what does a step cost?

    python -m benchmarks.scaling --processes 1 2 --steps 50

Each row is `torchrun --nproc-per-node N -m cli train RECIPE`, on the CPU with a thread for each process, and as many
batches a step as there are processes in the largest row. `losses` and `weights` are the largest relative difference of
a logged loss, and that of all weights in their norm, from the first row. `s/step` is the median over the rows of
metrics.jsonl, without the first; `exchange` the median time of what the processes exchange in a step, by itself.
`model` is ceil(batches / N) · s/batch of the first row, plus the exchange: what a step would take if each process had a
core of its own.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from latent.training import Run
from latent.training.checkpoints import MODEL
from textvae.side import TEXT

EXCHANGES = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit status 1 if an end is not the same within 1e-5."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="grammar")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--exchange", type=int, help=argparse.SUPPRESS)  # so many numbers, in a launched process
    asked = parser.parse_args(arguments)
    if asked.exchange:
        print_exchange(asked.exchange)
        return
    num_batches = max(asked.processes)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        runs = {number: trained(number, num_batches, Path(folder), asked) for number in asked.processes}
        first = runs[asked.processes[0]]
        data = TEXT.read(TEXT.load_recipe(first.config_path), first).training_data()
        units, num_weights = data.units_per_batch * num_batches, len(weights(first))
        seconds = units / rate(first)
        print(f"{asked.recipe}: {num_weights:,} weights, {num_batches} batches a step, {asked.steps} steps")
        print("processes     losses    weights     s/step   exchange      model")
        for number, run in runs.items():
            apart = (losses_apart(run, first), float((weights(run) - weights(first)).norm() / weights(first).norm()))
            exchange = exchange_seconds(number, num_weights) if number > 1 else 0.0
            model = math.ceil(num_batches / number) * seconds / num_batches + exchange
            took = f"{units / rate(run):10.4f} {exchange:10.4f} {model:10.4f}"
            print(f"{number:9d} {apart[0]:10.1e} {apart[1]:10.1e} {took}")
            same &= max(apart) <= 1e-5
    sys.exit(0 if same else 1)


def launch(number: int, *arguments: str) -> str:
    """Standard output of a module in so many processes, a thread for each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def trained(number: int, num_batches: int, folder: Path, asked: argparse.Namespace) -> Run:
    """The recipe, trained in so many processes."""
    settings = (
        "train.precision=fp32", f"train.steps={asked.steps}", f"train.batches_per_step={num_batches}",
        "train.log_steps=5", f"train.checkpoint_steps={asked.steps}", *asked.settings,
    )  # fmt: skip
    path = folder / str(number)
    given = [part for pair in settings for part in ("--set", pair)]
    launch(number, "-m", "cli", "train", asked.recipe, "--out", str(path), *given)
    return Run.open(path)


def weights(run: Run) -> torch.Tensor:
    """All weights at the end."""
    found = load_file(run.checkpoint("last")[0].path / MODEL)
    return torch.cat([tensor.double().flatten() for tensor in found.values()])


def training_rows(run: Run) -> list[dict[str, float]]:
    """The rows of metrics.jsonl that are no validation's."""
    return [row for row in run.metrics() if "loss" in row]


def losses_apart(run: Run, other: Run) -> float:
    """The largest relative difference of a row's loss."""
    pairs = zip(training_rows(run), training_rows(other), strict=True)
    return max(abs(row["loss"] - expected["loss"]) / abs(expected["loss"]) for row, expected in pairs)


def rate(run: Run) -> float:
    """Tokens a second: the median over the rows, but for the first, in which memory is still being taken."""
    return statistics.median(row["rate"] for row in training_rows(run)[1:])


def exchange_seconds(number: int, num_weights: int) -> float:
    """The median time in which so many processes add up so many numbers."""
    return float(launch(number, "-m", "benchmarks.scaling", f"--exchange={num_weights}"))


def print_exchange(num_weights: int) -> None:
    """In a launched process: the exchange of a step, by itself."""
    torch.distributed.init_process_group("gloo")
    numbers, took = torch.zeros(num_weights), []
    for _ in range(EXCHANGES):
        begun = time.perf_counter()
        torch.distributed.all_reduce(numbers)
        took.append(time.perf_counter() - begun)
    if torch.distributed.get_rank() == 0:
        print(statistics.median(took))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
