"""One split of images as levels of 0 to 255, and the batches cut from it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer, UInt8
from torch import Tensor

from corpora.devices import send


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageBatch:
    """B images: 0 and 1 where they have been binarised, grey level / 255 where they have not."""

    pixels: Float[Tensor, "B C H W"]
    indices: Int64[Tensor, " B"]  # the images' positions in their split
    labels: Int64[Tensor, " B"] | None = None
    weight: float = 1.0  # B over the epoch's mean B: times a mean over the batch, every image counts the same
    context: Float[Tensor, "B K H W"] | None = None  # what is given: a part of an image, 0 elsewhere, or another image
    scored: Bool[Tensor, "C H W"] | None = None  # the pixels that are to be predicted from it; None stands for all

    def __len__(self) -> int:
        return len(self.pixels)

    def mean_over_scored(self, values: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Of a value for each of the D = C·H·W pixels, the mean over those that are to be predicted."""
        return values.mean(1) if self.scored is None else values[:, self.scored.flatten()].mean(1)

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The batch on a device; the copy need not be over when this returns."""
        return replace(
            self,
            pixels=send(self.pixels, device),
            indices=send(self.indices, device),
            labels=None if self.labels is None else send(self.labels, device),
            context=None if self.context is None else send(self.context, device),
            scored=None if self.scored is None else send(self.scored, device),
        )

    def take(self, rows: Int64[Tensor, " M"]) -> "ImageBatch":
        """The images at the given rows, in their order."""
        return replace(
            self,
            pixels=self.pixels[rows],
            indices=self.indices[rows],
            labels=None if self.labels is None else self.labels[rows],
            weight=self.weight * len(rows) / max(1, len(self)),
            context=None if self.context is None else self.context[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The N images of one split, in memory: C channels of H rows of W levels, 0 to 255."""

    levels: UInt8[np.ndarray, "N C H W"]
    labels: Int64[np.ndarray, " N"] | None = None
    observed: Bool[np.ndarray, "C H W"] | None = None  # the pixels that are given, where the others are predicted
    context: UInt8[np.ndarray, "N K H W"] | None = (
        None  # what is given where it is not `levels`; without `observed` all
    )

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, channels, height, width = self.levels.shape
        return channels, height, width

    @cached_property
    def mean(self) -> Float64[np.ndarray, "C H W"]:
        """Each pixel's mean over the split, of level / 255: the probabilities that an output bias begins with."""
        mean: Float64[np.ndarray, "C H W"] = self.levels.mean(axis=0, dtype=np.float64) / 255
        return mean

    def photographs(self) -> "Images":
        """The other images that are given whole with these, by themselves."""
        assert self.context is not None
        assert self.observed is None
        return Images(levels=self.context, labels=self.labels)

    def select(self, indices: Integer[np.ndarray, " M"]) -> "Images":
        """The images at the indices, in their order, as a split of their own."""
        return replace(
            self,
            levels=self.levels[indices],
            labels=None if self.labels is None else self.labels[indices],
            context=None if self.context is None else self.context[indices],
        )

    def batch(self, indices: Integer[np.ndarray, " B"] | Sequence[int], weight: float = 1.0) -> ImageBatch:
        """The images at the indices, in their order, as level / 255."""
        indices = np.array(indices, dtype=np.int64)  # a copy: the batch's tensor must not share the caller's array
        pixels = torch.from_numpy(self.levels[indices]).float().div_(255)
        given = None if self.context is None else torch.from_numpy(self.context[indices]).float().div_(255)
        observed = None if self.observed is None else torch.from_numpy(self.observed)
        return ImageBatch(
            pixels=pixels,
            indices=torch.from_numpy(indices),
            labels=None if self.labels is None else torch.from_numpy(self.labels[indices]),
            weight=weight,
            context=given if observed is None else (pixels if given is None else given) * observed,
            scored=None if observed is None else ~observed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelSplits:
    """What a corpus hands over: its splits as they are stored, before any binarisation."""

    source: str  # the file, folder or data set, for messages
    train: Images
    valid: Images
    test: Images
    class_names: tuple[str, ...] = ()  # what label i stands for; none where the images have no labels
    notes: tuple[str, ...] = ()  # what a reader of figures made with these images has to know
    is_official: bool | None = None  # whether every file has its published checksum; None where none is published

    def digest(self) -> str:
        """SHA-256 of the levels, the labels and how they are split; what is given of them does not enter."""
        found = hashlib.sha256(json.dumps(self.class_names).encode())
        for split in (self.train, self.valid, self.test):
            found.update(json.dumps([split.levels.shape, split.labels is not None]).encode())
            found.update(np.ascontiguousarray(split.levels).data)
            if split.labels is not None:
                found.update(np.ascontiguousarray(split.labels).data)
        return found.hexdigest()


def times(shape: tuple[int, ...]) -> str:
    """A shape as messages show it: 60000×28×28."""
    return "×".join(str(size) for size in shape) or "no dimension"
