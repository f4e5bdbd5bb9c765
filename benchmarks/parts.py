"""What a training step of each recipe costs, as a multiple of a step of `plain` on the same batches.

    python -m benchmarks.parts plain gru inputless bow2017 mi aae daae2020

Seconds of the processor, not of the clock, so that what else runs on the machine hardly enters; the recipes take
turns, batch by batch, in fp32 on the recipes' own corpus and sizes.
"""

import argparse
import time

import torch

from benchmarks.sides import median, table
from latent.machine.memory import keep_freed_memory
from latent.training import build_state
from textvae.side import TEXT

WARM_STEPS = 1


def main() -> None:
    """Time the recipes in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="The first is what the others are held against.")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    keep_freed_memory()
    sides = {}
    for name in given.recipes:
        recipe = TEXT.load_recipe(TEXT.folder / f"{name}.yaml", ["train.precision=fp32"])
        material = TEXT.read(recipe, None)
        state = build_state(material, recipe.train)
        recipe.update.prepare(state)
        sides[name] = (recipe, material.training_data().batches, state)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for step in range(WARM_STEPS + given.steps):
        for name, (recipe, batches, state) in sides.items():
            state.step = step
            start = time.process_time()
            recipe.update(state, batches, recipe.objective)
            if step >= WARM_STEPS:
                seconds[name].append(time.process_time() - start)
    first = seconds[given.recipes[0]]
    rows = []
    for name, each in seconds.items():
        ratios = [mine / its for mine, its in zip(each, first, strict=True)]
        rows.append((name, f"{median(each):.3f}", f"{median(ratios):.2f}", f"{min(ratios):.2f} … {max(ratios):.2f}"))
    print(f"\n{given.steps} steps of 2,048 tokens on bbe, fp32, {torch.get_num_threads()} threads\n")
    print(table(("recipe", "seconds of processor a step", f"of {given.recipes[0]}", "range"), rows))


if __name__ == "__main__":
    main()
