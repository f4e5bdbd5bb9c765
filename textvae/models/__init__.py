"""The sentence VAEs: one file per model, its config beside its class, its name in the union below."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from textvae.decoding import Decoding
from textvae.models.lstm import LstmVae, LstmVaeConfig

Model = LstmVaeConfig  # more than one becomes Annotated[A | B, Field(discriminator="kind")]


@runtime_checkable
class Decodes(Protocol):
    """What a text model adds to a `LatentModel`."""

    def decode(
        self, z: Float[Tensor, "N Z"], decoding: Decoding, *, max_length: int, generator: torch.Generator | None
    ) -> Int64[Tensor, "N T"]:
        """Sentences for N latent vectors, all at once."""


__all__ = ["Decodes", "LstmVae", "LstmVaeConfig", "Model"]
