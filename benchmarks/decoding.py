"""Greedy reconstruction of a run's test sentences: ours beside one sentence and one word at a time, same weights.

    python -m benchmarks.decoding RUN --sentences 1000 --plain-sentences 50

RUN is a run of the LSTM VAE. The plain way (`benchmarks/reference.py`) decodes some of the sentences; a second column
says how many of them come out as ours do, word for word (the two add in another order, so near ties may break apart).
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.importance import chosen, reference_model, trained_run
from benchmarks.reference import reference_greedy
from benchmarks.sides import in_turn, median, table
from latent.machine.memory import keep_freed_memory
from textvae.decoding import Greedy
from textvae.generation import decode_texts, posterior_of
from textvae.session import Trained


def plain(run: Path, limit: int, seed: int) -> dict[str, Any]:
    """Greedy, one sentence after the other."""
    trained, model = trained_run(run), reference_model(run)
    z = means(trained, run, limit, seed)
    start = time.perf_counter()
    found = reference_greedy(model, z, trained.recipe.corpus.max_length)
    seconds = time.perf_counter() - start
    return {"seconds": seconds / limit, "texts": [trained.tokenizer.decode(words) for words in found]}


def ours(run: Path, limit: int, seed: int) -> dict[str, Any]:
    """What `reconstruct` does."""
    keep_freed_memory()
    trained = trained_run(run)
    z = means(trained, run, limit, seed)
    start = time.perf_counter()
    texts = decode_texts(trained, z, Greedy())
    return {"seconds": (time.perf_counter() - start) / limit, "texts": texts}


def means(trained: Trained, run: Path, limit: int, seed: int) -> torch.Tensor:
    """The posterior means of the chosen sentences."""
    return posterior_of(trained, chosen(run, limit, seed)).mean


def main() -> None:
    """Time both in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--plain-sentences", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    sides = {
        "one word of one sentence at a time": partial(plain, given.run, given.plain_sentences, given.seed),
        "ours": partial(ours, given.run, given.sentences, given.seed),
    }
    found = in_turn(sides, given.rounds)
    seconds = {name: median([one["seconds"] for one in rounds]) for name, rounds in found.items()}
    theirs, our = (rounds[-1]["texts"] for rounds in found.values())
    first = next(iter(seconds.values()))
    rows = [(name, f"{1000 * each:.2f}", f"{first / each:.1f}") for name, each in seconds.items()]
    same = sum(one == other for one, other in zip(theirs, our, strict=False))
    print(f"\n{given.sentences:,} test sentences, greedy, {torch.get_num_threads()} threads, {given.rounds} rounds")
    print(f"{same} of the first {len(theirs)} sentences are the same both ways\n")
    print(table(("way", "ms a sentence", "times as fast"), rows))


if __name__ == "__main__":
    main()
