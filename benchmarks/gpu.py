"""Everything that matters on one CUDA device, in one command and under ten minutes: speed, utilisation, memory.

    python -m benchmarks.gpu DATA --peak-teraflops 989

DATA is a folder with train.txt, valid.txt and test.txt; `--peak-teraflops` is the card's dense bf16 peak, by which the
utilisation is counted (989 for an H100 SXM). For each size of the LSTM sentence VAE: training in bf16 at several batch
sizes, and the importance-weighted NLL of 1,000 test sentences at K = 500.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.sides import table
from benchmarks.training import flops_per_token, our_setup
from corpora import evaluation_batches
from latent.measures import measure_split
from textvae.measuring import ROWS_AT_ONCE
from textvae.side import TOKENS_AT_ONCE

SIZES = ((256, 512, 32), (512, 1024, 32))
TOKENS_PER_BATCH = (4096, 16_384)  # about 190 and 750 sentences of the Penn Treebank
WARM_STEPS, STEPS = 30, 100
SENTENCES, SAMPLES = 1000, 500


def training_row(data: Path, sizes: tuple[int, int, int], tokens_per_batch: int, peak: float) -> tuple[str, ...]:
    """Tokens a second, the share of the card's peak, and the most memory."""
    recipe, material, state = our_setup(data, sizes, tokens_per_batch, "bf16")
    batches = material.batches
    tokens, start = 0, 0.0
    torch.cuda.reset_peak_memory_stats()
    for step in range(WARM_STEPS + STEPS):
        if step == WARM_STEPS:
            torch.cuda.synchronize()
            start = time.perf_counter()
        recipe.update(state, batches, recipe.objective)
        state.step += 1
        tokens += int((batches[step].lengths - 1).sum()) if step >= WARM_STEPS else 0
    torch.cuda.synchronize()
    rate = tokens / (time.perf_counter() - start)
    share = rate * flops_per_token(sizes, material.splits.tokenizer.vocabulary_size) / peak
    memory = torch.cuda.max_memory_allocated() / 2**30
    return ("/".join(map(str, sizes)), f"{tokens_per_batch:,}", f"{rate:,.0f}", f"{share:.1%}", f"{memory:.2f}")


def importance_row(data: Path, sizes: tuple[int, int, int]) -> tuple[str, ...]:
    """Seconds a sentence of an untrained model: the products do not ask what the weights are."""
    _, material, state = our_setup(data, sizes, TOKENS_PER_BATCH[0], "bf16")
    batches = list(evaluation_batches(material.splits.test.select(torch.arange(SENTENCES).numpy()), TOKENS_AT_ONCE))
    device = state.accelerator.device
    model = state.model
    seconds = 0.0
    for _ in range(2):  # the first warms the machine
        start = time.perf_counter()
        measure_split(model, batches, device, SAMPLES, half_width=None, rows_at_once=4 * ROWS_AT_ONCE, seed=0)
        seconds = time.perf_counter() - start
    return ("/".join(map(str, sizes)), f"{seconds / SENTENCES:.4f}")


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peak-teraflops", type=float, required=True)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device here; benchmarks.training and benchmarks.importance measure a processor")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16, {STEPS} steps\n")
    peak = given.peak_teraflops * 1e12
    rows = [training_row(given.data, sizes, tokens, peak) for sizes in SIZES for tokens in TOKENS_PER_BATCH]
    print(table(("size", "tokens a batch", "tokens/s", "of the bf16 peak", "memory, GiB"), rows))
    print()
    heads = ("size", f"seconds a sentence, K = {SAMPLES}, {SENTENCES:,} sentences")
    print(table(heads, [importance_row(given.data, sizes) for sizes in SIZES]))


if __name__ == "__main__":
    main()
