"""The sentence VAEs: one file per model, its config beside its class, its name in the union below."""

from typing import Annotated

from pydantic import Field

from textvae.models.continuous import ContinuousVaeConfig
from textvae.models.lstm import LstmVaeConfig
from textvae.models.sentence_vae import SentenceVae

Model = Annotated[LstmVaeConfig | ContinuousVaeConfig, Field(discriminator="kind")]


__all__ = ["ContinuousVaeConfig", "LstmVaeConfig", "Model", "SentenceVae"]
