"""What the project reads from outside: of each thing valid examples to spoil, and how it is read."""

import functools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.fuzz_examples import (
    EXAMPLES,
    GAPS,
    SETS,
    make_cub,
    make_encoded,
    make_idx,
    make_lock,
    make_masks,
    make_recipes,
    make_run,
    make_runs,
    make_static,
    make_sweep,
    make_texts,
    make_tokenizers,
    make_vectors,
    read_encoded,
    sentences,
    written,
)
from cli import found_run, sides, verbs
from corpora import Files, FileSpace, Splits, TokenizerConfig, encode_sentences, load_splits
from corpora.images import Cub, Masks, Mnist, MnistStatic, load_images
from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_report import run_comparison
from latent.reporting.comparison_tables import as_dict, comparison_lines
from latent.reporting.export import export_run
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import load_measures
from latent.reporting.sweep import SweepConfig, read_sweep, runs_named
from latent.training import Run, apply_overrides, read_tree, side_of
from latent.training.checkpoints import STATE, _digest, load_state
from latent.training.files import checksum
from latent.training.lock import locked
from latent.training.side import EXCLUSIVE_KEYS
from latent.training.start import build_state
from textvae.side import TEXT, stored_tokenizer


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing that is read.

    `make` writes examples, each a folder, into a folder; `spoiled` are the files of an example to choose from; `mend`
    makes what was spoiled consistent, as one who means harm would; `weight` is the share of all cases.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    spoiled: tuple[str, ...] = ("**/*",)
    mend: Callable[[Path, random.Random], object] = field(default=lambda folder, rng: None)
    weight: int = 4


def read_text(folder: Path) -> None:
    """As a training begins: words and pieces."""
    path = next(folder.iterdir(), folder / "missing.txt")
    for kind in ("word", "bpe"):
        config = TokenizerConfig(kind=kind, vocabulary_size=60)
        splits = load_splits(Files(path=path, labelled=path.name.startswith("labelled"), tokenizer=config))
        splits.train.batch([0])


def read_recipe(folder: Path, overrides: tuple[str, ...] = ()) -> None:
    """As `show` and `train --dry-run` do; what is written out reads back the same."""
    path = next(folder.iterdir(), folder / "missing.yaml")
    side = side_of(path, sides(), overrides)
    recipe = side.load_recipe(path, overrides)
    side.check(recipe)
    written_out = written(folder / "again.yaml", side.schema.dump(recipe))
    assert side.load_recipe(written_out) == recipe


@functools.cache
def tree_of(name: str) -> dict[str, Any]:
    """A recipe as it stands in its file."""
    return read_tree(TEXT.folder / f"{name}.yaml")


def read_set(folder: Path) -> None:
    """The overrides of a file, one a line, as an argument of a command line can hold them."""
    path = folder / "set.txt"
    if not path.is_file() or path.stat().st_size > 10**6:
        return
    for line in path.read_bytes().split(b"\n"):
        override = line.replace(b"\0", b"").decode("utf-8", "surrogateescape")[:130_000]
        TEXT.schema.validate(apply_overrides(tree_of("lstm"), [override], EXCLUSIVE_KEYS), "lstm.yaml")


def read_run(folder: Path) -> None:
    """All that is read before a corpus is: to use a run, and to go on with it."""
    run, side = found_run(str(folder / "run"))
    run.changed_environment()
    run.last_row("elbo")
    trained = verbs(side).open_run(run, "best")
    assert trained.checkpoint
    run.cut_metrics(3)


def read_measures(folder: Path) -> None:
    """As `compare` does."""
    run, side = found_run(str(folder / "run"))
    kind = verbs(side, "run_kind").KIND
    found = load_measures(kind, run, "test")
    if found is not None:
        compared = compare_measured([MeasuredRun(kind, "run", run, kind.side.load_recipe(run.config_path), found)])
        json.dumps(as_dict(compared))
        comparison_lines(compared)


def read_gaps(folder: Path) -> None:
    """As `gaps` does, which takes what is stored where it was asked for the same."""
    run, side = found_run(str(folder / "run"))
    verbs(side).gaps(verbs(side).open_run(run, "best"), **GAPS)


def read_report(folder: Path) -> None:
    """As `compare --html` and `export` do."""
    run, side = found_run(str(folder / "run"))
    kind = verbs(side, "run_kind").KIND
    export_run(kind, run, folder / "export")
    if (run.path / "measures" / "test.json").is_file():
        run_comparison(kind, [run], report=folder / "report.html", say=lambda line: None)
        page = (folder / "report.html").read_text("utf-8")
        assert "<script>alert" not in page


def sign(folder: Path, rng: random.Random) -> None:
    """Give what was spoiled the checksums that it should have, mostly."""
    if rng.random() < 0.2:
        return
    for state in folder.glob("run/checkpoints/*/" + STATE):
        try:
            described: dict[str, Any] = json.loads(state.read_text("utf-8")) if is_small(state) else {}
            names = [path for path in state.parent.glob("*.safetensors") if is_small(path)]
            described.pop("checksum", None)
            described["files"] |= {path.name: checksum(path) for path in names}
            described["checksum"] = _digest(described)
            state.write_text(json.dumps(described), "utf-8")
        except (AttributeError, ValueError, TypeError, KeyError, OSError, RecursionError):
            pass


def is_small(path: Path) -> bool:
    """Whether it is a file that can be read at once: no pipe, no device, no hole."""
    return path.is_file() and path.stat().st_size < 10**6


@functools.cache
def untrained() -> Any:
    """A training of the example's recipe, at its beginning."""
    run, side = found_run(str(EXAMPLES[0] / "plain" / "run"))
    recipe = side.load_recipe(run.config_path)
    return build_state(side.read(recipe, run), recipe.train)


def read_checkpoints(folder: Path) -> None:
    """As `train --resume` does."""
    run = Run.open(folder / "run")
    checkpoint, _ = run.checkpoint("last")
    load_state(checkpoint, untrained())


def read_cub(folder: Path) -> None:
    """Whatever edition and form it is."""
    is_packed = (folder / "CUB_200_2011.tgz").exists() or (folder / "segmentations.tgz").exists()
    edition: Literal[2010, 2011] = 2010 if (folder / "CUB_200_2010").exists() else 2011
    path = folder / ("CUB_200_2011.tgz" if is_packed else f"CUB_200_{edition}")
    corpus = Cub(path=path, edition=edition, size=8, num_valid=1)
    corpus.fingerprint()
    load_images(corpus)


@functools.cache
def splits() -> Splits:
    """A corpus that the vectors are for."""
    path = written(EXAMPLES[0].parent / "corpus" / "text.txt", "\n".join(sentences()))
    return load_splits(Files(path=path))


def read_vectors(folder: Path) -> None:
    """As a training begins."""
    path = next(folder.iterdir(), folder / "missing.vec")
    space = FileSpace(path=path)
    space.check(6)
    found = space.vectors(splits(), 6)
    assert np.isfinite(found.vectors).all()


def read_tokenizer(folder: Path) -> None:
    """As a run's is read, encoding and decoding."""
    tokenizer = stored_tokenizer(Run(folder))
    encode_sentences([*sentences(4), "unseen ▁ wörd"], tokenizer, 20)
    for i in range(min(len(tokenizer), 100)):
        tokenizer.decode([i])


def read_swept(folder: Path) -> None:
    """As `sweep` does before it trains, and `compare` with its table."""
    out = folder / "out"
    for trial in read_sweep(folder / "sweep.yaml").trials(out):
        inside(trial.path, out)
        inside(trial.record, out)
    SweepConfig(recipes=("lstm",)).trials(out)[0].read()
    if (out / "sweep.parquet").exists():
        for name in runs_named(str(out / "sweep.parquet")):
            inside(Path(name), out)


def inside(path: Path, folder: Path) -> None:
    """Raise AssertionError for a path that leads out of the folder."""
    assert path.resolve().is_relative_to(folder.resolve()), f"{path} lies outside of {folder}"


def read_lock(folder: Path) -> None:
    """As a training begins."""
    with locked(folder / "run") as check:
        check()


RUN_FILES = tuple(
    f"run/{name}"
    for name in (
        *("config.yaml", "env.json", "corpus.json", "metrics.jsonl"),
        *("tokenizer.model", "images.json", "given.safetensors"),
    )
)
CHECKPOINTS = ("run/checkpoints/*/*",)
MEASURES = ("run/measures/test.json", "run/measures/test.parquet")

TARGETS = (
    Target(name="text files", make=make_texts, read=read_text, weight=6),
    Target(name="recipes", make=make_recipes, read=read_recipe, weight=16),
    Target(
        name="overrides",
        make=lambda folder: [written(folder / str(i) / "set.txt", one) for i, one in enumerate(SETS)],
        read=read_set,
        weight=80,
    ),
    Target(name="run folders", make=make_runs, read=read_run, spoiled=RUN_FILES, mend=sign, weight=5),
    Target(name="checkpoints", make=make_run, read=read_checkpoints, spoiled=CHECKPOINTS, mend=sign, weight=5),
    Target(name="measures", make=make_runs, read=read_measures, spoiled=MEASURES, weight=6),
    Target(name="gaps", make=make_runs, read=read_gaps, spoiled=("run/measures/gaps-*.json",), weight=1),
    Target(name="reports and exports", make=make_runs, read=read_report, spoiled=("run/*", "run/measures/*"), weight=1),
    Target(name="locks", make=make_lock, read=read_lock, weight=6),
    Target(
        name="idx files",
        make=make_idx,
        read=lambda folder: load_images(Mnist(path=folder / "idx", num_valid=2)),
        weight=20,
    ),
    Target(
        name="static MNIST",
        make=make_static,
        read=lambda folder: load_images(MnistStatic(path=folder / "mnist.npz")),
        weight=14,
    ),
    Target(
        name="images and masks",
        make=make_masks,
        read=lambda folder: load_images(Masks(path=folder / "pairs", size=8, num_valid=1, num_test=1)),
        weight=6,
    ),
    Target(
        name="encoded corpora",
        make=make_encoded,
        read=read_encoded,
        spoiled=("cache/*/*",),
        weight=12,
    ),
    Target(name="birds", make=make_cub, read=read_cub, weight=5),
    Target(name="word vectors", make=make_vectors, read=read_vectors, weight=20),
    Target(name="tokenizers", make=make_tokenizers, read=read_tokenizer, weight=40),
    Target(name="sweeps", make=make_sweep, read=read_swept, weight=8),
)
