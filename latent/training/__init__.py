"""Training: recipes, updates, the loop, run folders and checkpoints."""

from latent.training.config import ConfigError, Schema, apply_overrides, read_tree
from latent.training.console import Reporter, open_reporter
from latent.training.loop import TrainingData, train
from latent.training.opening import restore_model
from latent.training.precision import open_accelerator
from latent.training.recipe import Recipe, TrainConfig
from latent.training.runs import Run, RunError, find_run
from latent.training.seeding import seed_everything
from latent.training.side import Material, RecipeFile, Side, find_recipe, list_recipes, side_of
from latent.training.sources import check_corpus, check_recipe
from latent.training.start import build_state, resume_run, start_run
from latent.training.state import TrainState
from latent.training.updates import JointUpdate, Update

__all__ = [
    "ConfigError",
    "JointUpdate",
    "Material",
    "Recipe",
    "RecipeFile",
    "Reporter",
    "Run",
    "RunError",
    "Schema",
    "Side",
    "TrainConfig",
    "TrainState",
    "TrainingData",
    "Update",
    "apply_overrides",
    "build_state",
    "check_corpus",
    "check_recipe",
    "find_recipe",
    "find_run",
    "list_recipes",
    "open_accelerator",
    "open_reporter",
    "read_tree",
    "restore_model",
    "resume_run",
    "seed_everything",
    "side_of",
    "start_run",
    "train",
]
