"""`kind: files`: one sentence a line, in train.txt, valid.txt and test.txt of a folder or in one file."""

import errno
import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Literal

from corpora.cuts import BY_DIGEST, cut, is_by_digest
from corpora.plain_files import check_plain, opened
from corpora.texts import SPLITS, Block, Blocks, Fractions, MaxLength, Texts, check_fractions, collect, gather
from corpora.tokenizer import TokenizerConfig

MAX_RATIO = 100  # of a text to its .gz: a few megabytes of it can stand for any number of equal bytes
MAX_UNPACKED = 2**28  # bytes that are read whatever the ratio
MAX_LINE = 2**27  # bytes
BLOCK_BYTES = 2**22  # and what is left of the last line


@dataclass(frozen=True, kw_only=True)
class Files:
    """Your own text, UTF-8, one sentence a line, plain or `.gz`.

    `path` is a folder with train.txt, valid.txt and test.txt, or one file. One file is cut into splits by `fractions`
    of its distinct sentences, always the same way, and all copies of a sentence land in the same split. With
    `labelled`, a line is `label<TAB>text`. Empty lines are skipped and counted; sentences of more than `max_length`
    scored ids (words and `</s>`) are cut to that and counted.
    """

    kind: Literal["files"] = "files"
    path: Path
    fractions: Fractions = (0.9, 0.05, 0.05)  # of train, valid and test; for one file only
    labelled: bool = False
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_length: MaxLength = 256

    def __post_init__(self) -> None:
        check_fractions(self.fractions)

    def resolved(self) -> "Files":
        """The same corpus from any folder: with an absolute path."""
        return replace(self, path=self.path.expanduser().absolute())

    def log_probs(self, texts: Sequence[str]) -> None:
        """What log p(x) truly is: unknown for a text that somebody wrote."""

    def factors(self) -> None:
        """What a sentence was made to say: unknown for a text that somebody wrote."""

    def normalise(self, text: str) -> str:
        """A user's sentence in the corpus' own form: single blanks."""
        return " ".join(text.split())

    def fingerprint(self) -> str:
        """A digest of the files' bytes and of how they are read; the path and the times of the files do not enter.

        Raises ValueError for a file that cannot be read.
        """
        paths = self._paths()
        bytes_digests = {name: _digest(path) for name, path in paths.items()}
        suffixes = [path.suffix for path in paths.values()]
        known = [self.kind, bytes_digests, suffixes, self.fractions, self.labelled]
        by_digest = "all" in paths and is_by_digest(_num_lines(paths["all"]))
        return json.dumps([*known, BY_DIGEST] if by_digest else known)

    def read(self) -> Blocks:
        """The splits as text. Raises ValueError, naming file, line and remedy, for what is no such text."""
        paths = self._paths()
        blocks = Blocks(lambda: chain.from_iterable(file_blocks(n, p, self.labelled) for n, p in paths.items()))
        if set(paths) == set(SPLITS):
            return blocks
        return cut(blocks, dict(zip(SPLITS, self.fractions, strict=True)), _num_lines(paths["all"]))

    def _paths(self) -> dict[str, Path]:
        """The file of each split, or the one file of all."""
        path = self.path.expanduser()
        if not path.is_dir():
            return {"all": path}
        found = {}
        for name in SPLITS:
            present = [p for p in (path / f"{name}.txt", path / f"{name}.txt.gz") if p.exists()]
            if len(present) != 1:
                problem = "holds both {0}.txt and {0}.txt.gz" if present else "lacks {0}.txt (or {0}.txt.gz)"
                raise ValueError(
                    f"{path}: {problem.format(name)}; a folder needs one each of train.txt, valid.txt and test.txt, "
                    "or give one file as corpus.path to have it cut"
                )
            found[name] = present[0]
        return found


@dataclass(frozen=True, kw_only=True)
class FileBlock:
    """Some whole lines of a file, as bytes."""

    split: str
    path: Path
    data: bytes
    first_line: int  # its number in the file
    offset: int  # of the first byte, in the unpacked file
    labelled: bool

    def texts(self) -> dict[str, Texts]:
        """The sentences. Raises ValueError for what is not UTF-8, or has no label where there should be one."""
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.first_line + self.data.count(b"\n", 0, error.start)
            raise ValueError(
                f"{self.path}: line {line}: byte 0x{self.data[error.start]:02x} at offset {self.offset + error.start} "
                "of the file is not UTF-8; convert it, for example with: iconv -f latin1 -t utf-8"
            ) from error
        text = text if self.offset else text.removeprefix("\ufeff")
        lines = text.split("\n")  # not splitlines: editors count "\n", and so does the user
        lines = lines if lines[-1] else lines[:-1]
        labels, sentences = self._labels(lines) if self.labelled else (None, lines)
        return {self.split: collect(str(self.path), sentences, labels, self.first_line)}

    def _labels(self, lines: list[str]) -> tuple[list[str], list[str]]:
        labels, sentences = [], []
        for number, line in enumerate(lines, start=self.first_line):
            label, tab, sentence = line.partition("\t")
            if line.strip() and not (tab and label.strip()):
                raise ValueError(
                    f"{self.path}: line {number}: no label before a TAB; write label<TAB>text, or set corpus.labelled "
                    "to false"
                )
            labels.append(label.strip())
            sentences.append(sentence)
        return labels, sentences


def read_sentences(path: Path) -> Texts:
    """The sentences of one file, plain or `.gz`, with the number of each one's line.

    Raises ValueError, naming file, line and remedy, for what is no such text.
    """
    return gather(file_blocks("all", path, labelled=False))["all"]


def file_blocks(split: str, path: Path, labelled: bool) -> Iterator[Block]:
    """The blocks of one file, plain or `.gz`; an empty file has one. Raises ValueError as `stretches` does."""
    first_line, offset = 1, 0
    for data in stretches(path):
        yield FileBlock(split=split, path=path, data=data, first_line=first_line, offset=offset, labelled=labelled)
        first_line += data.count(b"\n")
        offset += len(data)


def stretches(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked, in stretches that end where a line does. Raises ValueError for what has none."""
    line, offset, data = 1, 0, b""
    try:
        most = max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size) if path.suffix == ".gz" else sys.maxsize
        with opened(path) as stream:
            while (data := _stretch(stream)) or offset == 0:
                offset += len(data)
                if offset > most:
                    raise ValueError(
                        f"{path}: holds more than {MAX_RATIO} times its size, as no text does; unpack it yourself"
                    )
                if len(data) >= BLOCK_BYTES + MAX_LINE:
                    line += data.count(b"\n")
                    raise ValueError(f"{path}: line {line}: of {MAX_LINE:,} bytes or more, which is no sentence")
                yield data
                if not data:
                    return
                line += data.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip ({error}); copy or compress it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _num_lines(path: Path) -> int:
    return sum(data.count(b"\n") for data in stretches(path))


def _stretch(stream: BufferedIOBase) -> bytes:
    data = stream.read(BLOCK_BYTES)
    return data if data.endswith(b"\n") else data + stream.readline(MAX_LINE)


def _digest(path: Path) -> str:
    try:
        check_plain(path)
        next(stretches(path))  # what is no gzip from its beginning is refused before it is read to its end
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ValueError:
    if error.errno == errno.ENOENT:
        return ValueError(f"{path}: there is no such file or folder; give the path of your text")
    return ValueError(f"{path}: cannot be read: {error.strerror}")
