"""`kind: digits`: the 8×8 handwritten digits that come with scikit-learn."""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt

from corpora.images.binarisation import GreyBinarisation
from corpora.images.images import Images, LevelSplits
from corpora.texts import SPLIT_SEED

NUM_VALID, NUM_TEST = 200, 300


@dataclass(frozen=True, kw_only=True)
class Digits:
    """1,797 digits of 8×8 pixels (UCI, test part of "Optical recognition of handwritten digits"), at hand offline.

    Levels 0 to 16 are stretched to 0 to 255 and rounded. The split is always the same: 1,297 / 200 / 300, with the
    digits in equal shares.
    """

    kind: Literal["digits"] = "digits"
    binarisation: GreyBinarisation = "dynamic"
    binarisation_seed: NonNegativeInt = 0  # of the one draw of valid and test

    def fingerprint(self) -> str:
        """A digest of the images and of the binarisation."""
        return json.dumps([self.kind, self.read().digest(), self.binarisation, self.binarisation_seed])

    def resolved(self) -> "Digits":
        """The same corpus wherever it is asked for."""
        return self

    def read(self) -> LevelSplits:
        """The splits as levels."""
        from sklearn.datasets import load_digits  # takes a second, which other corpora need not pay
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        levels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        labels = bunch.target.astype(np.int64)
        digits = Images(levels=levels, labels=labels)
        indices = np.arange(len(digits))
        rest, test = train_test_split(indices, test_size=NUM_TEST, stratify=labels, random_state=SPLIT_SEED)
        train, valid = train_test_split(rest, test_size=NUM_VALID, stratify=labels[rest], random_state=SPLIT_SEED)
        return LevelSplits(
            source="scikit-learn's digits",
            train=digits.select(np.sort(train)),
            valid=digits.select(np.sort(valid)),
            test=digits.select(np.sort(test)),
            class_names=tuple(str(name) for name in bunch.target_names),
        )
