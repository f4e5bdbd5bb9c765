"""A trained run, opened for use: model, tokenizer, recipe, checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from corpora import UNK, Sentences, Splits, Tokenizer, encode_sentences, load_splits
from latent.training import Run, check_corpus, restore_model
from latent.training.checkpoints import Checkpoint
from textvae.models import SentenceModel
from textvae.recipe import TextRecipe
from textvae.side import TEXT, stored_tokenizer


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with all that is needed to use it."""

    run: Run
    recipe: TextRecipe
    tokenizer: Tokenizer
    model: SentenceModel
    checkpoint: Checkpoint
    device: torch.device
    warnings: tuple[str, ...]

    @cached_property
    def splits(self) -> Splits:
        """The run's corpus, encoded with the run's own tokenizer: read once, however often it is asked for.

        Raises RunError where its text is not what the run was trained on.
        """
        check_corpus(self.run, self.recipe.corpus)
        return load_splits(self.recipe.corpus, self.tokenizer)

    def encoded(self, texts: Sequence[str]) -> Sentences:
        """The sentences as the model reads them, written in the form of its corpus first."""
        corpus = self.recipe.corpus
        return encode_sentences([corpus.normalise(text) for text in texts], self.tokenizer, corpus.max_length)

    def encode(self, texts: Sequence[str]) -> Sentences:
        """The sentences as the model reads them.

        Raises ValueError, naming the text, for one that is empty or has no known word.
        """
        sentences = self.encoded(texts)
        for number, text in enumerate(texts):
            words = sentences[number][1:-1]
            if len(words) == 0:
                raise ValueError(f"{text!r}: an empty sentence has nothing to encode")
            if (words == UNK).all():
                raise ValueError(f"{text!r}: no word of it is in the run's vocabulary; use words of its corpus")
        return sentences


def open_trained(run: Run, which: str = "best") -> Trained:
    """Open a run at its checkpoint `best` (by validation ELBO), `last` or `step-000500`.

    Raises RunError where the run has no tokenizer or no whole checkpoint.
    """
    recipe = TEXT.load_recipe(run.config_path)
    tokenizer = stored_tokenizer(run)
    build = partial(recipe.model.build, len(tokenizer))
    model, checkpoint, device, warnings = restore_model(run, build, which)
    return Trained(run, recipe, tokenizer, model, checkpoint, device, warnings)
