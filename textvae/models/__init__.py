"""The sentence VAEs: one file per model, its config beside its class, its name in the union below."""

from textvae.models.lstm import LstmVaeConfig
from textvae.models.sentence_vae import SentenceVae

Model = LstmVaeConfig  # more than one becomes Annotated[A | B, Field(discriminator="kind")]


__all__ = ["LstmVaeConfig", "Model", "SentenceVae"]
