"""What every update takes and gives, and the plain one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from latent.bound import Batch, ElboTerms, LatentModel, Loss, Objective
from latent.training.state import TrainState

Metrics = Mapping[str, Tensor | float]
SKIPPED = "skipped_steps"  # so far, in the state's feedback, where gradients are scaled


@runtime_checkable
class Batches(Protocol):
    """The endless training order: a pure function of the index, so that an update takes what it needs."""

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""

    def __getitem__(self, index: int) -> Batch: ...


def descend(state: TrainState, value: Float[Tensor, ""], max_gradient_norm: float) -> Tensor:
    """One step of the optimizer down `value`; return the gradient's norm before it was clipped.

    In float16 the gradient is unscaled before; where it has overflowed the step is skipped and counted, and the norm 0.
    """
    state.optimizer.zero_grad(set_to_none=True)
    state.accelerator.backward(value)
    norm: Tensor = state.accelerator.clip_grad_norm_(state.model.parameters(), max_gradient_norm)
    if state.accelerator.scaler is not None:  # fp16: the scaler skips a step whose gradient overflows
        has_overflowed = ~norm.isfinite()
        norm = norm.masked_fill(has_overflowed, 0.0)
        state.feedback[SKIPPED] = has_overflowed.double() + state.feedback.get(SKIPPED, 0.0)
    state.optimizer.step()
    return norm


def terms_of(state: TrainState, batch: Batch, objective: Objective) -> ElboTerms:
    """The terms of a batch, as many draws as the objective wants, from the model as it is to be at this step."""
    model: LatentModel[Any] = state.accelerator.unwrap_model(state.model)
    model.at_step(state.step)
    terms: ElboTerms = state.model(
        batch, objective.num_samples, path_gradient=objective.path_gradient, from_prior=objective.from_prior
    )
    return terms


def evaluate(state: TrainState, batch: Batch, objective: Objective) -> Loss:
    """The objective on a batch, with the feedback of the step before; the state is left as it is."""
    return objective(terms_of(state, batch, objective), state.step, state.feedback)


def step_on(state: TrainState, batch: Batch, objective: Objective, max_gradient_norm: float) -> Metrics:
    """One step on a batch, of the parameters that want a gradient."""
    return step_down(state, batch, evaluate(state, batch, objective), max_gradient_norm)


def step_down(state: TrainState, batch: Batch, loss: Loss, max_gradient_norm: float) -> Metrics:
    """One step down the batch's loss; the objective's feedback goes into the state."""
    norm = descend(state, loss.value * batch.weight, max_gradient_norm)
    state.feedback |= loss.feedback
    return {**loss.logged, "gradient_norm": norm, "weight": batch.weight}


@dataclass(frozen=True, kw_only=True)
class JointUpdate:
    """Step encoder and decoder together on one batch."""

    kind: Literal["joint"] = "joint"
    max_gradient_norm: PositiveFloat = 5.0

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step; return the batch's figures, still on the device, and its weight among the batches."""
        batch = batches[state.step].to(state.accelerator.device)
        return step_on(state, batch, objective, self.max_gradient_norm)

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check(self, model: LatentModel[Any]) -> None:
        """Any model can be trained so."""
