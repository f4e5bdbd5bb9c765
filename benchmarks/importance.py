"""The importance-weighted NLL of a run's test sentences: ours beside the plain way, with the same weights.

    python -m benchmarks.importance RUN --sentences 200 --samples 500 --half-width 0.1

RUN is a run of the LSTM VAE. The plain way (`benchmarks/reference.py`) takes one sentence at a time and runs the
encoder anew for every 100 draws, in float32, as the code that the literature's figures come from does. All ways score
the same sentences.
"""

import argparse
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.reference import ReferenceVae, reference_nll, reference_of
from benchmarks.sides import in_turn, median, peak_memory, table
from corpora import Sentences, evaluation_batches
from latent.machine.memory import keep_freed_memory
from latent.measures import Estimate, Precision, mean_estimate, measure_split
from latent.reporting import shown
from latent.training import Run
from textvae.measuring import ROWS_AT_ONCE, choose_sentences
from textvae.session import Trained, open_trained
from textvae.side import TOKENS_AT_ONCE

WARM = 3  # sentences


@cache
def trained_run(run: Path) -> Trained:
    """The run, opened once in a process."""
    return open_trained(Run.open(run))


@cache
def reference_model(run: Path) -> ReferenceVae:
    """The plain way's model, warm."""
    model = reference_of(trained_run(run).model)
    reference_nll(model, chosen(run, WARM, 0), 10, 0)
    return model


@cache
def chosen(run: Path, limit: int, seed: int) -> Sentences:
    """Test sentences, chosen by seed."""
    return choose_sentences(trained_run(run), "test", limit, seed)[0]


def plain(run: Path, limit: int, num_samples: int, seed: int) -> dict[str, Any]:
    """Batch 1; the encoder runs in every chunk of draws."""
    model, sentences = reference_model(run), chosen(run, limit, seed)
    start = time.perf_counter()
    nll = reference_nll(model, sentences, num_samples, seed)
    return {
        "seconds": time.perf_counter() - start,
        "nll": mean_estimate(nll),
        "draws": num_samples,
        "memory": peak_memory(),
        "note": "",
    }


@cache
def warm_machine(run: Path, precision: Precision) -> None:
    """Let the libraries compile what they will."""
    keep_freed_memory()
    ours(run, WARM, 10, 0, precision, None)


def ours(
    run: Path, limit: int, num_samples: int, seed: int, precision: Precision, half_width: float | None
) -> dict[str, Any]:
    """What `measure` does: batches of like length, the encoder once, and the check of bf16 against float32."""
    if limit > WARM:
        warm_machine(run, precision)
    trained, sentences = trained_run(run), chosen(run, limit, seed)
    start = time.perf_counter()
    found = measure_split(
        trained.model,
        list(evaluation_batches(sentences, TOKENS_AT_ONCE)),
        trained.device,
        num_samples,
        half_width=half_width,
        rows_at_once=ROWS_AT_ONCE,
        seed=seed,
        precision=precision,
    )
    weighted = found.weighted
    return {
        "seconds": time.perf_counter() - start,
        "nll": weighted.estimate,
        "draws": weighted.total_draws / len(sentences),
        "memory": peak_memory(),
        "note": f"bias {weighted.bias:.2f}, noise ± {weighted.half_width:.3f}, rounding {found.rounding.bias:.4f}",
    }


def main() -> None:
    """Time the ways in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--samples", type=int, default=500, help="K; with --half-width, the most that is spent")
    parser.add_argument("--half-width", type=float, default=0.1, help="nats, of the adaptive way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    what = (given.run, given.sentences, given.samples, given.seed)
    sides = {
        f"plain, fp32, K = {given.samples}": partial(plain, *what),
        f"ours, fp32, K = {given.samples}": partial(ours, *what, "fp32", None),
        f"ours, auto, K = {given.samples}": partial(ours, *what, "auto", None),
        f"ours, auto, half-width {given.half_width:g}": partial(ours, *what, "auto", given.half_width),
    }
    found = in_turn(sides, given.rounds)
    seconds = {name: median([one["seconds"] for one in rounds]) for name, rounds in found.items()}
    first = next(iter(seconds.values()))
    rows = []
    for name, (*_, last) in found.items():
        nll: Estimate = last["nll"]
        rows.append(
            (
                name,
                f"{seconds[name] / given.sentences:.3f}",
                f"{first / seconds[name]:.2f}",
                f"{last['draws']:.0f}",
                shown(nll, 3),
                last["note"],
                f"{last['memory']:.2f}",
            )
        )
    trained = trained_run(given.run)
    sentences = chosen(given.run, given.sentences, given.seed)
    print(
        f"\n{len(sentences)} test sentences, T = {sentences.num_scored_tokens / len(sentences):.2f}, vocabulary "
        f"{trained.tokenizer.vocabulary_size:,}, seed {given.seed}, {trained.device}, {torch.get_num_threads()} "
        f"threads, medians of {given.rounds} rounds, 95 % intervals over sentences\n"
    )
    heads = ("way", "seconds a sentence", "times as fast", "draws", "NLL, nats", "", "peak memory, GiB")
    print(table(heads, rows))


if __name__ == "__main__":
    main()
