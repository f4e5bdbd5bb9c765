"""The transformer sentence VAE: training beside the machine's products, and decoding with the cache beside without.

    python -m benchmarks.transformer DATA --sizes 256/4/4 512/4/8

DATA is a folder with train.txt, valid.txt and test.txt. Sizes are hidden/layers/heads. The products of a step are those
that torch counts in it (`tests/textvae/test_transformer.py` holds them to the formula); their ceiling is the rate of
square products in the same precision, measured in turn with the steps. Decoding writes the same words both ways, from
random weights.
"""

import argparse
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.sides import in_turn, median, product_rate, table
from latent.machine.memory import keep_freed_memory
from latent.training import TrainState
from latent.training.start import build_state
from textvae.decoding import Decoder, Greedy, decode
from textvae.recipe import TextRecipe
from textvae.side import TEXT, TextMaterial, read_material
from textvae.transformer import TransformerDecoder

WARM_STEPS, COUNTED_STEPS = 10, 5
SENTENCES, WORDS = 100, 40  # written in a round of decoding
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Sizes = tuple[int, int, int]


@cache
def setup(data: Path, sizes: Sizes, precision: str) -> tuple[TextRecipe, TextMaterial, TrainState]:
    """Recipe, corpus and state of `transformer_vae` at these sizes."""
    keep_freed_memory()
    hidden, layers, heads = sizes
    recipe = TEXT.load_recipe(
        TEXT.folder / "transformer_vae.yaml",
        [
            f"corpus={{kind: files, path: {data}, tokenizer: {{kind: word}}}}",
            f"model.hidden_size={hidden}",
            f"model.num_layers={layers}",
            f"model.num_heads={heads}",
            f"train.precision={precision}",
        ],
    )
    material = read_material(recipe, None)
    state = build_state(material, recipe.train)
    steps(recipe, material, state, WARM_STEPS)
    return recipe, material, state


def steps(recipe: TextRecipe, material: TextMaterial, state: TrainState, num_steps: int) -> int:
    """Take some steps; return how many tokens they saw."""
    tokens = 0
    for _ in range(num_steps):
        recipe.update(state, material.batches, recipe.objective)
        tokens += int((material.batches[state.step].lengths - 1).sum())
        state.step += 1
    return tokens


@cache
def flops_per_token(data: Path, sizes: Sizes, precision: str) -> float:
    """Multiplications and additions of a step's products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        tokens = steps(*setup(data, sizes, precision), COUNTED_STEPS)
    return float(counter.get_total_flops()) / tokens


def training(data: Path, sizes: Sizes, precision: str, num_steps: int) -> dict[str, float]:
    """Tokens a second, and what part that is of what the products alone would take, measured before and after."""
    ready = setup(data, sizes, precision)
    flops = flops_per_token(data, sizes, precision)
    before = product_rate(DTYPES[precision])
    start = time.perf_counter()
    tokens = steps(*ready, num_steps)
    rate = tokens / (time.perf_counter() - start)
    ceiling = (before + product_rate(DTYPES[precision])) / 2
    return {"tokens": rate, "ceiling": ceiling, "share": rate * flops / (ceiling * 1e9)}


@dataclass(frozen=True)
class Prefix:
    """All words so far."""

    tokens: Tensor
    z: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The given rows."""
        return Prefix(self.tokens[rows], self.z[rows])


@dataclass(frozen=True)
class WithoutCache:
    """The same decoder, which reads the whole prefix for each next word."""

    decoder: TransformerDecoder

    def start(self, z: Tensor) -> Prefix:
        """Nothing written."""
        return Prefix(torch.empty(len(z), 0, dtype=torch.int64), z)

    def step(self, tokens: Tensor, state: Prefix) -> tuple[Tensor, Prefix]:
        """The logits of the word after the prefix."""
        state = Prefix(torch.cat([state.tokens, tokens[:, None]], 1), state.z)
        return self.decoder.read(state.tokens, self.decoder.start(state.z))[0], state


def decoding(data: Path, sizes: Sizes, *, cached: bool) -> dict[str, float]:
    """Seconds for some sentences."""
    _, material, _ = setup(data, sizes, "fp32")
    torch.manual_seed(0)
    model = material.build_model().eval()
    decoder = model.decoder
    assert isinstance(decoder, TransformerDecoder)
    z = torch.randn(SENTENCES, model.latent_size)
    way: Decoder[Any] = decoder if cached else WithoutCache(decoder)
    start = time.perf_counter()
    written = decode(way, z, Greedy(), max_length=WORDS)
    return {"seconds": time.perf_counter() - start, "words": float((written > 0).sum()), "sum": float(written.sum())}


def main() -> None:
    """Measure in turn and print two Markdown tables for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["256/4/4", "512/4/8"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    for text in given.sizes:
        hidden, layers, heads = map(int, text.split("/"))
        sizes = (hidden, layers, heads)
        found = in_turn(
            {name: partial(training, given.data, sizes, name, given.steps) for name in DTYPES}, given.rounds
        )
        rows = [
            (name, *(form.format(median([one[key] for one in rounds])) for key, form in COLUMNS.items()))
            for name, rounds in found.items()
        ]
        print(f"\n{text}, {torch.get_num_threads()} threads, medians of {given.rounds} rounds of {given.steps} steps\n")
        print(table(("training", "tokens/s", "products, GFLOP/s", "share reached"), rows))
        ways = {"prefix recomputed": False, "cache": True}
        written = in_turn(
            {name: partial(decoding, given.data, sizes, cached=cached) for name, cached in ways.items()}, given.rounds
        )
        seconds = {name: median([one["seconds"] for one in rounds]) for name, rounds in written.items()}
        first = seconds["prefix recomputed"]
        same = len({(rounds[0]["words"], rounds[0]["sum"]) for rounds in written.values()}) == 1
        print(f"\n{SENTENCES} sentences of at most {WORDS} words, greedy; both ways the same words: {same}\n")
        rows = [(name, f"{1000 * each / SENTENCES:.2f}", f"{first / each:.1f}") for name, each in seconds.items()]
        print(table(("decoding", "ms a sentence", "times as fast"), rows))


COLUMNS = {"tokens": "{:,.0f}", "ceiling": "{:,.0f}", "share": "{:.0%}"}

if __name__ == "__main__":
    main()
