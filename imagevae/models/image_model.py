"""How an image model turns z into pixels that can be shown, where its pixels are independent given z."""

from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from corpora.images import ImageBatch
from imagevae.drawing import Drawing
from latent.bound import LatentModel


@runtime_checkable
class OfPixels(Protocol):
    """A likelihood that says of each pixel what is expected, and draws it."""

    def mean(self, a: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        """E[x|a]."""

    def sample(self, a: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        """A draw of p(x|a)."""


@runtime_checkable
class Pixelwise(Protocol):
    """A decoder whose outputs are one for each of D pixels: the logit of a Bernoulli, the location of others."""

    @property
    def likelihood(self) -> OfPixels:
        """p(x|z)'s last step."""

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B A"]:
        """The outputs; of the batch only the classes, or what is given of each image, are read."""


class IndependentPixels(LatentModel[ImageBatch]):
    """p(x|z) is a product over pixels, so that E[x|z] is at hand."""

    shown_as: ClassVar = "E[x|z]"  # what `shown` is, beside a picture

    def shown(self: Pixelwise, z: Float[Tensor, "B Z"], batch: ImageBatch) -> Float[Tensor, "B D"]:
        """E[x|z] of each pixel."""
        return self.likelihood.mean(self.outputs(z.unsqueeze(0), batch)[0])

    def drawn(self: Pixelwise, z: Float[Tensor, "B Z"], batch: ImageBatch) -> Float[Tensor, "B D"]:
        """A draw of p(x|z)."""
        return self.likelihood.sample(self.outputs(z.unsqueeze(0), batch)[0])

    def drawing(self, z: Float[Tensor, "B Z"], batch: ImageBatch) -> Drawing | None:
        """None: all pixels are made at once."""
        return None
