"""A corpus and recipes small enough to train in a second."""

import random
from pathlib import Path

from textvae.recipe import TextRecipe, find_recipe, load_recipe

SUBJECTS = ("the dog", "a cat", "my friend", "the old man", "no child")
VERBS = ("saw", "liked", "followed", "did not see")
OBJECTS = ("the river", "a small house", "the road to the town", "nothing", "me")

SMALL = (
    "model.latent_size=4",
    "model.embedding_size=12",
    "model.hidden_size=16",
    "train.tokens_per_batch=96",
    "train.precision=fp32",
    "train.checkpoint_steps=10",
    "train.log_steps=5",
    "train.keep_checkpoints=3",
)


def sentences(num_sentences: int, seed: int = 0) -> list[str]:
    """Distinct sentences of a small language."""
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < num_sentences:
        words = [rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(OBJECTS)]
        if rng.random() < 0.5:
            words += ["and then", rng.choice(VERBS), rng.choice(OBJECTS)]
        made[" ".join([*words, "."])] = None
    return list(made)


def write_corpus(folder: Path, num_sentences: int = 120) -> Path:
    """A file of sentences, one a line."""
    path = folder / "tiny.txt"
    path.write_text("\n".join(sentences(num_sentences)) + "\n", encoding="utf-8")
    return path


def tiny_recipe(corpus: Path, *overrides: str, recipe: str = "lstm") -> TextRecipe:
    """A recipe on the file, shrunk."""
    on_file = ("corpus.kind=files", f"corpus.path={corpus}", "corpus.tokenizer.min_count=1")
    return load_recipe(find_recipe(recipe), (*on_file, *SMALL, "train.steps=30", *overrides))
