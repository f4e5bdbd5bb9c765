"""A side of the project, text or images: what each supplies, so that everything else is written once."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from latent.bound import LatentModel
from latent.training.config import ConfigError, Schema, Tree, apply_overrides, read_tree
from latent.training.loop import TrainingData
from latent.training.recipe import Recipe
from latent.training.runs import Run

EXCLUSIVE_KEYS = ("train.steps", "train.epochs")  # setting one of them takes the other out of a recipe

RecipeT = TypeVar("RecipeT", bound=Recipe[Any, Any, Any])


@runtime_checkable
class Material(Protocol):
    """A recipe's corpus, read: what a model of it is built and trained with."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """What a run keeps beside its recipe, so that its model can be built again without the corpus."""

    def build_model(self) -> LatentModel[Any]:
        """The recipe's model, freshly initialised."""

    def training_data(self) -> TrainingData:
        """The order of training and the validation batches."""

    def describe(self) -> list[str]:
        """Lines for the log: what is trained on, and what was left out of it."""


@dataclass(frozen=True)
class Side(Generic[RecipeT]):
    """The shape of a side's recipes, which corpora are its own, where its recipes lie and how it reads a corpus.

    `read` takes the run whose stored files are to be used instead of what would be made from the corpus, if any.
    `check` raises ValueError for what a recipe names beside its corpus and cannot be used.
    """

    name: str
    schema: Schema[RecipeT]
    corpus_kinds: frozenset[str]
    folder: Path
    read: Callable[[RecipeT, Run | None], Material]
    check: Callable[[RecipeT], None] = lambda recipe: None

    def load_recipe(self, path: Path, overrides: Iterable[str] = ()) -> RecipeT:
        """Read and validate a recipe with its overrides. Raises ConfigError.

        A part that has a default, such as `update`, is of the default's kind where it names none.
        """
        tree = _tree(path, overrides)
        for part in fields(Recipe):
            if part.default_factory is not MISSING and isinstance(tree.get(part.name), dict):
                tree[part.name] = {"kind": part.default_factory().kind} | tree[part.name]
        return self.schema.validate(tree, path.name)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe by name, with the first line of its comment."""

    name: str
    path: Path
    summary: str


def list_recipes(folders: Iterable[Path]) -> list[RecipeFile]:
    """The recipes that come with the project."""
    return [
        RecipeFile(path.stem, path, path.read_text("utf-8").splitlines()[0].lstrip("# "))
        for folder in folders
        for path in sorted(folder.glob("*.yaml"))
    ]


def find_recipe(name: str, folders: Iterable[Path]) -> Path:
    """The recipe's file: by path, by name, or by the unique beginning of a name.

    Raises ConfigError, with the nearest names, when none or several fit.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    paths = {recipe.name: recipe.path for recipe in list_recipes(folders)}
    fitting = [known for known in paths if known.startswith(name)]
    if name in paths or len(fitting) == 1:
        return paths[name if name in paths else fitting[0]]
    near = fitting or difflib.get_close_matches(name, paths, n=3, cutoff=0.3) or sorted(paths)
    what = "several recipes begin so" if fitting else "no such recipe"
    raise ConfigError(f"{name}: {what}; did you mean {' or '.join(near)}? (`textvae recipes` lists them all)")


def side_of(path: Path, sides: Sequence[Side[Any]], overrides: Iterable[str] = ()) -> Side[Any]:
    """The side whose corpus a recipe names. Raises ConfigError where no side has it."""
    corpus = _tree(path, overrides).get("corpus")
    kind = str(corpus.get("kind") if isinstance(corpus, dict) else corpus)
    for side in sides:
        if kind in side.corpus_kinds:
            return side
    known = ", ".join(sorted(kind for side in sides for kind in side.corpus_kinds))
    raise ConfigError(f"{path.name}: corpus.kind: {kind!r} is none of: {known}")


def _tree(path: Path, overrides: Iterable[str]) -> Tree:
    return apply_overrides(read_tree(path), overrides, EXCLUSIVE_KEYS)
