r"""Word vectors of unit length, one for each id: read from a text file, or learned from the training split.

Reference of the learned ones: Levy & Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization".
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from pydantic import Field, PositiveInt
from scipy.sparse import coo_matrix, csr_matrix

from corpora.load import Splits
from corpora.plain_files import opened
from corpora.tokenizer import BOS, EOS, PAD, UNK, UNKNOWN_WORD

MARKS = {BOS: "<s>", EOS: "</s>", UNK: UNKNOWN_WORD}  # as word2vec's own files write them
MAX_LINE = 10_000_000  # bytes
NUM_NAMED = 5  # of the words that have no vector


@dataclass(frozen=True, kw_only=True, eq=False)
class WordVectors:
    """A unit vector for each of V ids, 0 for `<pad>`. An id that is not known has the vector of `<unk>`."""

    vectors: Float32[np.ndarray, "V D"]
    is_known: Bool[np.ndarray, " V"]
    notes: tuple[str, ...]  # what to know of them: a line each


@dataclass(frozen=True, kw_only=True)
class FileSpace:
    """A text file of vectors as word2vec and fastText write them, plain or `.gz`.

    The first line has the number of words and of numbers, and each further one a word and its numbers, UTF-8. Words are
    looked up as the corpus writes them. `<unk>` without a line of its own is the mean direction of the words that are
    not in the vocabulary; `</s>` is a random direction, which in many dimensions is nearly orthogonal to every word;
    `<s>` is `</s>`.
    """

    kind: Literal["file"] = "file"
    path: Path

    def check(self, size: int) -> None:
        """Read the file to its end. Raises ValueError, naming file and line, for what is no such file of `size`."""
        for _ in read_vectors(self.path, size):
            pass

    def vectors(self, splits: Splits, size: int) -> WordVectors:
        """The vectors of the corpus' ids. Raises ValueError as `check`, and for a file without a word of the corpus."""
        if splits.tokenizer_kind != "word":
            raise ValueError(
                f"model.space: a file has vectors of words, and corpus.tokenizer.kind is {splits.tokenizer_kind}; "
                "set that to word, or model.space.kind to ppmi"
            )
        ids = _ids_of_words(splits)
        found = np.zeros((len(splits.tokenizer), size))
        others = np.zeros(size)
        for word, vector in read_vectors(self.path, size):
            unit = vector / np.linalg.norm(vector)
            if word in ids:
                found[ids[word]] = unit
            else:
                others += unit
        name = self.path.name
        if not found[UNK + 1 :].any():
            raise ValueError(f"{self.path}: has no word of the corpus; take vectors of its language and tokenisation")
        notes = [f"{MARKS[i]} has no line in {name}" for i in (EOS, UNK) if not found[i].any()]
        _fill_marks(found, others if others.any() else found.sum(0))
        return _completed(found, splits, f"space {name}", notes)


@dataclass(frozen=True, kw_only=True)
class PpmiSpace:
    r"""Vectors of the words' company in the training split: rows of U of a truncated SVD \(U \Sigma V^\top\) of

    \[ \mathrm{PPMI}(w, c) = \max\Big(0, \ln \frac{n(w, c)\, n}{n(w)\, n(c)}\Big), \]
    n(w, c) the pairs at most `window` places apart in a sentence, `<s>` and `</s>` being words like any other. The
    singular values are left out: with them frequent words lie close together, where the nearest is easily a wrong one.
    Reference: Levy, Goldberg & Dagan 2015, "Improving Distributional Similarity with Lessons Learned from Word
    Embeddings", section 3.3, exponent 0.
    """

    kind: Literal["ppmi"] = "ppmi"
    window: PositiveInt = 2  # places to either side

    def check(self, size: int) -> None:
        """Nothing but the corpus is needed."""

    def vectors(self, splits: Splits, size: int) -> WordVectors:
        """The vectors of the corpus' ids. Raises ValueError where it has no more words than a vector has numbers."""
        from sklearn.decomposition import TruncatedSVD

        ppmi = ppmi_matrix(splits, self.window)
        num_words = int((ppmi.getnnz(1) > 0).sum())
        if num_words <= size:
            raise ValueError(
                f"model.embedding_size: {size} numbers a word need more words than that in the training split, "
                f"which has {num_words}; lower it"
            )
        svd = TruncatedSVD(size, algorithm="arpack", random_state=0)
        found = svd.fit_transform(ppmi) / np.maximum(svd.singular_values_, np.finfo(float).tiny)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 1e-9)
        notes = [] if found[UNK].any() else ["<unk> does not occur in the training split"]
        _fill_marks(found, found.sum(0))
        return _completed(found, splits, f"space of PPMI, window {self.window}", notes)


Space = Annotated[FileSpace | PpmiSpace, Field(discriminator="kind")]


def ppmi_matrix(splits: Splits, window: int) -> csr_matrix:
    """The positive pointwise mutual information of all pairs of ids in the training split, V by V, symmetric."""
    size = len(splits.tokenizer)
    one_way = csr_matrix((size, size))
    for _, part in splits.train.stretches():
        tokens = part.tokens.astype(np.int64)
        sentence = np.repeat(np.arange(len(part)), part.lengths)
        pairs: list[Int64[np.ndarray, "2 P"]] = []
        for distance in range(1, min(window, len(tokens) - 1) + 1):
            inside = sentence[distance:] == sentence[:-distance]
            pairs.append(np.stack([tokens[:-distance][inside], tokens[distance:][inside]]))
        left, right = np.concatenate(pairs, axis=1)
        one_way += coo_matrix((np.ones(len(left)), (left, right)), shape=(size, size)).tocsr()
    counts = (one_way + one_way.T).tocoo()
    margin = np.asarray(counts.sum(1)).ravel()
    information = np.log(counts.data * margin.sum() / (margin[counts.row] * margin[counts.col]))
    found = csr_matrix((np.maximum(information, 0.0), (counts.row, counts.col)), shape=(size, size))
    found.eliminate_zeros()
    return found


def read_vectors(path: Path, size: int) -> Iterator[tuple[str, Float[np.ndarray, " D"]]]:
    """Each word of the file and its vector, one after the other.

    Raises ValueError, naming file, line and remedy, for a first line that is no header or has another `size`, a row of
    another width, a number that is none, a vector that is 0, a word that comes twice, fewer or more rows than the
    header says, and what is not UTF-8.
    """
    path = path.expanduser()
    lines = _lines(path)
    num_words = _num_words(path, next(lines, ""), size)
    first_at: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        word, *numbers = line.rstrip().split(" ")
        where = f"{path}: line {number}"
        if len(numbers) != size:
            raise ValueError(f"{where}: {len(numbers)} numbers after the word, where the first line says {size}")
        if word in first_at:
            raise ValueError(f"{where}: the word {word!r} has a vector on line {first_at[word]} already; drop one")
        first_at[word] = number
        yield word, _vector(where, numbers)
    if len(first_at) != num_words:
        raise ValueError(
            f"{path}: {len(first_at):,} words, where the first line says {num_words:,}; the file is cut, or its first "
            "line is not its own"
        )


def _num_words(path: Path, header: str, size: int) -> int:
    parts = header.split()
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 10 for part in parts) or "0" in parts:
        raise ValueError(
            f"{path}: line 1: {header[:40]!r} is no header; two whole numbers are needed, of words and of numbers a "
            "word (GloVe's files have none: write one before them)"
        )
    num_words, width = map(int, parts)
    if width != size:
        raise ValueError(
            f"{path}: line 1: vectors of {width} numbers, and model.embedding_size is {size}; set it to {width}"
        )
    return num_words


def _vector(where: str, numbers: Sequence[str]) -> Float[np.ndarray, " D"]:
    try:
        vector = np.array([float(each) for each in numbers])
    except ValueError as error:
        raise ValueError(f"{where}: {error}; a number is needed") from error
    if not np.isfinite(vector).all():
        at = int((~np.isfinite(vector)).argmax())
        raise ValueError(f"{where}: number {at + 1} is {numbers[at]}; drop the line, and the first line's count by one")
    if not vector.any():
        raise ValueError(f"{where}: all numbers are 0, which is no direction; drop the line, and count one less")
    return vector


def _lines(path: Path) -> Iterator[str]:
    try:
        with opened(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
                if len(line) == MAX_LINE:
                    raise ValueError(
                        f"{path}: line {number}: of {MAX_LINE:,} bytes or more; this is no file of vectors"
                    )
                try:
                    yield line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path}: line {number}: byte 0x{line[error.start]:02x} is not UTF-8") from error
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file; give the path of the vectors in model.space.path") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip ({error}); copy or compress it again") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _ids_of_words(splits: Splits) -> dict[str, int]:
    """The id of each word of the vocabulary and of each mark that can have a vector."""
    words = {splits.tokenizer.decode([i]): i for i in range(UNK + 1, len(splits.tokenizer))}
    return words | {mark: i for i, mark in MARKS.items()}


def _fill_marks(found: Float[np.ndarray, "V D"], others: Float[np.ndarray, " D"]) -> None:
    """Vectors for the marks that have none; `others` points to what `<unk>` is to stand for."""
    drawn = np.random.default_rng(0).standard_normal(len(others))
    for mark, direction in ((UNK, others), (EOS, drawn)):
        if not found[mark].any():
            found[mark] = direction / np.linalg.norm(direction)
    if not found[BOS].any():
        found[BOS] = found[EOS]


def _completed(found: Float[np.ndarray, "V D"], splits: Splits, name: str, notes: Sequence[str]) -> WordVectors:
    """The vectors with those of `<unk>` for words that have none, which are counted."""
    found[PAD] = 0.0
    is_known = np.abs(found).sum(1) > 0
    missing = np.flatnonzero(~is_known[UNK + 1 :]) + UNK + 1
    found[missing] = found[UNK]
    num_words = len(found) - UNK - 1
    line = f"{name}: {found.shape[1]} numbers a word, for {num_words - len(missing):,} of {num_words:,} words"
    if len(missing):
        named = ", ".join(repr(splits.tokenizer.decode([i])) for i in missing[:NUM_NAMED])
        more = " …" if len(missing) > NUM_NAMED else ""
        num_tokens = sum(int(np.isin(part.tokens, missing).sum()) for _, part in splits.train.stretches())
        share = num_tokens / splits.train.num_scored_tokens
        line += (
            f"; {len(missing):,} are missing, {share:.2%} of the training tokens, and are read and scored as <unk> and "
            f"never written ({named}{more})"
        )
    return WordVectors(vectors=np.ascontiguousarray(found, dtype=np.float32), is_known=is_known, notes=(line, *notes))
