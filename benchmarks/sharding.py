"""What a process holds of a transformer whose weights and moments are sharded (`train.shard`), and what its steps take.

    python -m benchmarks.sharding --processes 1 2 4

By default it is of GPT-2 small's size, encoder and decoder of 12 layers each, on the CPU with a thread for each
process; one process holds all of it. In megabytes, of the process with the most: `weights` and `moments` between two
steps, and `peak`, all of its memory while it steps, the interpreter and FSDP's exchange included. `s/step` is the last.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import launch
from latent.training.processes import join_processes
from latent.training.seeding import Stream, seed_everything
from latent.training.start import build_state, share_out
from textvae.side import TEXT

SIZE = (
    "corpus={kind: grammar, num_train: 4000, num_valid: 200, num_test: 200}", "train.tokens_per_batch=128",
    "model+={hidden_size: 768, num_layers: 12, num_heads: 12}", "train.precision=fp32",
)  # fmt: skip
MEGABYTE = 10**6


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # of so many launched processes
    asked = parser.parse_args(arguments)
    if asked.one:
        print_held(asked.one, asked)
        return
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc gives layers back that are freed, and does not keep them
    batches = max(asked.processes)
    print("processes    weights    moments       peak     s/step")
    for number in asked.processes:
        settings = [f"train.batches_per_step={batches}", f"train.shard={str(number > 1).lower()}", *asked.settings]
        given = [part for setting in settings for part in ("--set", setting)]
        out = launch(number, "-m", "benchmarks.sharding", f"--one={number}", f"--steps={asked.steps}", *given)
        most = [max(column) for column in zip(*map(json.loads, out.splitlines()), strict=True)]
        print(f"{number:9d} {most[0]:10.0f} {most[1]:10.0f} {most[2]:10.0f} {most[3]:10.1f}")


def print_held(number: int, asked: argparse.Namespace) -> None:
    """In a launched process: train a few steps, and print what is here."""
    join_processes()
    recipe = TEXT.load_recipe(TEXT.folder / "transformer_vae.yaml", (*SIZE, *asked.settings))
    material = TEXT.read(recipe, None)
    state, batches = build_state(material, recipe.train), material.training_data().batches
    share_out(state, material, recipe.train)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(asked.steps):
        seed_everything(recipe.train.seed, Stream.STEP, state.step * recipe.train.batches_per_step)
        begun = time.perf_counter()
        recipe.update(state, batches, recipe.objective)
        took = time.perf_counter() - begun
        state.step += 1
    own = state.layout.own
    weights = sum(own(weight).nbytes for weight in state.model.parameters())
    moments = sum(own(value).nbytes for entry in state.optimizer.state.values() for value in entry.values())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    line = json.dumps([weights / MEGABYTE, moments / MEGABYTE, peak / MEGABYTE, took])
    os.write(1, f"{line}\n".encode())  # in one piece, beside the other processes'


if __name__ == "__main__":
    main()
