"""The results table of the README: train recipes on real corpora, measure them, print one Markdown row each.

    python -m benchmarks.results --data ../shared/data --out results ptb-plain ptb-lstm tatoeba-lstm

A run that is there already is resumed, so the script may be stopped at any time.
"""

import argparse
import json
import time
from pathlib import Path

from latent.reporting import shown
from latent.reporting.stored_measures import save_measures
from latent.training import Run, resume_run, start_run
from textvae.measuring import Measures, measure
from textvae.session import open_trained
from textvae.side import TEXT

UNIGRAM = "corpus.tokenizer={kind: unigram, vocabulary_size: 8000}"
CASES = {
    "ptb-plain": ("plain", "ptb", ["corpus.tokenizer={kind: word}"]),
    "ptb-lstm": ("lstm", "ptb", ["corpus.tokenizer={kind: word}"]),
    "tatoeba-plain": ("plain", "tatoeba", [UNIGRAM]),
    "tatoeba-lstm": ("lstm", "tatoeba", [UNIGRAM]),
}
HEAD = ("run", "T", "vocabulary", "−ELBO", "NLL", "PPL", "KL", "MI", "active units", "shuffled-z gain", "verdict")


def trained_run(name: str, data: Path, out: Path, overrides: list[str]) -> Run:
    """The case's run, trained to its end."""
    if (out / name / "config.yaml").exists():
        return resume_run(TEXT, Run.open(out / name))
    recipe, corpus, settings = CASES[name]
    on_files = ["corpus.kind=files", f"corpus.path={data / corpus}", *settings]
    return start_run(TEXT, TEXT.load_recipe(TEXT.folder / f"{recipe}.yaml", [*on_files, *overrides]), out / name)


def row(name: str, found: Measures) -> str:
    """The case's line of the table."""
    cells = [
        name,
        shown(found.tokens_per_sentence, 3),
        shown(found.vocabulary_size, 0),
        f"{-found.elbo.value:.2f}",
        shown(found.nll),
        shown(found.ppl, 1),
        shown(found.kl),
        shown(found.mutual_information),
        f"{found.active_units.value:.0f}",
        shown(found.shuffled_gain),
        found.verdict,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--data", type=Path, required=True, help="folder with ptb/ and tatoeba/")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    rows = []
    for name in given.cases:
        start = time.monotonic()
        run = trained_run(name, given.data, given.out, given.overrides)
        seconds = {"train": time.monotonic() - start}
        start = time.monotonic()
        found = measure(open_trained(run), "test", given.samples, given.limit, 0)
        seconds["measure"] = time.monotonic() - start
        save_measures(run, found)
        print(json.dumps({"case": name, "seconds": seconds}), flush=True)
        rows.append(row(name, found.figures))
    print(f"\nK = {given.samples}, {given.limit} test sentences, seed 0, 95 % intervals; nats per sentence\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
