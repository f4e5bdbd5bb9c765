"""`kind: hub`: a column of a Hugging Face data set, from the hub or from a folder that holds one."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from corpora.data_sets import load_data_set
from corpora.texts import SPLITS, Fractions, MaxLength, Texts, check_fractions, collect, cut
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
        for name, columns in self._columns().items():
            digest.update(json.dumps([name, *columns], default=str).encode())
        return json.dumps([self.kind, digest.hexdigest(), self.fractions])

    def read(self) -> dict[str, Texts]:
        """The splits as text.

        Raises ValueError where the hub cannot be reached, or a name, configuration, split or column does not exist.
        """
        texts = {name: self._texts(name, *columns) for name, columns in self._columns().items()}
        shares = dict(zip(SPLITS, self.fractions, strict=True))
        missing = {name: shares[name] for name in SPLITS if name not in texts}
        return texts | cut(texts["train"], {"train": 1 - sum(missing.values())} | missing) if missing else texts

    def _texts(self, name: str, lines: list[str | None], labels: list[Any] | None) -> Texts:
        source = f"{self.name} ({name})"
        if labels is not None and None in labels:
            raise ValueError(f"{source}: line {labels.index(None) + 1}: no label in column {self.label_column}")
        return collect(source, [line or "" for line in lines], None if labels is None else [str(x) for x in labels])

    def _columns(self) -> dict[str, tuple[list[str | None], list[Any] | None]]:
        """Text and label of every row, for each of our splits that the data set has."""
        splits = load_data_set(self.name, self.config, self.revision, self.train_split)
        named = {"train": self.train_split, "valid": self.valid_split, "test": self.test_split}
        for ours, theirs in named.items():
            if theirs is not None and theirs not in splits:
                raise ValueError(
                    f"{self.name}: there is no split {theirs}; set corpus.{ours}_split to one of: {', '.join(splits)}"
                )
        usual = {"valid": "validation", "test": "test"}
        chosen = {ours: theirs or usual[ours] for ours, theirs in named.items()}
        columns = {}
        for ours, theirs in chosen.items():
            if theirs in splits:
                split = splits[theirs]
                self._check_columns(theirs, split.features)
                labels = None if self.label_column is None else split[self.label_column][:]
                columns[ours] = (split[self.column][:], labels)
        return columns

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
