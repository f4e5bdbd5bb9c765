"""The text side: its recipes, and what a run of sentences is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save

from corpora import Corpus, Splits, TextBatch, TokenBatches, Tokenizer, evaluation_batches, load_splits
from latent.training import Run, RunError, Schema, Side, TrainingData
from latent.training.files import read_plain
from textvae.likelihood import Given
from textvae.models import SentenceModel
from textvae.recipe import TextRecipe

TOKENIZER = "tokenizer.model"
GIVEN = "given.safetensors"
MAX_GIVEN = 2**30  # bytes: a million words of 256 numbers
TOKENS_AT_ONCE = 8192  # padded positions in a batch where no gradient is needed


@dataclass(frozen=True)
class TextMaterial:
    """The recipe's corpus, encoded, and what its model is given of it."""

    recipe: TextRecipe
    splits: Splits
    given: Given

    @property
    def files(self) -> Mapping[str, bytes]:
        """The tokenizer, and the tensors that the model is given, if any."""
        given = {GIVEN: save(dict(self.given.tensors))} if self.given.tensors else {}
        return {TOKENIZER: self.splits.tokenizer.to_bytes(), **given}

    def build_model(self) -> SentenceModel:
        """The recipe's model for the tokenizer's ids."""
        model = self.recipe.model.build(len(self.splits.tokenizer))
        found = model.load_state_dict(dict(self.given.tensors), strict=False)
        assert not found.unexpected_keys
        return model

    @cached_property
    def batches(self) -> TokenBatches:
        """The order of training."""
        return TokenBatches(self.splits.train, self.recipe.train.tokens_per_batch, self.recipe.train.seed)

    def training_data(self) -> TrainingData:
        """The order of training and the validation batches."""
        return TrainingData(
            batches=self.batches,
            validation=self._validation_batches(),
            unit="tokens",
            units_per_batch=self.splits.train.num_scored_tokens / self.batches.num_batches,
        )

    def describe(self) -> list[str]:
        """The corpus' size, and what was left out of it."""
        splits = self.splits
        return [
            f"corpus {self.recipe.corpus.kind}: "
            f"{len(splits.train):,} / {len(splits.valid):,} / {len(splits.test):,} sentences, "
            f"{splits.train.num_scored_tokens:,} training tokens, vocabulary {splits.tokenizer.vocabulary_size:,}, "
            f"{self.batches.num_batches} batches an epoch, padding {self.batches.padding:.1%}",
            *(
                f"{name}: {counts.empty:,} empty lines skipped, {counts.cut:,} long sentences cut to max_length"
                for name, counts in splits.counts.items()
                if counts.empty or counts.cut
            ),
            *self.given.notes,
        ]

    def _validation_batches(self) -> list[TextBatch]:
        valid = self.splits.valid
        size = min(self.recipe.train.validation_size, len(valid))
        subset = valid.select(np.random.default_rng(0).permutation(len(valid))[:size])
        return list(evaluation_batches(subset, TOKENS_AT_ONCE))


def check_recipe(recipe: TextRecipe) -> None:
    """Raise ValueError for what can be known to be wrong before the corpus is read."""
    recipe.model.check_length(recipe.corpus.max_length)
    recipe.model.check()
    if recipe.update.kind == "vae_gan":
        raise ValueError("update.kind: vae_gan trains models of images; set update.kind=adversarial, or joint")


def read_material(recipe: TextRecipe, run: Run | None) -> TextMaterial:
    """The corpus, encoded with the run's own tokenizer, or with one trained on it; and what the model is given."""
    splits = load_splits(recipe.corpus, None if run is None else stored_tokenizer(run))
    return TextMaterial(recipe, splits, recipe.model.read_given(splits) if run is None else stored_given(recipe, run))


def stored_given(recipe: TextRecipe, run: Run) -> Given:
    """What the run's model was given. Raises RunError if it is missing or damaged."""
    if not recipe.model.given:
        return Given()
    path = run.path / GIVEN
    try:
        tensors = load(read_plain(path, MAX_GIVEN))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: what the model was given cannot be read ({error}); train the run again") from error
    if set(tensors) != set(recipe.model.given):
        raise RunError(f"{path}: holds {', '.join(sorted(tensors))}, not what this model is given; train the run again")
    return Given(tensors)


def stored_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that the run was trained with. Raises RunError if it is missing or damaged."""
    path = run.path / TOKENIZER
    try:
        return Tokenizer.from_bytes(read_plain(path))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: the run's tokenizer cannot be read ({error}); train the run again") from error


TEXT: Side[TextRecipe] = Side(
    name="text",
    schema=Schema(TextRecipe),
    corpus_kinds=frozenset(member.kind for member in get_args(get_args(Corpus)[0])),
    folder=Path(__file__).parent / "recipes",
    read=read_material,
    check=check_recipe,
)
