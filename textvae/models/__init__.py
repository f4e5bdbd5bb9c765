"""The models of sentences: one file per model, its config beside its class, its name in the union below."""

from typing import Annotated

from pydantic import Field

from textvae.models.continuous import ContinuousVaeConfig
from textvae.models.lm import LanguageModel, LanguageModelConfig
from textvae.models.lstm import LstmVaeConfig
from textvae.models.sentence_model import SentenceModel
from textvae.models.sentence_vae import SentenceVae
from textvae.models.transformer import TransformerVaeConfig

Model = Annotated[
    ContinuousVaeConfig | LanguageModelConfig | LstmVaeConfig | TransformerVaeConfig, Field(discriminator="kind")
]


__all__ = [
    "ContinuousVaeConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "LstmVaeConfig",
    "Model",
    "SentenceModel",
    "SentenceVae",
    "TransformerVaeConfig",
]
