"""Time to a validation −ELBO on the Penn Treebank: ours beside the plain float32 reference with SGD at rate 1.

    python -m benchmarks.time_to_bound DATA --out results --bound 110

DATA is a folder with train.txt, valid.txt and test.txt; both sides have sizes 256/256/32, dropout and no annealing.
Both are validated on the same sentences by a draw each, and only the seconds of training count. The reference's rate
is halved after a validation that is no better. It takes hours: each side is stored in OUT after every validation,
with what it has found so far, and a second call goes on from there. A side that is not there after `--epochs` has no
time.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reference import BATCH, ReferenceVae, random_batches, reference_step
from benchmarks.sides import in_turn, table
from benchmarks.training import DROPOUT, corpus, our_setup
from latent.training import seed_everything
from latent.training.seeding import Stream
from latent.training.validation import validate

SIZES = (256, 256, 32)
TOKENS_PER_BATCH, VALIDATION = 2048, 2000


@dataclass
class Side:
    """A training that goes on by parts: what is to be stored, a part of it, and −ELBO in nats per sentence."""

    parts: dict[str, Any]  # by name, with state_dict and load_state_dict
    train: Callable[[int, int], float]  # from a step to another; the seconds of it
    validate: Callable[[], float]
    steps_per_epoch: int
    worse: Callable[[], None]  # after a validation that is no better


def reference(data: Path) -> Side:
    """As research code trains it: batches of 32, SGD, clipped at 5."""
    splits = corpus(data)
    torch.manual_seed(0)
    model = ReferenceVae(len(splits.tokenizer), *SIZES, DROPOUT)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    valid = splits.valid.select(validation_indices(len(splits.valid)))

    order = enumerate(random_batches(splits.train, 0))

    def train(start: int, end: int) -> float:
        model.train()
        number, batch = next(each for each in order if each[0] == start)  # past those before it was stopped
        begun = time.perf_counter()
        while True:
            seed_everything(0, Stream.STEP, number)
            reference_step(model, optimizer, *batch)
            if number == end - 1:
                return time.perf_counter() - begun
            number, batch = next(order)

    @torch.no_grad()
    def validated() -> float:
        model.eval()
        torch.manual_seed(0)
        batches = [valid.batch(range(at, min(at + BATCH, len(valid)))) for at in range(0, len(valid), BATCH)]
        return sum(float(model.loss(b.tokens, b.lengths)) * len(b) for b in batches) / len(valid)

    def worse() -> None:
        optimizer.param_groups[0]["lr"] /= 2

    return Side({"model": model, "optimizer": optimizer}, train, validated, len(splits.train) // BATCH, worse)


def ours(data: Path) -> Side:
    """The recipe `plain` at these sizes, AdamW at its first rate, in the precision that `auto` picks."""
    recipe, material, state = our_setup(data, SIZES, TOKENS_PER_BATCH, "auto")
    found = material.training_data()

    def train(start: int, end: int) -> float:
        begun = time.perf_counter()
        for state.step in range(start, end):
            seed_everything(0, Stream.STEP, state.step)
            recipe.update(state, found.batches, recipe.objective)
        return time.perf_counter() - begun

    parts = {"model": state.model, "optimizer": state.optimizer}
    return Side(
        parts, train, lambda: -validate(state, found.validation)["elbo"], found.batches.num_batches, lambda: None
    )


def validation_indices(size: int) -> np.ndarray:
    """The sentences that `textvae train` validates on."""
    return np.random.default_rng(0).permutation(size)[:VALIDATION]


def run_side(
    make: Callable[[Path], Side], name: str, data: Path, out: Path, bound: float, epochs: int, each: int
) -> list[dict[str, float]]:
    """Train until the bound is reached; what was found at each validation: step, seconds so far, −ELBO."""
    side, (weights, log) = make(data), (out / f"{name}.pt", out / f"{name}.json")
    rows: list[dict[str, float]] = []
    if weights.exists():
        stored = torch.load(weights, weights_only=True)
        for part, state in stored["parts"].items():
            side.parts[part].load_state_dict(state)
        rows = stored["rows"]
    most = epochs * side.steps_per_epoch
    for end in steps_to_validate(rows[-1]["step"] if rows else 0, each or side.steps_per_epoch, most):
        if rows and rows[-1]["bound"] <= bound:
            break
        start, before = (int(rows[-1]["step"]), rows[-1]["seconds"]) if rows else (0, 0.0)
        seconds = before + side.train(start, end)
        found = side.validate()
        if rows and found >= min(row["bound"] for row in rows):
            side.worse()
        rows.append({"step": end, "seconds": seconds, "bound": found})
        temporary = weights.with_suffix(".new")
        torch.save({"parts": {part: each.state_dict() for part, each in side.parts.items()}, "rows": rows}, temporary)
        temporary.replace(weights)
        log.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return rows


def steps_to_validate(done: float, each: int, most: int) -> Iterator[int]:
    """The numbers of steps at which a side is validated."""
    for end in count(int(done) + each, each):
        if end > most:
            return
        yield end


def main() -> None:
    """Train both sides and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/time_to_bound"))
    parser.add_argument("--bound", type=float, default=110.0, help="−ELBO in nats per sentence")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=0, help="between validations; 0 is an epoch of each side")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    makes = {"reference, SGD, fp32": ("reference", reference), "ours": ("ours", ours)}
    sides = {
        label: partial(run_side, make, name, given.data, given.out, given.bound, given.epochs, given.steps)
        for label, (name, make) in makes.items()
    }
    found = {label: rows for label, (rows,) in in_turn(sides, 1).items()}
    reached = {
        label: next((row["seconds"] for row in rows if row["bound"] <= given.bound), None)
        for label, rows in found.items()
    }
    base = reached["reference, SGD, fp32"]
    rows = [
        (
            label,
            f"{found[label][-1]['step']:,.0f}",
            f"{found[label][-1]['bound']:.2f}",
            "not reached" if seconds is None else f"{seconds:,.0f}",
            f"{base / seconds:.2f}" if base and seconds else "",
        )
        for label, seconds in reached.items()
    ]
    print(f"{'/'.join(map(str, SIZES))}, −ELBO {given.bound} on {VALIDATION:,} validation sentences\n")
    print(table(("", "steps", "last −ELBO", "seconds to it", "times as fast"), rows))


if __name__ == "__main__":
    main()
