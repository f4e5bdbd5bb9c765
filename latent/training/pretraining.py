"""`kind: pretrained` and `pretrained_encoder`: a first stage that prepares a model, or its encoder alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from latent.bound import Batch, Constant, ElboObjective, ElboTerms, LatentModel, Loss, Objective, Schedule
from latent.training.checkpoints import load_model
from latent.training.joint import Batches, JointUpdate, Metrics, batches_of_step, step_down
from latent.training.processes import spread
from latent.training.runs import Run
from latent.training.state import TrainState


@runtime_checkable
class Pretrainable(Protocol):
    """A model that has a first stage of its own."""

    def pretraining_loss(self, batch: Any) -> Float[Tensor, " B"]:
        """What the first stage minimises, in nats per example; its noise is torch's."""

    def initialise(self, batches: Iterator[Any], seed: int) -> Int64[Tensor, " N"] | None:
        """Set, from one pass over the training examples, the parameters that the first stage does not train.

        Returns the cluster that each example, by its index, is found in, where the model finds any.
        """


@runtime_checkable
class Clustered(Pretrainable, Protocol):
    """A model whose clusters can be held."""

    def held_terms(
        self, batch: Any, clusters: Int64[Tensor, " B"], num_samples: int, *, path_gradient: bool
    ) -> ElboTerms:
        """The terms of the bound on log p(x, c), c the examples' clusters, which are taken as known."""


@dataclass(frozen=True, kw_only=True)
class PretrainedUpdate:
    """For `steps` steps minimise the model's own pretraining loss; then initialise the model and train it jointly.

    For the first `held_steps` of the joint steps the clusters that initialising has found are held: the bound is that
    on log p(x, c). They are in every checkpoint as long as they are held; else the stage is a function of the step
    alone, and a resumed run needs no state. The first stage has a learning rate and a schedule of its own; from then on
    they are train.learning_rate and its schedule, which like objective.kl_weight counts the steps of both stages. The
    optimizer's moments are cleared in between. The first stage is logged with KL and KL weight 0.
    """

    kind: Literal["pretrained"] = "pretrained"
    steps: PositiveInt
    held_steps: NonNegativeInt = 0
    learning_rate: PositiveFloat = 1e-3
    learning_rate_schedule: Schedule = field(default_factory=Constant)  # a factor on the learning rate
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step of either stage. Raises ValueError for a model that has no first stage."""
        if state.step < self.steps:
            return self._pretrain(state, batches)
        if state.step == self.steps:
            self._initialise(state, batches)
        if state.step < self.steps + self.held_steps:
            return self._hold(state, batches, objective)
        state.clusters = None
        return JointUpdate(max_gradient_norm=self.max_gradient_norm)(state, batches, objective)

    def may_pass_over(self, step: int) -> bool:
        """All steps but that with which the second stage begins."""
        return step != self.steps

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation: the stage is a function of the step."""

    def check_objective(self, objective: Objective) -> None:
        """Raise ValueError where clusters are to be held and draws of the prior, which hold none, are asked for."""
        if self.held_steps > 0 and objective.from_prior:
            raise ValueError("update.held_steps: draws of the prior hold no cluster; set objective.kind=elbo")

    def check(self, model: LatentModel[Any]) -> None:
        """Raise ValueError for a model that has no first stage, or has no clusters to hold."""
        _pretrainable(model)
        if self.held_steps > 0:
            _clustered(model)

    def _pretrain(self, state: TrainState, batches: Batches) -> Metrics:
        for group in state.optimizer.param_groups:
            group["lr"] = self.learning_rate * self.learning_rate_schedule(state.step)
        model = _pretrainable(state.model)

        def loss_of(batch: Batch) -> Loss:
            with state.accelerator.autocast():
                loss = model.pretraining_loss(batch).mean()
            figures = {"loss": loss.detach(), "reconstruction": loss.detach()}
            return Loss(loss, {**figures, "kl": 0.0, "kl_weight": 0.0})

        return step_down(state, batches_of_step(state, batches), loss_of, self.max_gradient_norm)

    def _initialise(self, state: TrainState, batches: Batches) -> None:
        device = state.accelerator.device
        examples: Iterator[Batch] = (batches[index].to(device) for index in range(batches.num_batches))
        seed = int(torch.randint(2**31, ()))  # torch is seeded from the recipe's seed and the step
        model = state.model
        state.clusters = _pretrainable(model).initialise(examples, seed)
        found = [*model.parameters(), *model.buffers(), *([state.clusters] if state.clusters is not None else [])]
        spread(state.accelerator, found)
        state.optimizer.state.clear()

    def _hold(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        clusters = state.clusters
        assert clusters is not None
        model = _clustered(state.model)

        def loss_of(batch: Batch) -> Loss:
            with state.accelerator.autocast():
                terms = model.held_terms(
                    batch, clusters[batch.indices], objective.num_samples, path_gradient=objective.path_gradient
                )
            return objective(terms, state.step, state.feedback)

        return step_down(state, batches_of_step(state, batches), loss_of, self.max_gradient_norm)


def _pretrainable(model: LatentModel[Any]) -> Pretrainable:
    if not isinstance(model, Pretrainable):
        raise ValueError(
            f"update.kind: pretrained needs a model with a first stage, and {type(model).__name__} has none; "
            "set update.kind=joint"
        )
    return model


def _clustered(model: LatentModel[Any]) -> Clustered:
    if not isinstance(model, Clustered):
        raise ValueError(f"update.held_steps: {type(model).__name__} has no clusters to hold; set update.held_steps=0")
    return model


AUTOENCODER = ElboObjective(kl_weight=Constant(value=0.0), auxiliary_weight=0.0)


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoderUpdate:
    """For `steps` steps train an autoencoder; then draw everything but its encoder anew, and train jointly.

    The first stage minimises −log p(x|z) at a draw of q(z|x): the bound with KL weight 0. What is kept of it is the
    encoder, the parameters that a draw of q(z|x) depends on. The others, a learned prior's among them, are drawn once
    more as at the beginning of a run, and the optimizer's moments are cleared. The stage is a function of the step and
    the new draw one of (seed, step), so a resumed run needs no state.

    The learning rate's schedule and the objective's count the steps of both stages: an annealing of the KL weight has
    `steps` as its `delay`. In the place of a first stage `encoder_from` may name a run, whose encoder at its last
    checkpoint is where this training's begins: one autoencoder then serves many second stages.

    Reference: Li et al. 2019, "A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text", where the
    second stage has an annealed KL weight and free bits.
    """

    kind: Literal["pretrained_encoder"] = "pretrained_encoder"
    steps: NonNegativeInt = 0  # of the autoencoder
    encoder_from: Path | None = None  # the folder of a run of the same model and corpus
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.steps == 0) == (self.encoder_from is None):
            raise ValueError("set one of update.steps, a first stage's, and update.encoder_from, the run that was one")

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step of either stage."""
        if state.step == self.steps:
            batch = batches[state.step * state.batches_per_step].to(state.accelerator.device)
            if self.encoder_from is None:
                self._draw_the_rest_anew(state, batch)
            else:
                _take_encoder(Run.open(self.encoder_from), state.model, batch)
        of_stage = AUTOENCODER if state.step < self.steps else objective
        return JointUpdate(max_gradient_norm=self.max_gradient_norm)(state, batches, of_stage)

    def may_pass_over(self, step: int) -> bool:
        """All steps but that with which the second stage begins."""
        return step != self.steps

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation: the stage is a function of the step."""

    def check_objective(self, objective: Objective) -> None:
        """Any objective will do."""

    def check(self, model: LatentModel[Any]) -> None:
        """Raise ValueError for a model that has no encoder."""
        if model.latent_size == 0:
            raise ValueError(
                f"update.kind: pretrained_encoder needs a model with an encoder, and {type(model).__name__} has none; "
                "set update.kind=joint"
            )

    def _draw_the_rest_anew(self, state: TrainState, batch: Batch) -> None:
        model = state.model
        encoder = {id(parameter) for parameter in model.encoder_parameters(batch)}
        drawn = dict(state.build_model().named_parameters())  # torch is seeded from the recipe's seed and the step
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if id(parameter) not in encoder:
                    parameter.copy_(drawn[name])
        state.optimizer.state.clear()


def _take_encoder(run: Run, model: LatentModel[Any], batch: Batch) -> None:
    """Give the model the encoder of a run. Raises RunError or CheckpointError where it has none that fits."""
    checkpoint, _ = run.checkpoint("last")
    encoder = {id(parameter) for parameter in model.encoder_parameters(batch)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in encoder]
    load_model(checkpoint, model, names)
