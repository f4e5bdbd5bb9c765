"""`kind: mnist_quadrants` and `kind: digits_quadrants`: some quadrants of an image are given, the others predicted.

Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models",
section 5.1.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from pydantic import NonNegativeInt, PositiveInt

from corpora.images.binarisation import GreyBinarisation
from corpora.images.digits import Digits
from corpora.images.idx import Mnist
from corpora.images.images import Images, LevelSplits, times

NumQuadrants = Literal[1, 2, 3]


@dataclass(frozen=True, kw_only=True)
class _Quadrants(ABC):
    """Images of another corpus, of which `num_quadrants` quadrants are observed.

    One is the lower left quadrant, two the left half, three all but the lower right quadrant, as in Pyro's re-run of
    the experiment; the paper does not say which. Of an odd height or width the upper or left part is the smaller one.
    """

    kind: str
    num_quadrants: NumQuadrants = 1
    context: Literal["binarised", "grey"] = "binarised"  # what is given: as it is drawn, or levels as they are stored

    @property
    @abstractmethod
    def whole(self) -> Digits | Mnist:
        """The corpus of the whole images."""

    def fingerprint(self) -> str:
        """A digest of the images, the binarisation and what is observed. Raises ValueError as `read`."""
        return json.dumps([self.kind, self.whole.fingerprint(), self.num_quadrants, self.context])

    def read(self) -> LevelSplits:
        """The splits as levels. Raises ValueError where they cannot be read or have no quadrants."""
        stored = self.whole.read()
        observed = observed_quadrants(stored.train.shape, self.num_quadrants, stored.source)
        return replace(
            stored,
            train=self._given(stored.train, observed),
            valid=self._given(stored.valid, observed),
            test=self._given(stored.test, observed),
        )

    def _given(self, images: Images, observed: Bool[np.ndarray, "C H W"]) -> Images:
        """Images of another size, which the loading of the corpus refuses, are left as they are."""
        if images.shape != observed.shape:
            return images
        return replace(images, observed=observed, context=images.levels if self.context == "grey" else None)


@dataclass(frozen=True, kw_only=True)
class MnistQuadrants(_Quadrants):
    """MNIST, of whose 784 pixels 588, 392 or 196 are to be predicted. The other keys are `Mnist`'s."""

    kind: Literal["mnist_quadrants"] = "mnist_quadrants"
    path: Path
    binarisation: GreyBinarisation = "dynamic"
    binarisation_seed: NonNegativeInt = 0  # of the one draw of valid and test
    num_valid: PositiveInt = 400

    @property
    def whole(self) -> Mnist:
        """MNIST."""
        return Mnist(
            path=self.path,
            binarisation=self.binarisation,
            binarisation_seed=self.binarisation_seed,
            num_valid=self.num_valid,
        )

    def resolved(self) -> "MnistQuadrants":
        """The same corpus from any folder: with an absolute path."""
        return replace(self, path=self.path.expanduser().absolute())


@dataclass(frozen=True, kw_only=True)
class DigitsQuadrants(_Quadrants):
    """scikit-learn's digits, of whose 64 pixels 48, 32 or 16 are to be predicted. The other keys are `Digits`'."""

    kind: Literal["digits_quadrants"] = "digits_quadrants"
    binarisation: GreyBinarisation = "dynamic"
    binarisation_seed: NonNegativeInt = 0  # of the one draw of valid and test

    @property
    def whole(self) -> Digits:
        """The digits."""
        return Digits(binarisation=self.binarisation, binarisation_seed=self.binarisation_seed)

    def resolved(self) -> "DigitsQuadrants":
        """The same corpus wherever it is asked for."""
        return self


def observed_quadrants(
    shape: tuple[int, int, int], num_quadrants: NumQuadrants, source: str
) -> Bool[np.ndarray, "C H W"]:
    """Which pixels are given. Raises ValueError, naming the source, for images of a single row or column."""
    _, height, width = shape
    if min(height, width) < 2:
        raise ValueError(f"{source}: images of {times(shape)} have no quadrants; use images of two rows and columns")
    observed = np.zeros(shape, dtype=bool)
    observed[:, height // 2 :, : width // 2] = True
    observed[:, : height // 2, : width // 2] |= num_quadrants >= 2
    observed[:, : height // 2, width // 2 :] |= num_quadrants == 3
    return observed
