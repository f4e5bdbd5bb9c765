"""A recipe's shape: one for text and images; each side supplies its unions of corpora and models, and its batches."""

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from latent.bound import Constant, ElboObjective, ModelConfig, Objective, Schedule
from latent.training.compiling import Compile
from latent.training.precision import Precision
from latent.training.semi_amortized import check_free
from latent.training.sharding import check_layers
from latent.training.updates import JointUpdate, Update

UNITS = {"s": 1, "min": 60, "h": 3600}
NEVER = "never"


def seconds(duration: str) -> float:
    """The length of `90s`, `5min`, `1.5h` or `never`, which is without end. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h)", duration)
    if duration == NEVER:
        return math.inf
    if found is None:
        raise ValueError("write it as a number and its unit, such as 90s, 5min or 1.5h, or never")
    return float(found[1]) * UNITS[found[2]]


def _checked(duration: str) -> str:
    seconds(duration)
    return duration


Duration = Annotated[str, AfterValidator(_checked)]
Corpus = TypeVar("Corpus")
Model = TypeVar("Model", bound=ModelConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how fast and how exactly to train; each side adds how large its batches are."""

    steps: PositiveInt | None = None  # one of steps and epochs
    epochs: PositiveFloat | None = None
    seed: NonNegativeInt = 0  # the only source of randomness
    batches_per_step: PositiveInt = 1  # their gradients make a step; several processes share them out
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    learning_rate_schedule: Schedule = field(default_factory=Constant)  # a factor on the learning rate
    weight_decay: NonNegativeFloat = 0.0
    adam_epsilon: PositiveFloat = 1e-8  # added to the root of the second moment
    shard: bool = False  # each process keeps its part of the weights and moments: docs/scaling.md
    precision: Precision = "auto"
    compile: Compile = "auto"  # torch.compile of the model's forward: half a minute or more, to be earned back
    log_steps: PositiveInt = 20
    checkpoint_steps: PositiveInt = 500  # validate and save this often, and at the end
    checkpoint_every: Duration = "5min"  # save this often in between, without a validation: it changes no number
    keep_checkpoints: PositiveInt = 2  # the newest, beside the best by validation ELBO
    on_collapse: Literal["warn", "stop"] = "warn"  # once the KL weight is up and z is not used
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"  # a loss or gradient; docs/runs.md has what each costs
    max_nonfinite_steps: PositiveInt = 10  # so many are passed over, then the training stops
    validation_size: PositiveInt = 2000  # at most so many examples of the validation split during training

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set one of train.steps and train.epochs")
        if self.shard and self.precision == "fp16":
            raise ValueError("train.shard: fp16 scales by what each process sees; set train.precision to bf16 or fp32")
        if self.shard and self.compile is True:
            raise ValueError("train.shard: layers that come and go are not compiled; set train.compile=false")
        if self.shard and self.on_nonfinite == "skip":
            raise ValueError("train.shard: train.on_nonfinite=skip copies all weights; set it to rollback or stop")

    def num_steps(self, batches_per_epoch: int) -> int:
        """The length of the training in steps."""
        return self.steps or max(1, round((self.epochs or 0) * batches_per_epoch / self.batches_per_step))


Train = TypeVar("Train", bound=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[Corpus, Model, Train]):
    """Everything that defines a run: training from it repeats the run."""

    corpus: Corpus
    model: Model
    objective: Objective = field(default_factory=ElboObjective)
    update: Update = field(default_factory=JointUpdate)
    train: Train

    def __post_init__(self) -> None:
        if self.train.shard and self.update.kind != "joint":
            raise ValueError(
                f"train.shard: update.kind {self.update.kind} does more with the model than to step it down its loss; "
                "set update.kind=joint, or train.shard=false"
            )
        if self.train.shard:
            check_layers("this recipe's model", has_layers=self.model.has_layers)
        if self.update.kind == "semi_amortized":
            check_free("this recipe's model", is_free=self.model.posterior_is_free)
        self.update.check_objective(self.objective)
        if self.objective.kind == "elbo":
            self.objective.check(has_kl_per_dimension=self.model.has_kl_per_dimension)
