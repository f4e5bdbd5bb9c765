"""Training speed of the LSTM sentence VAE: ours beside the plain float32 step, and beside what the machine could do.

    python -m benchmarks.training DATA --sizes 256/512/32 512/1024/32

DATA is a folder with train.txt, valid.txt and test.txt. Sizes are embedding/hidden/latent. Tokens are counted without
padding, but for the row "every position counted", which is the reference's rate if none of its batches had padding.
"""

import argparse
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch

from benchmarks.reference import ReferenceVae, random_batches, reference_step
from benchmarks.sides import in_turn, median, peak_memory, product_rate, table
from corpora import Files, Splits, load_splits
from latent.machine.memory import keep_freed_memory
from latent.training import TrainState
from latent.training.start import build_state
from textvae.recipe import TextRecipe
from textvae.side import TEXT, TextMaterial, read_material

WARM_STEPS, STEPS = 20, 30
DROPOUT = 0.3


@cache
def reference_setup(
    data: Path, sizes: tuple[int, int, int]
) -> tuple[ReferenceVae, torch.optim.Optimizer, Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """Model, optimizer and batches."""
    splits = corpus(data)
    embedding, hidden, latent = sizes
    torch.manual_seed(0)
    model = ReferenceVae(len(splits.tokenizer), embedding, hidden, latent, DROPOUT)
    batches = random_batches(splits.train, 0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(WARM_STEPS):
        reference_step(model, optimizer, *next(batches))
    return model, optimizer, batches


def reference_side(data: Path, sizes: tuple[int, int, int]) -> dict[str, float]:
    """Tokens and positions a second of the plain way."""
    model, optimizer, batches = reference_setup(data, sizes)
    tokens, positions = 0, 0
    start = time.perf_counter()
    for _ in range(STEPS):
        batch = next(batches)
        reference_step(model, optimizer, *batch)
        tokens += int((batch[1] - 1).sum())
        positions += batch[0][:, 1:].numel()
    seconds = time.perf_counter() - start
    return {"tokens": tokens / seconds, "positions": positions / seconds, "memory": peak_memory()}


@cache
def our_setup(
    data: Path, sizes: tuple[int, int, int], tokens_per_batch: int, precision: str
) -> tuple[TextRecipe, TextMaterial, TrainState]:
    """Recipe, corpus and state; every shape of batch has been seen once."""
    keep_freed_memory()
    embedding, hidden, latent = sizes
    recipe = TEXT.load_recipe(
        TEXT.folder / "plain.yaml",
        [
            f"corpus={{kind: files, path: {data}, tokenizer: {{kind: word}}}}",
            f"model={{kind: lstm, embedding_size: {embedding}, hidden_size: {hidden}, latent_size: {latent}, "
            f"dropout_in: {DROPOUT}, dropout_out: {DROPOUT}}}",
            f"train.tokens_per_batch={tokens_per_batch}",
            f"train.precision={precision}",
        ],
    )
    material = read_material(recipe, None)
    return recipe, material, build_state(material, recipe.train)


def our_side(data: Path, sizes: tuple[int, int, int], tokens_per_batch: int, precision: str) -> dict[str, float]:
    """Tokens a second of the recipe `plain` at these sizes."""
    recipe, material, state = our_setup(data, sizes, tokens_per_batch, precision)
    batches = material.batches
    for step in range(state.step, state.step + WARM_STEPS):
        recipe.update(state, batches, recipe.objective)
        state.step = step + 1
    tokens, making = 0, 0.0
    start = time.perf_counter()
    for step in range(state.step, state.step + STEPS):
        recipe.update(state, batches, recipe.objective)
        state.step = step + 1
        made = time.perf_counter()
        tokens += int((batches[step].lengths - 1).sum())
        making += time.perf_counter() - made
    seconds = time.perf_counter() - start - making
    return {"tokens": tokens / seconds, "memory": peak_memory(), "waiting": making / seconds}


def corpus(data: Path) -> Splits:
    """The corpus with the literature's tokens."""
    recipe = TEXT.load_recipe(
        TEXT.folder / "plain.yaml", [f"corpus={{kind: files, path: {data}, tokenizer: {{kind: word}}}}"]
    )
    assert isinstance(recipe.corpus, Files)
    return load_splits(recipe.corpus)


def flops_per_token(sizes: tuple[int, int, int], num_words: int) -> int:
    """Multiplications and additions of forward and backward pass: two LSTMs and the output layer."""
    embedding, hidden, latent = sizes
    recurrent = 4 * hidden * ((embedding + hidden) + (embedding + latent + hidden))
    return 3 * 2 * (recurrent + hidden * num_words)


def main() -> None:
    """Measure in turn and print a Markdown table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["256/512/32"])
    parser.add_argument("--tokens-per-batch", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    num_words = corpus(given.data).tokenizer.vocabulary_size
    for text in given.sizes:
        embedding, hidden, latent = map(int, text.split("/"))
        sizes = (embedding, hidden, latent)
        ours = partial(our_side, given.data, sizes, given.tokens_per_batch)
        found = in_turn(
            {
                "reference": partial(reference_side, given.data, sizes),
                "ours, fp32": partial(ours, "fp32"),
                "ours, bf16": partial(ours, "bf16"),
            },
            given.rounds,
        )
        ceilings = in_turn(
            {"fp32": partial(product_rate, torch.float32), "bf16": partial(product_rate, torch.bfloat16)}, 3
        )
        rates = {name: median([one["tokens"] for one in rows]) for name, rows in found.items()}
        positions = median([one["positions"] for one in found["reference"]])
        rows = [
            (
                name,
                f"{rate:,.0f}",
                f"{rate / rates['reference']:.2f}",
                f"{rate / positions:.2f}",
                f"{found[name][-1]['memory']:.2f}",
            )
            for name, rate in rates.items()
        ]
        rows.insert(
            1,
            (
                "reference, every position counted",
                f"{positions:,.0f}",
                f"{positions / rates['reference']:.2f}",
                "1.00",
                "",
            ),
        )
        for name, measured in ceilings.items():
            most = median(measured) * 1e9 / flops_per_token(sizes, num_words)
            share = f"{rates[f'ours, {name}'] / most:.0%} reached by ours"
            rows.append(
                (
                    f"products alone in {name}, {median(measured):,.0f} GFLOP/s",
                    f"{most:,.0f}",
                    f"{most / rates['reference']:.2f}",
                    f"{most / positions:.2f}",
                    share,
                )
            )
        print(
            f"\n{text}, V = {num_words:,}, {given.tokens_per_batch:,} tokens a batch of ours, "
            f"{torch.get_num_threads()} threads, medians of {given.rounds} rounds of {STEPS} steps\n"
        )
        waiting = median([one["waiting"] for one in found["ours, bf16"]])
        print(f"Making a batch takes {waiting:.2%} of a step of ours in bf16.\n")
        print(table(("", "tokens/s", "of the reference", "of it unpadded", "peak memory, GiB"), rows))


if __name__ == "__main__":
    main()
