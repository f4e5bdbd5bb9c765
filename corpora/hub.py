"""`kind: hub`: a column of a Hugging Face data set, from the hub or from a folder that holds one."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from corpora.cuts import BY_DIGEST, cut, is_by_digest
from corpora.data_sets import load_data_set
from corpora.texts import (
    BLOCK_LINES,
    SPLITS,
    Block,
    Blocks,
    Fractions,
    LineBlock,
    MaxLength,
    check_fractions,
)
from corpora.tokenizer import TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The texts of one column of `datasets.load_dataset(name, config, revision=revision)`; no code of it is run.

    `name` may also be a folder: of parquet, jsonl, csv or text files, or one that `save_to_disk` wrote. Where no
    split is named for valid or test, `validation` and `test` are taken if the data set has them; else that share of
    the distinct training sentences is cut off for them, always the same way. The text of a row becomes one line;
    empty rows are skipped and counted. Labels of `label_column` are kept as they are stored: the classes of a
    ClassLabel by their numbers.
    """

    kind: Literal["hub"] = "hub"
    name: str
    config: str | None = None
    revision: str | None = None  # a branch, tag or commit; a commit makes the run repeatable
    column: str = "text"
    label_column: str | None = None
    train_split: str = "train"
    valid_split: str | None = None
    test_split: str | None = None
    fractions: Fractions = (0.9, 0.05, 0.05)  # of train, valid and test; of a split that is missing
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_length: MaxLength = 256

    def __post_init__(self) -> None:
        check_fractions(self.fractions)

    def resolved(self) -> "Hub":
        """The same corpus from any folder: with an absolute path where `name` is a folder."""
        folder = Path(self.name).expanduser()
        return replace(self, name=str(folder.absolute())) if folder.is_dir() else self

    def log_probs(self, texts: Sequence[str]) -> None:
        """What log p(x) truly is: unknown for a text that somebody wrote."""

    def factors(self) -> None:
        """What a sentence was made to say: unknown for a text that somebody wrote."""

    def normalise(self, text: str) -> str:
        """A user's sentence in the corpus' own form: single blanks."""
        return " ".join(text.split())

    def fingerprint(self) -> str:
        """A digest of the texts and labels and of how they are cut. Raises ValueError as `read` does."""
        digest = hashlib.sha256()
        splits = self._splits()
        for name, split in splits.items():  # what json.dumps makes of [name, texts, labels or null], in pieces
            digest.update(f"[{json.dumps(name)}, ".encode())
            _add_column(digest, split, self.column)
            digest.update(b", ")
            _add_column(digest, split, self.label_column)
            digest.update(b"]")
        known = [self.kind, digest.hexdigest(), self.fractions]
        by_digest = set(splits) != set(SPLITS) and is_by_digest(len(splits["train"]))
        return json.dumps([*known, BY_DIGEST] if by_digest else known)

    def read(self) -> Blocks:
        """The splits as text.

        Raises ValueError where the hub cannot be reached, or a name, configuration, split or column does not exist.
        """
        splits = self._splits()
        blocks = {name: Blocks(partial(self._blocks, name, split)) for name, split in splits.items()}
        shares = dict(zip(SPLITS, self.fractions, strict=True))
        missing = {name: shares[name] for name in SPLITS if name not in splits}
        if missing:
            shares = {"train": 1 - sum(missing.values())} | missing
            blocks["train"] = cut(blocks["train"], shares, len(splits["train"]))
        return Blocks(lambda: chain.from_iterable(blocks.values()))

    def _blocks(self, name: str, split: Any) -> Iterator[Block]:
        """The rows of one of our splits."""
        source, first_line = f"{self.name} ({name})", 1
        columns = [self.column] if self.label_column is None else list({self.column: 0, self.label_column: 0})
        for rows in _rows(split, columns):
            labels = None if self.label_column is None else rows[self.label_column]
            if labels is not None and None in labels:
                raise ValueError(
                    f"{source}: line {first_line + labels.index(None)}: no label in column {self.label_column}"
                )
            yield LineBlock(
                split=name,
                source=source,
                lines=[line or "" for line in rows[self.column]],
                labels=None if labels is None else [str(x) for x in labels],
                first_line=first_line,
            )
            first_line += len(rows[self.column])

    def _splits(self) -> dict[str, Any]:
        """Those of our splits that the data set has, as `datasets.Dataset`s with the columns that are asked for."""
        splits = load_data_set(self.name, self.config, self.revision, self.train_split)
        named = {"train": self.train_split, "valid": self.valid_split, "test": self.test_split}
        for ours, theirs in named.items():
            if theirs is not None and theirs not in splits:
                raise ValueError(
                    f"{self.name}: there is no split {theirs}; set corpus.{ours}_split to one of: {', '.join(splits)}"
                )
        usual = {"valid": "validation", "test": "test"}
        chosen = {ours: theirs or usual[ours] for ours, theirs in named.items()}
        found = {ours: theirs for ours, theirs in chosen.items() if theirs in splits}
        for theirs in found.values():
            self._check_columns(theirs, splits[theirs].features)
        return {ours: splits[theirs] for ours, theirs in found.items()}

    def _check_columns(self, split: str, features: Mapping[str, Any]) -> None:
        from datasets import Value

        for key, column in {"column": self.column, "label_column": self.label_column or self.column}.items():
            if column not in features:
                raise ValueError(
                    f"{self.name} ({split}): there is no column {column}; set corpus.{key} to one of: "
                    f"{', '.join(features)}"
                )
        if features[self.column] not in (Value("string"), Value("large_string")):
            raise ValueError(
                f"{self.name} ({split}): column {self.column} holds no text but {features[self.column]}; "
                "set corpus.column to one that does"
            )


def _rows(split: Any, columns: list[str]) -> Iterator[Mapping[str, list[Any]]]:
    """The rows by column, some thousand at a time; of a split without rows, none of them once."""
    if len(split) == 0:
        yield {column: [] for column in columns}
    yield from split.select_columns(columns).iter(batch_size=BLOCK_LINES)


def _add_column(digest: "hashlib._Hash", split: Any, column: str | None) -> None:
    """Add what `json.dumps` makes of a column, a list of values, or of no column: null."""
    if column is None:
        digest.update(b"null")
        return
    comma = b"["
    for rows in _rows(split, [column]):
        for value in rows[column]:
            digest.update(comma + json.dumps(value, default=str).encode())
            comma = b", "
    digest.update(b"[]" if comma == b"[" else b"]")
