"""From a corpus of images to splits that can be trained and evaluated on."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from corpora.images.binarisation import Binarisation, binarise
from corpora.images.cub import Cub
from corpora.images.digits import Digits
from corpora.images.hub import ImageHub
from corpora.images.idx import FashionMnist, Mnist
from corpora.images.images import Images, LevelSplits, times
from corpora.images.masks import Masks
from corpora.images.quadrants import DigitsQuadrants, MnistQuadrants
from corpora.images.static import MnistStatic
from corpora.texts import SPLITS

ImageCorpus = Annotated[
    Cub | Digits | DigitsQuadrants | FashionMnist | ImageHub | Masks | Mnist | MnistQuadrants | MnistStatic,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSplits:
    """A corpus of images. `train` holds grey levels, which `ImageBatches` binarises; valid and test are binarised."""

    train: Images
    valid: Images
    test: Images
    binarisation: Binarisation
    binarisation_seed: int  # of the one draw of every split that figures are computed on
    class_names: tuple[str, ...] = ()  # what label i stands for; none where the images have no labels
    notes: tuple[str, ...] = ()  # what a reader of figures made with these images has to know
    is_official: bool | None = None  # whether every file has its published checksum; None where none is published

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.train.shape

    @property
    def num_observed(self) -> int:
        """How many of an image's values are given, the others being predicted; 0 where none are."""
        return 0 if self.train.observed is None else int(self.train.observed.sum())

    @property
    def context_channels(self) -> int:
        """Of the other image that is given whole with each one; 0 where there is none."""
        whole = self.train.context if self.train.observed is None else None
        return 0 if whole is None else whole.shape[1]

    def photographs(self) -> "ImageSplits":
        """What is given of each image as the images, by themselves: the masks are not among these splits at all."""
        return replace(
            self,
            train=self.train.photographs(),
            valid=self.valid.photographs(),
            test=self.test.photographs(),
            binarisation="grey",
        )

    def by_name(self) -> dict[str, Images]:
        """The splits to evaluate on under their names: train (binarised once, as the others), valid, test."""
        return {"train": self._evaluated_train, "valid": self.valid, "test": self.test}

    @cached_property
    def _evaluated_train(self) -> Images:
        return _binarise(self.train, "train", self.binarisation, self.binarisation_seed)


def load_images(corpus: ImageCorpus) -> ImageSplits:
    """Read a corpus of images and binarise its evaluation splits, the same way at every call.

    Raises ValueError, naming file and remedy, for a corpus that cannot be used.
    """
    stored = corpus.read()
    _check_shapes(stored)
    _check_classes(stored)
    return ImageSplits(
        train=stored.train,
        valid=_binarise(stored.valid, "valid", corpus.binarisation, corpus.binarisation_seed),
        test=_binarise(stored.test, "test", corpus.binarisation, corpus.binarisation_seed),
        binarisation=corpus.binarisation,
        binarisation_seed=corpus.binarisation_seed,
        class_names=stored.class_names,
        notes=stored.notes,
        is_official=stored.is_official,
    )


def _binarise(images: Images, name: str, binarisation: Binarisation, seed: int) -> Images:
    return binarise(images, binarisation, (seed, SPLITS.index(name)))


def _check_shapes(stored: LevelSplits) -> None:
    for name, split in (("valid", stored.valid), ("test", stored.test)):
        if split.shape != stored.train.shape:
            raise ValueError(
                f"{stored.source}: the {name} images have {times(split.shape)} values (channels × height × width), the "
                f"training images {times(stored.train.shape)}; use images of one size"
            )


def _check_classes(stored: LevelSplits) -> None:
    """Raises ValueError unless the training labels are exactly 0 to K - 1 and the other splits know no more."""
    if stored.train.labels is None:
        return
    held = np.unique(stored.train.labels)
    for name, split in (("train", stored.train), ("valid", stored.valid), ("test", stored.test)):
        assert split.labels is not None
        outside = split.labels[(split.labels < 0) | (split.labels >= len(stored.class_names))]
        if len(outside):
            raise ValueError(
                f"{stored.source}: label {outside[0]} in the {name} split, where classes are numbered 0 to "
                f"{len(stored.class_names) - 1}; number them 0, 1, 2 … and leave out images without a class"
            )
    missing = np.setdiff1d(np.arange(len(stored.class_names)), held)
    if len(missing):
        raise ValueError(
            f"{stored.source}: a class without examples: none of the {len(stored.train):,} training images has label "
            f"{missing[0]} ({stored.class_names[missing[0]]}); number the classes 0, 1, 2 … without gaps and give "
            "each a training image"
        )
