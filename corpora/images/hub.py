"""`kind: image_hub`: a column of images of a Hugging Face data set, from the hub or from a folder that holds one."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import NonNegativeInt, PositiveInt

from corpora.data_sets import load_data_set
from corpora.images.binarisation import GreyBinarisation
from corpora.images.encoded import decode_images
from corpora.images.images import Images, LevelSplits
from corpora.texts import SPLIT_SEED, SPLITS

_ROWS_AT_ONCE = 1000  # of encoded images, so that only their levels are held all at once
_LABEL_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True, kw_only=True)
class ImageHub:
    """The images of one column of `datasets.load_dataset(name, config, revision=revision)`; no code of it is run.

    `name` may also be a folder: of image files, of parquet files, or one that `save_to_disk` wrote. The images must be
    grey or RGB and all of one size. Labels are the numbers of a ClassLabel, or whole numbers from 0 without gaps.
    Without a `valid_split`, `num_valid` training images are cut off for it, always the same ones, from all over the
    split: data sets are often sorted by class.
    """

    kind: Literal["image_hub"] = "image_hub"
    name: str
    config: str | None = None
    revision: str | None = None  # a branch, tag or commit; a commit makes the run repeatable
    image_column: str = "image"
    label_column: str | None = "label"
    train_split: str = "train"
    valid_split: str | None = None
    test_split: str = "test"
    num_valid: PositiveInt = 400  # where there is no valid_split
    binarisation: GreyBinarisation = "dynamic"
    binarisation_seed: NonNegativeInt = 0  # of the one draw of valid and test

    def fingerprint(self) -> str:
        """A digest of the encoded images, the labels and the settings. Raises ValueError as `read`."""
        digest = hashlib.sha256()
        for name, (where, split) in self._splits().items():
            class_names, labels = self._labels(where, split)
            digest.update(json.dumps([name, len(split), class_names]).encode())
            digest.update(b"" if labels is None else labels.tobytes())
            for _, encoded in self._encoded(where, split):
                digest.update(hashlib.sha256(encoded).digest())
        settings = [self.num_valid, self.binarisation, self.binarisation_seed]
        return json.dumps([self.kind, digest.hexdigest(), *settings])

    def resolved(self) -> "ImageHub":
        """The same corpus from any folder: with an absolute path where `name` is a folder."""
        folder = Path(self.name).expanduser()
        return replace(self, name=str(folder.absolute())) if folder.is_dir() else self

    def read(self) -> LevelSplits:
        """The splits as levels.

        Raises ValueError, naming the row where it lies in one, for a data set that cannot be loaded or is none of
        images of one size and mode.
        """
        class_names: tuple[str, ...] = ()
        images = {}
        for name, (where, split) in self._splits().items():
            known, labels = self._labels(where, split)
            class_names = class_names or known
            images[name] = Images(levels=decode_images(self._encoded(where, split), len(split)), labels=labels)
        if "valid" not in images:
            images |= self._cut(images["train"])
        return LevelSplits(
            source=self.name,
            train=images["train"],
            valid=images["valid"],
            test=images["test"],
            class_names=class_names,
        )

    def _splits(self) -> dict[str, tuple[str, Any]]:
        """The data set's splits under our names, train first, each with its place for messages."""
        stored = load_data_set(self.name, self.config, self.revision, self.train_split)
        splits = {}
        for ours, theirs in zip(SPLITS, (self.train_split, self.valid_split, self.test_split), strict=True):
            if theirs is None:
                continue
            if theirs not in stored:
                raise ValueError(
                    f"{self.name}: there is no split {theirs}; set corpus.{ours}_split to one of: {', '.join(stored)}"
                )
            splits[ours] = f"{self.name} ({theirs})", stored[theirs]
            self._check(*splits[ours])
        return splits

    def _check(self, where: str, split: Any) -> None:
        """Raises ValueError unless the split has images and labels where they are looked for."""
        import datasets  # takes a second or two, which other corpora need not pay

        for key, column, otherwise in (
            ("image_column", self.image_column, ""),
            ("label_column", self.label_column or self.image_column, ", or to null for none"),
        ):
            if column not in split.features:
                raise ValueError(
                    f"{where}: there is no column {column}; set corpus.{key} to one of: "
                    f"{', '.join(split.features)}{otherwise}"
                )
        if not isinstance(split.features[self.image_column], datasets.Image):
            raise ValueError(
                f"{where}: column {self.image_column} holds no images but {split.features[self.image_column]}; "
                "set corpus.image_column to one that does"
            )
        if len(split) == 0:
            raise ValueError(f"{where}: holds no images; at least one is needed")

    def _labels(self, where: str, split: Any) -> tuple[tuple[str, ...], Int64[np.ndarray, " N"] | None]:
        """The names of the classes and each image's label."""
        if self.label_column is None:
            return (), None
        feature = split.features[self.label_column]
        if getattr(feature, "dtype", None) not in _LABEL_TYPES:
            raise ValueError(
                f"{where}: column {self.label_column} holds no labels but {feature}; set corpus.label_column to one "
                "of whole numbers, or to null for none"
            )
        values = split[self.label_column][:]
        if None in values:
            raise ValueError(f"{where}: row {values.index(None)}: no label in column {self.label_column}")
        labels = np.array(values, dtype=np.int64)
        names = getattr(feature, "names", None)  # of a ClassLabel
        return tuple(names or map(str, range(len(np.unique(labels))))), labels

    def _encoded(self, where: str, split: Any) -> Iterator[tuple[str, bytes]]:
        """Each row's place, for messages, and its image as it was stored: PNG, JPEG …"""
        import datasets

        rows = split.select_columns([self.image_column]).cast_column(self.image_column, datasets.Image(decode=False))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            stored = rows[start : start + _ROWS_AT_ONCE][self.image_column]
            for row, image in enumerate(stored, start=start):
                if image is None or not (image["bytes"] or image["path"]):
                    raise ValueError(f"{where}: row {row}: no image in column {self.image_column}; leave it out")
                place = f"{where}: row {row}"
                yield place, image["bytes"] or _read_bytes(place, Path(image["path"]))

    def _cut(self, whole: Images) -> dict[str, Images]:
        """Train and valid out of the one, by SPLIT_SEED."""
        if len(whole) <= self.num_valid:
            raise ValueError(
                f"{self.name} ({self.train_split}): holds {len(whole):,} images, of which corpus.num_valid = "
                f"{self.num_valid:,} leaves none to train on; set corpus.num_valid lower, or corpus.valid_split"
            )
        order = np.random.default_rng(SPLIT_SEED).permutation(len(whole))
        valid, train = np.sort(order[: self.num_valid]), np.sort(order[self.num_valid :])
        return {"train": whole.select(train), "valid": whole.select(valid)}


def _read_bytes(where: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {path} cannot be read ({error.strerror}); put it there or leave it out") from error
