"""Text recipes: the shared shape with text corpora and models, and how large their batches are."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from corpora import Corpus
from latent.training import Recipe, TrainConfig
from textvae.models import Model


@dataclass(frozen=True, kw_only=True)
class TextTrain(TrainConfig):
    """How to train, with batches of sentences of like length."""

    tokens_per_batch: Annotated[int, Field(ge=1, le=10_000_000)] = 2048  # padded positions in a batch


TextRecipe = Recipe[Corpus, Model, TextTrain]
