"""A trained run, opened for use: model, tokenizer, recipe, checkpoint."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from corpora import UNK, Corpus, Sentences, Splits, Tokenizer, encode_sentences, load_splits
from latent.training import Run, RunError
from latent.training.checkpoints import Checkpoint, load_model
from textvae.models import LstmVae
from textvae.recipe import TextRecipe, load_recipe

TOKENIZER, CORPUS = "tokenizer.model", "corpus.json"
TOKENS_AT_ONCE = 8192  # padded positions in a batch where no gradient is needed


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with all that is needed to use it."""

    run: Run
    recipe: TextRecipe
    tokenizer: Tokenizer
    model: LstmVae
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


def best_device() -> torch.device:
    """A CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_trained(run: Run, which: str = "best") -> Trained:
    """Open a run at its checkpoint `best` (by validation ELBO), `last` or `step-000500`.

    Raises RunError where the run has no tokenizer or no whole checkpoint.
    """
    recipe = load_recipe(run.config_path)
    checkpoint, damaged = run.checkpoint(which)
    tokenizer = stored_tokenizer(run)
    device = best_device()
    model = recipe.model.build(len(tokenizer)).to(device)
    load_model(checkpoint, model)
    warnings = tuple(f"{line}; using {checkpoint.path.name}" for line in damaged)
    return Trained(run, recipe, tokenizer, model.eval(), checkpoint, device, warnings)


def describe_corpus(corpus: Corpus) -> bytes:
    """What stands in a run for its corpus' text: a digest."""
    digest = hashlib.sha256(corpus.fingerprint().encode()).hexdigest()
    return (json.dumps({"sha256": digest}) + "\n").encode()


def check_corpus(run: Run, corpus: Corpus) -> None:
    """Raise RunError where the text of the corpus is not what the run was trained on."""
    path = run.path / CORPUS
    if not path.is_file() or path.read_bytes() != describe_corpus(corpus):
        raise RunError(
            f"{path}: the text of the corpus has changed since the training, so that its splits are others; "
            "put it back, or train a new run"
        )


def stored_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that the run was trained with. Raises RunError if it is missing or damaged."""
    path = run.path / TOKENIZER
    try:
        return Tokenizer.from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: the run's tokenizer cannot be read ({error}); train the run again") from error
