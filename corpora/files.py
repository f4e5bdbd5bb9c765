"""`kind: files`: one sentence a line, in train.txt, valid.txt and test.txt of a folder or in one file."""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from corpora.plain_files import check_plain, read_at_most
from corpora.texts import SPLITS, Fractions, MaxLength, Texts, check_fractions, collect, cut
from corpora.tokenizer import TokenizerConfig

MAX_RATIO = 100  # of a text to its .gz: a few megabytes of it can stand for any number of equal bytes
MAX_UNPACKED = 2**28  # bytes that are read whatever the ratio


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
        bytes_digests = {name: hashlib.sha256(_read_bytes(path)).hexdigest() for name, path in paths.items()}
        suffixes = [path.suffix for path in paths.values()]
        return json.dumps([self.kind, bytes_digests, suffixes, self.fractions, self.labelled])

    def read(self) -> dict[str, Texts]:
        """The splits as text. Raises ValueError, naming file, line and remedy, for what is no such text."""
        texts = {name: _read_texts(path, self.labelled) for name, path in self._paths().items()}
        if set(texts) == set(SPLITS):
            return texts
        return cut(texts["all"], dict(zip(SPLITS, self.fractions, strict=True)))

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


def read_sentences(path: Path) -> Texts:
    """The sentences of one file, plain or `.gz`, with the number of each one's line.

    Raises ValueError, naming file, line and remedy, for what is no such text.
    """
    return collect(str(path), _read_lines(path))


def _read_bytes(path: Path) -> bytes:
    try:
        check_plain(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file or folder; give the path of your text") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _read_texts(path: Path, labelled: bool) -> Texts:
    if not labelled:
        return read_sentences(path)
    lines = _read_lines(path)
    labels, sentences = [], []
    for number, line in enumerate(lines, start=1):
        label, tab, sentence = line.partition("\t")
        if line.strip() and not (tab and label.strip()):
            raise ValueError(
                f"{path}: line {number}: no label before a TAB; write label<TAB>text, or set corpus.labelled to false"
            )
        labels.append(label.strip())
        sentences.append(sentence)
    return collect(str(path), sentences, labels)


def _unpacked(path: Path, data: bytes) -> bytes:
    most = max(MAX_UNPACKED, MAX_RATIO * len(data))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = read_at_most(stream, most + 1)
    if len(unpacked) > most:
        raise ValueError(f"{path}: holds more than {MAX_RATIO} times its size, as no text does; unpack it yourself")
    return unpacked


def _read_lines(path: Path) -> list[str]:
    data = _read_bytes(path)
    if path.suffix == ".gz":
        try:
            data = _unpacked(path, data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged gzip ({error}); copy or compress it again") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line}: byte 0x{data[error.start]:02x} at offset {error.start} of the file is not UTF-8; "
            "convert it, for example with: iconv -f latin1 -t utf-8"
        ) from error
    lines = text.removeprefix("\ufeff").split("\n")  # not splitlines: editors count "\n", and so does the user
    return lines if lines[-1] else lines[:-1]
