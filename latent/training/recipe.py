"""A recipe's shape: one for text and images; each side supplies its unions of corpora and models."""

from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from latent.bound import Constant, ElboObjective, Objective, Schedule
from latent.training.precision import Precision
from latent.training.updates import JointUpdate, Update

Corpus = TypeVar("Corpus")
Model = TypeVar("Model")

EXCLUSIVE_KEYS = ("train.steps", "train.epochs")  # setting one of them takes the other out of a recipe


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how fast and how exactly to train."""

    steps: PositiveInt | None = None  # one of steps and epochs
    epochs: PositiveFloat | None = None
    seed: NonNegativeInt = 0  # the only source of randomness
    tokens_per_batch: Annotated[int, Field(ge=1, le=10_000_000)] = 2048  # padded positions in a batch of sentences
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    learning_rate_schedule: Schedule = field(default_factory=Constant)  # a factor on the learning rate
    weight_decay: NonNegativeFloat = 0.0
    precision: Precision = "auto"
    log_steps: PositiveInt = 20
    checkpoint_steps: PositiveInt = 500  # validate and save this often, and at the end
    keep_checkpoints: PositiveInt = 2  # the newest, beside the best by validation ELBO
    on_collapse: Literal["warn", "stop"] = "warn"  # once the KL weight is up and z is not used
    validation_size: PositiveInt = 2000  # at most so many examples of the validation split during training

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set one of train.steps and train.epochs")

    def num_steps(self, batches_per_epoch: int) -> int:
        """The length of the training in steps."""
        return self.steps or max(1, round((self.epochs or 0) * batches_per_epoch))


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[Corpus, Model]):
    """Everything that defines a run: training from it repeats the run."""

    corpus: Corpus
    model: Model
    objective: Objective = field(default_factory=ElboObjective)
    update: Update = field(default_factory=JointUpdate)
    train: TrainConfig
