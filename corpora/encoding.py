"""A corpus from text to ids, block by block, in several processes; an interrupted encoding goes on where it was.

The text is gone through twice: once for what has to be known of all of it (the vocabulary, the labels), once to encode
it. Each encoded block is a file of its own, a part; the parts in their order are the arrays of the corpus.
"""

import functools
import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpora.cache import Arrays, Stream
from corpora.plain_files import check_plain
from corpora.sentences import encode_and_count_cuts, token_dtype
from corpora.texts import SPLITS, Block, Blocks, Texts, refuse_nothing
from corpora.tokenizer import EVIDENCE, Tokenizer, TokenizerConfig, TokenizerKind
from corpora.workers import in_order

_LOG = logging.getLogger("corpora")
_SURVEY = "survey.part"
_SIZE_BYTES, _DIGEST_BYTES = 8, 32


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What has to be known of the whole text before a block of it can be encoded."""

    tokenizer: bytes
    label_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a block, or all of them, has of one split."""

    sentences: int
    ids: int
    empty: int  # lines skipped because nothing stood on them
    cut: int  # sentences cut to max_length


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Encodes numbered blocks, each into a part of its own; a whole one that is there already is left as it is."""

    folder: Path
    survey: Survey
    max_length: int

    def __call__(self, numbered: tuple[int, Block]) -> dict[str, Size]:
        """What the block has of each split."""
        number, block = numbered
        path = self.path(number)
        part = read_part(path)
        if part is None:
            part = {}
            for name, texts in block.texts().items():
                part |= {f"{name}.{key}": array for key, array in self._encode(texts).items()}
            write_part(path, part)
        names = [name for name in SPLITS if f"{name}.tokens" in part]
        return {name: _size(*(part[f"{name}.{key}"] for key in ("lengths", "tokens", "counts"))) for name in names}

    def path(self, number: int) -> Path:
        """Where the part of a block is."""
        return self.folder / f"part-{number:06d}.part"

    def _encode(self, texts: Texts) -> Arrays:
        sentences, num_cut = encode_and_count_cuts(texts.sentences, _tokenizer(self.survey.tokenizer), self.max_length)
        numbers = {label: number for number, label in enumerate(self.survey.label_names)}
        labels = [numbers[label] for label in texts.labels or ()]
        return {
            "tokens": sentences.tokens,
            "lengths": np.diff(sentences.offsets).astype(np.int32),
            "labels": np.array(labels, dtype=np.int64),
            "counts": np.array([texts.num_empty, num_cut], dtype=np.int64),
        }


def survey_of(
    blocks: Blocks, config: TokenizerConfig, tokenizer: Tokenizer | None, folder: Path, num_workers: int
) -> Survey:
    """Learn the vocabulary of the training split, unless a tokenizer is given, and the labels, numbers by value.

    What an interrupted call had found stays in the folder. Raises ValueError for what is no text, a source or a split
    without a sentence, and a label that the training split does not have.
    """
    stored = read_part(folder / _SURVEY)
    if stored is None:
        look = partial(_look, kind=config.kind if tokenizer is None else None)
        evidence, seen = EVIDENCE[config.kind](), _Seen()
        for found, texts in in_order(look, blocks, num_workers):
            evidence.add(found)
            seen.add(texts)
        seen.check()
        tokenizer = tokenizer or Tokenizer.learn(evidence, config)
        names = json.dumps(seen.label_names()).encode()
        stored = {"tokenizer": _as_array(tokenizer.to_bytes()), "label_names": _as_array(names)}
        write_part(folder / _SURVEY, stored)
    return Survey(
        tokenizer=stored["tokenizer"].tobytes(), label_names=tuple(json.loads(stored["label_names"].tobytes()))
    )


def encode(blocks: Blocks, survey: Survey, max_length: int, folder: Path, num_workers: int) -> dict[str, Stream]:
    """The arrays of the encoded corpus, from parts in the folder; those that are whole are not made again."""
    encoder = Encoder(folder=folder, survey=survey, max_length=max_length)
    sizes = list(in_order(encoder, enumerate(blocks), num_workers))
    dtype = token_dtype(_tokenizer(survey.tokenizer))
    streams, counts = {}, {}
    for name in SPLITS:
        paths = [encoder.path(number) for number, size in enumerate(sizes) if name in size]
        num = {key: sum(getattr(size[name], key) for size in sizes if name in size) for key in Size.__annotations__}
        counts[name] = {"empty": num["empty"], "cut": num["cut"]}
        pieces = partial(_pieces, paths, name)
        streams[f"{name}.tokens"] = Stream(dtype=dtype, shape=(num["ids"],), pieces=partial(pieces, "tokens"))
        streams[f"{name}.offsets"] = Stream(
            dtype=np.dtype(np.int64),
            shape=(num["sentences"] + 1,),
            pieces=partial(_offsets, partial(pieces, "lengths")),
        )
        if survey.label_names:
            streams[f"{name}.labels"] = Stream(
                dtype=np.dtype(np.int64), shape=(num["sentences"],), pieces=partial(pieces, "labels")
            )
    about = json.dumps({"counts": counts, "label_names": survey.label_names})
    streams["tokenizer"] = Stream.of(_as_array(survey.tokenizer))
    streams["about"] = Stream.of(_as_array(about.encode()))
    return streams


def read_part(path: Path) -> Arrays | None:
    """The arrays of a part, each held against its checksum; None where there is none, or a damaged one."""
    try:
        check_plain(path)
        with path.open("rb") as file:
            size, expected = int.from_bytes(file.read(_SIZE_BYTES), "little"), file.read(_DIGEST_BYTES)
            if path.stat().st_size == _SIZE_BYTES + _DIGEST_BYTES + size:
                content = file.read()
                if hashlib.sha256(content).digest() == expected:
                    with np.load(io.BytesIO(content), allow_pickle=False) as part:
                        return dict(part)
    except FileNotFoundError:
        return None
    except OSError:
        pass
    _LOG.warning("%s is damaged and is made anew", path)
    return None


def write_part(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Store arrays, all or nothing: the length of an npz file, its SHA-256, and the file."""
    stored = io.BytesIO()
    np.savez(stored, allow_pickle=False, **arrays)
    content = stored.getvalue()
    if path.is_dir():
        shutil.rmtree(path)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(len(content).to_bytes(_SIZE_BYTES, "little") + hashlib.sha256(content).digest() + content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@dataclass(frozen=True, kw_only=True)
class _SeenTexts:
    """What there is of one split in one block, but for the words."""

    source: str
    num_sentences: int
    label_lines: dict[str, int]  # where each label stands first


class _Seen:
    """What there is in all blocks so far."""

    def __init__(self) -> None:
        self._num_of_source: Counter[str] = Counter()
        self._num_of_split: Counter[str] = Counter()
        self._labels: dict[str, dict[str, tuple[str, int]]] = {name: {} for name in SPLITS}

    def add(self, found: Mapping[str, _SeenTexts]) -> None:
        """Add the next block."""
        for name, texts in found.items():
            self._num_of_source[texts.source] += texts.num_sentences
            self._num_of_split[name] += texts.num_sentences
            for label, line in texts.label_lines.items():
                self._labels[name].setdefault(label, (texts.source, line))

    def check(self) -> None:
        """Raise ValueError where a source or a split has no sentence."""
        refuse_nothing(self._num_of_source)
        for name in SPLITS:
            if self._num_of_split[name] == 0:
                raise ValueError(
                    f"{', '.join(self._num_of_source)}: too few distinct sentences, none of which falls to {name}; add "
                    "sentences, or give a folder with train.txt, valid.txt and test.txt"
                )

    def label_names(self) -> list[str]:
        """The labels of the training split in order, numbers by value. Raises ValueError for others elsewhere."""
        known = self._labels["train"]
        for lines in self._labels.values():
            for label, (source, line) in lines.items():
                if label not in known:
                    raise ValueError(
                        f"{source}: line {line}: label {label!r} does not occur in the training split; "
                        "mend it, or add sentences with it there"
                    )
        return sorted(known, key=int if all(label.isdecimal() and len(label) < 10 for label in known) else str)


def _look(block: Block, kind: TokenizerKind | None) -> tuple[Any, dict[str, _SeenTexts]]:
    """What the block says of the vocabulary, if that is asked for, and what there is in it."""
    texts = block.texts()
    lines = texts["train"].sentences if kind is not None and "train" in texts else []
    found = {}
    for name, each in texts.items():
        label_lines: dict[str, int] = {}
        for label, line in zip(each.labels or (), each.line_numbers.tolist(), strict=False):
            label_lines.setdefault(label, line)
        found[name] = _SeenTexts(source=each.source, num_sentences=len(each.sentences), label_lines=label_lines)
    return EVIDENCE[kind or "word"].look(lines), found


def _size(lengths: NDArray[Any], tokens: NDArray[Any], counts: NDArray[Any]) -> Size:
    return Size(sentences=len(lengths), ids=len(tokens), empty=int(counts[0]), cut=int(counts[1]))


def _pieces(paths: Sequence[Path], name: str, key: str) -> Iterator[NDArray[Any]]:
    for path in paths:
        part = read_part(path)
        if part is None:
            raise ValueError(f"{path}: was whole a moment ago; run again, and it is made anew")
        yield part[f"{name}.{key}"]


def _offsets(lengths: Callable[[], Iterable[NDArray[Any]]]) -> Iterator[NDArray[Any]]:
    end = np.zeros(1, dtype=np.int64)
    yield end
    for each in lengths():
        ends = end[-1] + np.cumsum(each, dtype=np.int64)
        yield ends
        end = ends if len(ends) else end


def _as_array(data: bytes) -> NDArray[Any]:
    return np.frombuffer(data, dtype=np.uint8)


@functools.lru_cache(maxsize=1)
def _tokenizer(model: bytes) -> Tokenizer:
    """Made once in a worker, for all of its blocks."""
    return Tokenizer.from_bytes(model)
