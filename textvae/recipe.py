"""Text recipes: the shared shape with text corpora and models, and the YAML files that come with the project."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from corpora import Corpus
from latent.training import ConfigError, Recipe, Schema, apply_overrides, read_tree
from latent.training.recipe import EXCLUSIVE_KEYS
from textvae.models import Model

TextRecipe = Recipe[Corpus, Model]
SCHEMA: Schema[TextRecipe] = Schema(TextRecipe)
FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class RecipeFile:
    """A recipe by name, with the first line of its comment."""

    name: str
    path: Path
    summary: str


def list_recipes() -> list[RecipeFile]:
    """The recipes that come with the project."""
    return [
        RecipeFile(path.stem, path, path.read_text("utf-8").splitlines()[0].lstrip("# "))
        for path in sorted(FOLDER.glob("*.yaml"))
    ]


def find_recipe(name: str) -> Path:
    """The recipe's file: by path, by name, or by the unique beginning of a name.

    Raises ConfigError, with the nearest names, when none or several fit.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    paths = {recipe.name: recipe.path for recipe in list_recipes()}
    fitting = [known for known in paths if known.startswith(name)]
    if name in paths or len(fitting) == 1:
        return paths[name if name in paths else fitting[0]]
    near = fitting or difflib.get_close_matches(name, paths, n=3, cutoff=0.3) or sorted(paths)
    what = "several recipes begin so" if fitting else "no such recipe"
    raise ConfigError(f"{name}: {what}; did you mean {' or '.join(near)}? (`textvae recipes` lists them all)")


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> TextRecipe:
    """Read and validate a recipe with its overrides. Raises ConfigError."""
    tree = apply_overrides(read_tree(path), overrides, EXCLUSIVE_KEYS)
    return SCHEMA.validate(tree, path.name)


def dump_recipe(recipe: TextRecipe) -> str:
    """The recipe as YAML, fully resolved."""
    return SCHEMA.dump(recipe)
