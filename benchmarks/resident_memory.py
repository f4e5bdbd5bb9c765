"""Resident memory over epochs of training, and what oneDNN keeps of it: one prepared layer for each shape of batch.

    python -m benchmarks.resident_memory DATA --epochs 6 --capacities 1024 64

DATA is a folder with train.txt, valid.txt and test.txt. A step is taken on one batch of each shape that the training
order of an epoch has, epoch after epoch, by the recipe `plain`; each capacity of oneDNN's cache of prepared layers has
a process of its own, since oneDNN reads it once.
"""

import argparse
import os
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sides import in_turn, table

if TYPE_CHECKING:
    from corpora import TokenBatches
    from latent.training import TrainState
    from textvae.recipe import TextRecipe

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"  # 1,024 where it is not set


def resident() -> float:
    """The resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@cache
def setup(
    data: Path, capacity: int, tokens_per_batch: int, precision: str
) -> tuple["TextRecipe", "TrainState", "TokenBatches", list[int]]:
    """Recipe, state and an index of a batch of each shape; made once in a process."""
    os.environ[CAPACITY] = str(capacity)  # before oneDNN is first asked for anything
    from latent.machine.memory import keep_freed_memory
    from latent.training.start import build_state
    from textvae.side import TEXT, read_material

    keep_freed_memory()
    overrides = [
        f"corpus={{kind: files, path: {data}, tokenizer: {{kind: word}}}}",
        f"train.tokens_per_batch={tokens_per_batch}",
        f"train.precision={precision}",
    ]
    recipe = TEXT.load_recipe(TEXT.folder / "plain.yaml", overrides)
    material = read_material(recipe, None)
    batches = material.batches
    shapes = {tuple(batches[index].tokens.shape): index for index in range(batches.num_batches)}
    return recipe, build_state(material, recipe.train), batches, list(shapes.values())


def epoch(data: Path, capacity: int, tokens_per_batch: int, precision: str) -> dict[str, float]:
    """A step on each shape of an epoch."""
    recipe, state, batches, indices = setup(data, capacity, tokens_per_batch, precision)
    start = time.perf_counter()
    for index in indices:
        state.step = index
        recipe.update(state, batches, recipe.objective)
    return {"resident": resident(), "seconds": time.perf_counter() - start, "shapes": len(indices)}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--capacities", type=int, nargs="+", default=[1024])
    parser.add_argument("--tokens-per-batch", type=int, default=2048)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    given = parser.parse_args()
    sides = {
        str(each): partial(epoch, given.data, each, given.tokens_per_batch, given.precision)
        for each in given.capacities
    }
    found = in_turn(sides, given.epochs)
    shapes = next(iter(found.values()))[0]["shapes"]
    print(f"{shapes:.0f} shapes of batch, {given.tokens_per_batch:,} tokens, {given.precision}\n")
    heads = ("epoch", *(f"{CAPACITY}={name}: MiB (s)" for name in found))
    rows = [
        (
            str(number + 1),
            *(f"{rows[number]['resident']:,.0f} ({rows[number]['seconds']:.0f})" for rows in found.values()),
        )
        for number in range(given.epochs)
    ]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
