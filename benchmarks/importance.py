"""The importance-weighted NLL of a run's test sentences: ours beside the plain way, in one process on one machine.

    python benchmarks/importance.py RUN --sentences 1000 --samples 500 --half-width 0.1

The plain way takes one sentence at a time and runs the encoder anew for every 100 draws, in float32, as the code that
the literature's figures come from does (He et al. 2019's `calc_iwnll`). All ways score the same sentences.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from corpora import Sentences, evaluation_batches
from latent.measures import Estimate, evaluating, importance_weighted, mean_estimate
from latent.training import Run
from textvae.session import Trained, open_trained
from textvae.side import TOKENS_AT_ONCE

PLAIN_CHUNK = 100
ROWS_AT_ONCE = 2048


def plain(trained: Trained, sentences: Sentences, num_samples: int, seed: int) -> tuple[Estimate, int]:
    """Batch 1; the encoder runs in every chunk of draws."""
    found = []
    with evaluating(trained.model, seed):
        for index in range(len(sentences)):
            batch = sentences.batch([index]).to(trained.device)
            chunks = [min(PLAIN_CHUNK, num_samples - done) for done in range(0, num_samples, PLAIN_CHUNK)]
            log_weight = torch.cat([trained.model(batch, chunk).log_weight for chunk in chunks])
            found.append(math.log(num_samples) - log_weight.double().logsumexp(0).cpu())
    return mean_estimate(torch.cat(found)), num_samples * len(sentences)


def ours(
    trained: Trained, sentences: Sentences, num_samples: int, seed: int, half_width: float | None
) -> tuple[Estimate, int]:
    """Batches of like length, the encoder once; with `half_width`, draws only until the error is within it."""
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    found = importance_weighted(
        trained.model,
        batches,
        trained.device,
        num_samples,
        half_width=half_width,
        rows_at_once=ROWS_AT_ONCE,
        seed=seed,
    )
    print(
        f"  bias left {found.bias:.3f}, sampling error {found.sampling_error:.3f}, converged: {found.has_converged}; "
        + ", ".join(f"L_{k} {values.mean().item():.3f}" for k, values in found.ladder.items()),
        flush=True,
    )
    return found.estimate, found.total_draws


def main() -> None:
    """Time the three ways and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=500, help="K; with --half-width, the most that is spent")
    parser.add_argument("--half-width", type=float, default=0.1, help="nats, of the adaptive way")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    trained = open_trained(Run.open(given.run))
    split = trained.splits.by_name()["test"]
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(given.seed))
    sentences = split.select(order[: given.sentences].numpy())
    num_samples, seed = given.samples, given.seed
    ways: dict[str, Callable[[], tuple[Estimate, int]]] = {
        f"plain, K = {num_samples}": lambda: plain(trained, sentences, num_samples, seed),
        f"ours, K = {num_samples}": lambda: ours(trained, sentences, num_samples, seed, None),
        f"ours, half-width {given.half_width:g}": lambda: ours(trained, sentences, num_samples, seed, given.half_width),
    }
    ours(trained, sentences.select(np.array([0])), 10, seed, None)  # oneDNN and caches warm up
    rows, first = [], None
    for name, way in ways.items():
        start = time.perf_counter()
        nll, num_draws = way()
        seconds = time.perf_counter() - start
        first = first or seconds
        interval = f"{nll.value:.3f} [{nll.low:.3f}, {nll.high:.3f}]"
        rows.append(
            f"| {name} | {seconds:.1f} | {seconds / first:.2f} | {num_draws / len(sentences):.0f} | {interval} |"
        )
    tokens = sentences.num_scored_tokens / len(sentences)
    print(
        f"\n{len(sentences)} test sentences, T = {tokens:.2f}, vocabulary {trained.tokenizer.vocabulary_size}, "
        f"seed {seed}, {trained.device}, {torch.get_num_threads()} threads, 95 % intervals over sentences\n"
    )
    print("| way | seconds | of the plain way | draws per sentence | NLL, nats |\n|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
