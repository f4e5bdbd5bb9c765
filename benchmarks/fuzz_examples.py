"""Valid examples of what the project reads from outside, to be spoiled: each function writes folders into a folder."""

import functools
import gzip
import io
import json
import os
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from cli import sides, verbs
from corpora import Files, TokenBatches, Tokenizer, TokenizerConfig, load_splits
from corpora.tokenizer import TokenizerKind
from imagevae.side import IMAGE
from latent.reporting.sweep import SweepConfig
from latent.training import Run, start_run
from latent.training.lock import locked
from textvae.side import TEXT

EXAMPLES: list[Path] = []  # where those of the target lie that is being read
SMALL = (
    "model.latent_size=4", "model.embedding_size=8", "model.hidden_size=8", "train.steps=6", "train.log_steps=2",
    "train.checkpoint_steps=3", "train.tokens_per_batch=96", "train.precision=fp32", "train.compile=false",
)  # fmt: skip
GAPS = {"split": "test", "limit": 2, "samples": 2, "steps": 5, "chains": 2, "temperatures": 2, "seed": 0}


def sentences(number: int = 60) -> list[str]:
    """Distinct sentences of a small language."""
    words = [
        f"{who} {what} {whom}" for who in ("the dog", "a cat") for what in ("saw", "liked") for whom in ("me", "it")
    ]
    return [f"{words[i % 8]} {i // 8} ." for i in range(number)]


def written(path: Path, content: bytes | str) -> Path:
    """A file in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_texts(folder: Path) -> None:
    """Plain, packed and as a folder, with labels and without."""
    text = "\n".join(sentences()) + "\n"
    labelled = "".join(f"{i % 3}\t{line}\n" for i, line in enumerate(sentences()))
    for name, content in (("plain", text), ("labelled", labelled)):
        written(folder / name / f"{name}.txt", content)
        written(folder / f"{name}-gz" / f"{name}.txt.gz", gzip.compress(content.encode()))
        for split in ("train", "valid", "test"):
            written(folder / f"{name}-folder" / name / f"{split}.txt", content)


def make_recipes(folder: Path) -> None:
    """All that come with the project."""
    for side in sides():
        for path in side.folder.glob("*.yaml"):
            written(folder / path.stem / path.name, path.read_bytes())


def corpora(folder: Path) -> tuple[Files, ...]:
    """Those whose encoding is an example: of words, and of pieces with labels."""
    return (
        Files(path=folder / "words.txt", tokenizer=TokenizerConfig(kind="word")),
        Files(path=folder / "pieces.txt", labelled=True, tokenizer=TokenizerConfig(kind="bpe", vocabulary_size=60)),
    )


def make_encoded(folder: Path) -> None:
    """Encoded corpora as they lie in the cache, and what an interrupted encoding of them leaves."""
    for name in ("whole", "parts"):
        cache = folder / name / "cache"
        os.environ["TEXTVAE_CACHE"] = str(cache)
        for corpus in corpora(folder / name):
            lines = [f"{i % 3}\t{line}" if corpus.labelled else line for i, line in enumerate(sentences())]
            written(corpus.path, "\n".join(lines) + "\n")
            if name == "parts":
                with (
                    suppress(InterruptedEncodingError),
                    mock.patch("corpora.load.store_streams", side_effect=InterruptedEncodingError),
                ):
                    load_splits(corpus)
            else:
                load_splits(corpus)


def read_encoded(folder: Path) -> None:
    """As a training begins, with a cache: what is damaged and does not say so must not change a sentence."""
    for corpus in corpora(folder):
        os.environ["TEXTVAE_CACHE"] = str(folder / "cache")
        found = load_splits(corpus)
        for name, split in found.by_name().items():
            batches = TokenBatches(split, 96, 0)
            assert sum(len(batches[i]) for i in range(batches.num_batches)) == len(split)
            assert split.tokens.tolist() == encoded_before(corpus.path.name)[name]
    os.environ["TEXTVAE_CACHE"] = str(folder.parent / "cache")


@functools.cache
def encoded_before(name: str) -> dict[str, list[int]]:
    """The ids of an example of that name."""
    (corpus,) = (each for each in corpora(EXAMPLES[0] / "whole") if each.path.name == name)
    os.environ["TEXTVAE_CACHE"] = str(EXAMPLES[0].parent / "before")
    return {split: each.tokens.tolist() for split, each in load_splits(corpus).by_name().items()}


class InterruptedEncodingError(Exception):
    """An encoding, when all its parts were there."""


SETS = (
    *("train.steps=500", "model.latent_size=16", "model+={hidden_size: 12, word_dropout: 0.2}", "train.epochs=2.5"),
    *(
        "objective.kl_weight={kind: linear, start: 0.0, end: 1.0, steps: 100}",
        "corpus.kind=files",
        "model.kind=continuous",
    ),
    *("corpus.path=/dev/null", "train.checkpoint_every=5min", "update+={kind: aggressive}", "corpus={kind: grammar}"),
    *("model.space={kind: file, path: x.vec}", "train+={seed: 3, precision: fp32}", "model.posterior={kind: vmf}"),
)


def make_run(folder: Path, name: str = "plain", *settings: str) -> Run:
    """A short training on a file."""
    corpus = written(folder.parent / "corpus" / "text.txt", "\n".join(sentences()))
    shape = ("corpus.kind=files", f"corpus.path={corpus}", "corpus.tokenizer={kind: word}")
    recipe = TEXT.load_recipe(TEXT.folder / f"{name}.yaml", (*shape, *SMALL, *settings))
    return start_run(TEXT, recipe, folder / name / "run")


def make_runs(folder: Path) -> None:
    """A run of the LSTM, measured, one of continuous outputs, and one of images."""
    plain = make_run(folder)
    trained = verbs(TEXT).open_run(plain, "best")
    verbs(TEXT).measure(trained, full=False, samples=2, refine=None, refine_from=None, refine_by=None, split="test")
    verbs(TEXT).gaps(trained, **GAPS)
    make_run(folder, "continuous", "model.space={kind: ppmi, window: 2}")
    small = ("model.latent_size=4", "model.network.hidden_sizes=[8]", "train.precision=fp32", "train.compile=false")
    recipe = IMAGE.load_recipe(IMAGE.folder / "digits_vae.yaml", (*small, "train.steps=4", "train.checkpoint_steps=2"))
    start_run(IMAGE, recipe, folder / "digits" / "run")


def make_idx(folder: Path) -> None:
    """Images and labels in three classes, plain and packed."""
    rng = np.random.default_rng(0)
    for name, packed in (("plain", False), ("packed", True)):
        for part, number in (("train", 12), ("t10k", 6)):
            images = bytes([0, 0, 8, 3, 0, 0, 0, number, 0, 0, 0, 3, 0, 0, 0, 2]) + rng.bytes(number * 6)
            labels = bytes([0, 0, 8, 1, 0, 0, 0, number, *(i % 3 for i in range(number))])
            for what, data in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
                where = folder / name / "idx" / (f"{what}.gz" if packed else what)
                written(where, gzip.compress(data) if packed else data)


def picture(seed: int, mode: str, suffix: str) -> bytes:
    """A picture of noise, encoded."""
    levels = np.random.default_rng(seed).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(
        buffer, {".jpg": "JPEG", ".tif": "TIFF", ".ppm": "PPM"}.get(suffix, suffix[1:])
    )
    return buffer.getvalue()


def make_masks(folder: Path) -> None:
    """Photographs in each format, and masks."""
    for suffix in (".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"):
        for number in range(6):
            written(folder / suffix / "pairs" / "images" / f"p{number}{suffix}", picture(number, "RGB", suffix))
            written(folder / suffix / "pairs" / "masks" / f"p{number}.png", picture(number, "L", ".png"))


def make_cub(folder: Path) -> None:
    """Birds of 2011 in a folder and in archives, and of 2010."""
    names = [f"00{1 + number // 4}.Bird/Bird_{number}" for number in range(8)]
    for name in ("folder", "packed"):
        root = folder / name
        for number, bird in enumerate(names):
            written(root / "CUB_200_2011" / "images" / f"{bird}.jpg", picture(number, "RGB", ".jpg"))
            written(root / "segmentations" / f"{bird}.png", picture(number, "L", ".png"))
        lists = {
            "images": "".join(f"{i} {bird}.jpg\n" for i, bird in enumerate(names, 1)),
            "train_test_split": "".join(f"{i} {int(i < 6)}\n" for i in range(1, 9)),
            "bounding_boxes": "".join(f"{i} 2.0 3.0 10.0 8.0\n" for i in range(1, 9)),
        }
        for text, content in lists.items():
            written(root / "CUB_200_2011" / f"{text}.txt", content)
    for part in ("CUB_200_2011", "segmentations"):
        with tarfile.open(folder / "packed" / f"{part}.tgz", "w:gz") as archive:
            archive.add(folder / "packed" / part, part)
        shutil.rmtree(folder / "packed" / part)
    root = folder / "2010" / "CUB_200_2010"
    for number, bird in enumerate(names):
        written(root / "images" / f"{bird}.jpg", picture(number, "RGB", ".jpg"))
        box = {"left": 2.0, "top": 3.0, "right": 12.0, "bottom": 11.0}
        annotation = io.BytesIO()
        savemat(annotation, {"bbox": box, "seg": np.eye(14, 20, dtype=np.uint8)}, do_compression=number % 2 == 0)
        written(root / "annotations-mat" / f"{bird}.mat", annotation.getvalue())
    written(root / "lists" / "train.txt", "".join(f"{bird}.jpg\n" for bird in names[:6]))
    written(root / "lists" / "test.txt", "".join(f"{bird}.jpg\n" for bird in names[6:]))


def make_static(folder: Path) -> None:
    """An npz file, plain and packed."""
    rng = np.random.default_rng(0)
    for name, write in (("plain", np.savez), ("packed", np.savez_compressed)):
        (folder / name).mkdir(parents=True)
        train, valid, test = rng.integers(0, 2, (3, 3, 784), dtype=np.uint8)
        write(folder / name / "mnist.npz", train=train, valid=valid, test=test)


def make_vectors(folder: Path) -> None:
    """A file of word vectors, plain and packed."""
    words = sorted({word for line in sentences() for word in line.split()})
    rng = np.random.default_rng(0)
    rows = [f"{word} {' '.join(f'{x:.3f}' for x in rng.normal(size=6))}" for word in words]
    content = f"{len(rows)} 6\n" + "\n".join(rows) + "\n"
    written(folder / "plain" / "words.vec", content)
    written(folder / "packed" / "words.vec.gz", gzip.compress(content.encode()))


def make_tokenizers(folder: Path) -> None:
    """A model of each kind."""
    sizes: dict[TokenizerKind, int] = {"word": 50, "bpe": 40, "unigram": 40, "char": 30}
    for kind, size in sizes.items():
        tokenizer = Tokenizer.train(sentences(), TokenizerConfig(kind=kind, vocabulary_size=size))
        written(folder / kind / "tokenizer.model", tokenizer.to_bytes())


def make_sweep(folder: Path) -> None:
    """A sweep, the record of a trial and a table."""
    swept = {
        "recipes": ["lstm", "grammar.yaml"],
        "seeds": [0, 1],
        "set": ["train.steps=3"],
        "grid": {"objective.free_bits": [0.1, 0.2], "model.latent_size": [2, 4, 8]},
        "measure": {"split": "test", "samples": 2},
    }
    for name in ("sweep", "record", "table"):
        written(folder / name / "sweep.yaml", json.dumps(swept))
    trial = SweepConfig(recipes=("lstm",)).trials(folder / "record" / "out")[0]
    written(trial.record, json.dumps({"status": "trained", "overrides": trial.overrides, "seconds": 1.5, "error": ""}))
    (folder / "table" / "out").mkdir()
    rows = {"recipe": ["lstm", "lstm"], "run": ["lstm/a_s0", "lstm/b_s0"], "status": ["done", "failed"]}
    pq.write_table(pa.table(rows), folder / "table" / "out" / "sweep.parquet")


def make_lock(folder: Path) -> None:
    """That of a process which is dead or alive, as one sees it."""
    with locked(folder / "held" / "run"):
        holder = (folder / "held" / "run" / "lock" / "holder.json").read_bytes()
    written(folder / "held" / "run" / "lock" / "holder.json", holder)
