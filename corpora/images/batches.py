"""The order of training and evaluation on images."""

from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Int64

from corpora.images.augmentation import Augmentation
from corpora.images.binarisation import Binarisation, binarise
from corpora.images.images import ImageBatch, Images


class _Stream(IntEnum):
    """Independent streams of one seed."""

    ORDER = 0
    BINARISATION = 1
    AUGMENTATION = 2


class ImageBatches:
    """The endless order of training: `batches[i]` is a pure function of (seed, i), so a resumed run needs no state.

    Each epoch holds every image once, shuffled by (seed, epoch), in batches of `images_per_batch`, the last of them
    smaller where there is a rest. Under `dynamic` the pixels of batch i are drawn anew by (seed, i), and so is
    what `augmentation` does to them.
    """

    def __init__(
        self,
        images: Images,
        images_per_batch: int,
        seed: int,
        binarisation: Binarisation,
        augmentation: Augmentation | None = None,
    ) -> None:
        assert len(images) > 0
        assert images_per_batch > 0
        self._images = images
        self._images_per_batch = images_per_batch
        self._seed = seed
        self._binarisation: Binarisation = binarisation
        self._augmentation = augmentation
        self._epoch = -1
        self._order: Int64[np.ndarray, " N"]  # of the current epoch

    @property
    def num_batches(self) -> int:
        """Batches in an epoch; the same for all epochs."""
        return -(-len(self._images) // self._images_per_batch)

    def __getitem__(self, index: int) -> ImageBatch:
        """Batch number `index` of the training, from 0, without end."""
        if index < 0:
            raise IndexError(f"the training order starts at 0 and has no end; got {index}")
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, _Stream.ORDER, epoch))
            self._order, self._epoch = rng.permutation(len(self._images)), epoch
        start = position * self._images_per_batch
        indices = self._order[start : start + self._images_per_batch].copy()
        chosen = binarise(self._images.select(indices), self._binarisation, (self._seed, _Stream.BINARISATION, index))
        weight = len(indices) * self.num_batches / len(self._images)
        batch = replace(chosen.batch(range(len(indices)), weight), indices=torch.from_numpy(indices))
        if self._augmentation is None:
            return batch
        return self._augmentation(batch, (self._seed, _Stream.AUGMENTATION, index))


def image_evaluation_batches(images: Images, images_per_batch: int) -> Iterator[ImageBatch]:
    """Every image once, in the order of the split, as it is: an evaluation split has been binarised already."""
    for start in range(0, len(images), images_per_batch):
        yield images.batch(range(start, min(start + images_per_batch, len(images))))
