"""The sentence VAEs: one file per model, its config beside its class, its name in the union below."""

from typing import Annotated

from pydantic import Field

from textvae.models.lstm import LstmVaeConfig
from textvae.models.sentence_vae import SentenceVae
from textvae.models.transformer import TransformerVaeConfig

Model = Annotated[LstmVaeConfig | TransformerVaeConfig, Field(discriminator="kind")]


__all__ = ["LstmVaeConfig", "Model", "SentenceVae", "TransformerVaeConfig"]
