"""A corpus of more than memory: how fast it is tokenised, in how much memory, and what a step costs as it grows.

    python -m benchmarks.streaming DATA --sentences 100000 1000000 10000000 --folder /tmp/streaming

DATA is a folder with train.txt, valid.txt and test.txt, whose train.txt is repeated. Each size is encoded into a cache
of its own in one process (and its workers, TEXTVAE_WORKERS of them), and trained on in a second one, which finds it
there. Times are of the processor, which other work on the machine hardly changes, but where they are called wall.
Memory is resident memory, of all processes added up (so that what they share counts more than once), looked at ten
times a second. What is written into the folder, 250 bytes a sentence of the Penn Treebank at the most, is removed.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sides import table

if TYPE_CHECKING:
    from textvae.recipe import TextRecipe

STAGES = ("prepare", "train")
WARM_STEPS, STEPS, BATCHES = 5, 30, 8000
TOKENISED = ("sentences", "text, MB", "entry, MB", "wall, s", "s", "sentences/s", "MiB before", "MiB at the most")
TRAINED = (
    *("sentences", "entry opened, s", "order made, s", "first step after, wall, s"),
    *("a batch, ms", "its mean", "the most", "a step, ms", "own + mapped, MiB", "MiB at the most"),
)
MODEL = "{kind: lstm, embedding_size: 32, hidden_size: 32, latent_size: 8}"


def resident(pid: int | str = "self", field: str = "VmRSS") -> float:
    """A figure of a process' memory, in MiB."""
    rows = (line.split() for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    return next((int(row[1]) / 2**10 for row in rows if row[0] == f"{field}:"), 0.0)


def resident_together(pid: int) -> float:
    """Of a process and of all that it has started, in MiB."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
        return resident(pid) + sum(resident_together(int(child)) for child in children)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def recipe_of(data: Path) -> "TextRecipe":
    """A small model on the corpus."""
    from textvae.side import TEXT

    overrides = [f"corpus={{kind: files, path: {data}, tokenizer: {{kind: word}}}}", f"model={MODEL}"]
    return TEXT.load_recipe(TEXT.folder / "plain.yaml", [*overrides, "train.precision=fp32"])


def processor_time() -> float:
    """Seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def prepare(data: Path) -> dict[str, float]:
    """Encode the corpus."""
    from corpora import load_splits

    recipe, before = recipe_of(data), resident()
    wall, cpu = time.perf_counter(), processor_time()
    load_splits(recipe.corpus)
    return {"before": before, "wall": time.perf_counter() - wall, "cpu": processor_time() - cpu}


def train(data: Path) -> dict[str, float]:
    """Take the first step of a second start, then more of them, then go through batches alone."""
    from latent.training.start import build_state
    from textvae.side import TEXT

    recipe = recipe_of(data)
    wall, marks = time.perf_counter(), [time.process_time()]
    material = TEXT.read(recipe, None)
    marks.append(time.process_time())
    batches = material.training_data().batches
    marks.append(time.process_time())
    state = build_state(material, recipe.train)
    recipe.update(state, batches, recipe.objective)
    wall = time.perf_counter() - wall
    stepping, making = [], []
    for step in range(1, STEPS):
        began = time.process_time()
        state.step = step
        recipe.update(state, batches, recipe.objective)
        stepping.append(time.process_time() - began)
    for index in range(BATCHES):
        began = time.process_time()
        batches[index]
        making.append(time.process_time() - began)
    return {
        "opening": marks[1] - marks[0],
        "ordering": marks[2] - marks[1],
        "wall": wall,
        "step": statistics.median(stepping[WARM_STEPS:]),
        "batch": statistics.median(making),
        "batch_mean": statistics.mean(making),
        "batch_most": max(making),
        "own": resident(field="RssAnon"),
        "mapped": resident(field="RssFile"),
    }


def stage(name: str, data: Path, cache: Path) -> dict[str, float]:
    """Run a stage in a process of its own, and look at its memory meanwhile."""
    command = [sys.executable, "-m", "benchmarks.streaming", str(data), "--stage", name]
    environment = {**os.environ, "TEXTVAE_CACHE": str(cache)}
    most = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        while process.poll() is None:
            most = max(most, resident_together(process.pid))
            time.sleep(0.1)
        output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{name}: failed")
    return {**json.loads(output.splitlines()[-1]), "most": most}


def repeat(source: Path, target: Path, num: int) -> None:
    """Write so many lines of a file, from the beginning again after its end."""
    lines = source.read_bytes().splitlines(keepends=True)
    with target.open("wb") as file:
        whole = b"".join(lines)
        for _ in range(num // len(lines)):
            file.write(whole)
        file.writelines(itertools.islice(lines, num % len(lines)))


def measure(data: Path, folder: Path, num: int) -> dict[str, float]:
    """Both stages on a corpus of so many training sentences."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        text, cache = folder / "text", folder / "cache"
        text.mkdir(parents=True)
        repeat(data / "train.txt", text / "train.txt", num)
        for name in ("valid", "test"):
            shutil.copyfile(data / f"{name}.txt", text / f"{name}.txt")
        found = {f"{name}.{key}": value for name in STAGES for key, value in stage(name, text, cache).items()}
        sizes = {"text": text, "cache": cache}
        return found | {key: sum(p.stat().st_size for p in path.rglob("*.*")) for key, path in sizes.items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure each size and print two Markdown tables, after each size anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sentences", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps({"prepare": prepare, "train": train}[given.stage](given.data)))
        return
    tokenised, trained = [], []
    for num in given.sentences:
        r = measure(given.data, given.folder / "streaming", num)
        rates = f"{r['prepare.wall']:,.0f}", f"{r['prepare.cpu']:,.1f}", f"{num / r['prepare.cpu']:,.0f}"
        memory = f"{r['prepare.before']:,.0f}", f"{r['prepare.most']:,.0f}"
        tokenised.append((f"{num:,}", f"{r['text'] / 1e6:,.0f}", f"{r['cache'] / 1e6:,.0f}", *rates, *memory))
        starts = tuple(f"{r[f'train.{key}']:.1f}" for key in ("opening", "ordering", "wall"))
        costs = tuple(f"{1000 * r[f'train.{key}']:.2f}" for key in ("batch", "batch_mean", "batch_most", "step"))
        memory = f"{r['train.own']:,.0f} + {r['train.mapped']:,.0f}", f"{r['train.most']:,.0f}"
        trained.append((f"{num:,}", *starts, *costs, *memory))
        print(table(TOKENISED, tokenised), "", table(TRAINED, trained), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
