"""What a training stems from: the content of its corpus, and the run whose encoder it takes over."""

import hashlib
import json
from typing import Any

from latent.training.changes import changed_keys
from latent.training.files import read_plain
from latent.training.runs import Run, RunError
from latent.training.side import RecipeT, Side

CORPUS = "corpus.json"


def describe_corpus(corpus: Any) -> bytes:
    """What stands in a run for its corpus' content: a digest."""
    digest = hashlib.sha256(corpus.fingerprint().encode()).hexdigest()
    return (json.dumps({"sha256": digest}) + "\n").encode()


def check_corpus(run: Run, corpus: Any) -> None:
    """Raise RunError where the content of the corpus is not what the run was trained on."""
    if not _is_of(run, corpus):
        raise RunError(
            f"{run.path / CORPUS}: the content of the corpus has changed since the training, so that its splits are "
            "others; put it back, or train a new run"
        )


def _is_of(run: Run, corpus: Any) -> bool:
    path = run.path / CORPUS
    return path.is_file() and read_plain(path) == describe_corpus(corpus)


def check_recipe(side: Side[RecipeT], recipe: RecipeT) -> None:
    """Raise ValueError for what can be known to be wrong before the corpus is read, and RunError of a first stage.

    `update.encoder_from` is a run with a checkpoint, of this model and corpus. How either is trained may differ, and
    where the corpus lies.
    """
    side.check(recipe)
    update = recipe.update
    if update.kind != "pretrained_encoder" or update.encoder_from is None:
        return
    try:
        run = Run.open(update.encoder_from)
        run.checkpoint("last")
    except RunError as error:
        raise RunError(f"update.encoder_from: {error}") from error
    trees = [side.schema.tree(each) for each in (side.load_recipe(run.config_path), recipe)]
    then, now = ({part: tree[part] for part in ("model", "corpus")} for tree in trees)
    changed = {name: pair for name, pair in changed_keys(then, now).items() if name != "corpus.path"}
    differing = [f"{name} ({one} there, {other} here)" for name, (one, other) in changed.items()]
    if not differing and not _is_of(run, recipe.corpus):
        differing = ["the content of the corpus"]
    if differing:
        raise RunError(
            f"update.encoder_from: {run.path}: a first stage has the model and the corpus of the second, and these "
            f"differ: {', '.join(differing)}"
        )
