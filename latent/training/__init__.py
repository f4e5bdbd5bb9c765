"""Training: recipes, updates, the loop, run folders and checkpoints."""

from latent.training.config import ConfigError, Schema, apply_overrides, read_tree
from latent.training.console import Reporter, open_reporter
from latent.training.loop import train
from latent.training.precision import open_accelerator
from latent.training.recipe import Recipe, TrainConfig
from latent.training.runs import Run, RunError, find_run
from latent.training.seeding import seed_everything
from latent.training.state import TrainState
from latent.training.updates import JointUpdate, Update

__all__ = [
    "ConfigError",
    "JointUpdate",
    "Recipe",
    "Reporter",
    "Run",
    "RunError",
    "Schema",
    "TrainConfig",
    "TrainState",
    "Update",
    "apply_overrides",
    "find_run",
    "open_accelerator",
    "open_reporter",
    "read_tree",
    "seed_everything",
    "train",
]
