"""What every update takes and gives, and the plain one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from latent.bound import Batch, ElboTerms, LatentModel, Loss, Objective
from latent.training.processes import add_up
from latent.training.seeding import Stream, seed_everything
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


def batches_of_step(state: TrainState, batches: Batches) -> Iterator[Batch]:
    r"""This process's share of the step's batches: of numbers \(sK \dots sK + K - 1\) every W-th, W the processes.

    Torch's noise is a function of (seed, number) for each, whichever process takes it: the loop has seeded it for the
    first of the step.
    """
    first, accelerator = state.step * state.batches_per_step, state.accelerator
    for place in range(accelerator.process_index, state.batches_per_step, accelerator.num_processes):
        if place > 0:
            seed_everything(state.seed, Stream.STEP, first + place)
        yield batches[first + place].to(accelerator.device)


def descend(state: TrainState, value: Float[Tensor, ""], max_gradient_norm: float) -> Tensor:
    """One step of the optimizer down `value`, of one process; return the gradient's norm before it was clipped."""
    state.optimizer.zero_grad(set_to_none=True)
    backward(state, value)
    return descend_by_gradient(state, max_gradient_norm)


def backward(
    state: TrainState,
    value: Float[Tensor, ""],
    inputs: Sequence[nn.Parameter] | None = None,
    *,
    retain_graph: bool = False,
) -> None:
    """Add to the gradients, of `inputs` alone where they are given; float16 scales them."""
    scaler = state.accelerator.scaler
    (value if scaler is None else scaler.scale(value)).backward(inputs=inputs, retain_graph=retain_graph)


def descend_by_gradient(
    state: TrainState, max_gradient_norm: float, parts: Sequence[Sequence[nn.Parameter]] = ()
) -> Tensor:
    """One step of the optimizer; return the gradient's norm before it was clipped, each of `parts` by itself.

    In float16 the gradient is unscaled before; where it has overflowed the step is skipped and counted, and the norm 0.
    """
    scaler = state.accelerator.scaler
    if scaler is not None:
        scaler.unscale_(state.optimizer)
    norms = [clip_grad_norm_(part, max_gradient_norm) for part in parts or [list(state.model.parameters())]]
    norm = state.layout.all_of(reduce(torch.hypot, norms))
    if scaler is None:
        state.optimizer.step()
        return norm
    has_overflowed = ~norm.isfinite()
    state.feedback[SKIPPED] = has_overflowed.double() + state.feedback.get(SKIPPED, 0.0)
    scaler.step(state.optimizer)
    scaler.update()
    return norm.masked_fill(has_overflowed, 0.0)


def terms_of(state: TrainState, batch: Batch, objective: Objective) -> ElboTerms:
    """The terms of a batch, as many draws as the objective wants, from the model as it is to be at this step."""
    state.model.at_step(state.step)
    with state.accelerator.autocast():
        terms: ElboTerms = state.model(
            batch, objective.num_samples, path_gradient=objective.path_gradient, from_prior=objective.from_prior
        )
    return terms


def evaluate(state: TrainState, batch: Batch, objective: Objective) -> Loss:
    """The objective on a batch, with the feedback of the step before; the state is left as it is."""
    return objective(terms_of(state, batch, objective), state.step, state.feedback)


LOGGED, FEEDBACK = PARTS = ("logged", "feedback")


@dataclass(frozen=True)
class Share:
    """What a batch adds to its step: its loss, without gradient, and its weight over the number of batches."""

    loss: Loss
    weight: Tensor | float

    @property
    def figures(self) -> dict[tuple[str, str], Tensor | float]:
        """What is logged and what is fed back, by part and name."""
        parts = {LOGGED: self.loss.logged, FEEDBACK: self.loss.feedback}
        return {(part, name): value for part, figures in parts.items() for name, value in figures.items()}

    def column(self, names: Sequence[tuple[str, str]]) -> Float[Tensor, " figures"]:
        """1 and the figures of these names."""
        like, figures = self.loss.value, self.figures
        return torch.stack([torch.ones_like(like), *(torch.as_tensor(figures[name]).to(like) for name in names)])

    def metrics(self, state: TrainState, gradient_norm: Tensor) -> Metrics:
        """The figures of a step that has been taken; its objective's feedback goes into the state."""
        state.feedback |= self.loss.feedback
        return {**self.loss.logged, "gradient_norm": gradient_norm, "weight": self.weight}


def step_down(
    state: TrainState, batches: Batches, loss_of: Callable[[Batch], Loss], max_gradient_norm: float
) -> Metrics:
    r"""One step, of the parameters that want a gradient, down the loss of all the examples of the step's K batches:

    \[ \frac1K \sum_k w_k L_k, \]
    with \(L_k\) the mean of batch k and \(w_k\) its weight, so that every example counts the same. What an objective
    takes over a batch is taken over each of the K. Returns the figures of all of them and their weight, on the device;
    the objective's feedback goes into the state, and is the mean of what each batch says.
    """

    def add_gradient(batch: Batch, weight: float) -> Loss:
        loss = loss_of(batch)
        backward(state, loss.value * weight)
        return loss

    together = gather(state, batches, add_gradient)
    return together.metrics(state, descend_by_gradient(state, max_gradient_norm))


def gather(state: TrainState, batches: Batches, add_gradient: Callable[[Batch, float], Loss]) -> Share:
    """The gradients of a step's batches; `add_gradient` adds that of each, its loss times a weight. No step is taken.

    Returns their figures and their weight, of all of them and over all processes.
    """
    state.optimizer.zero_grad(set_to_none=True)
    shares: list[Share] = []
    for batch in batches_of_step(state, batches):
        weight = batch.weight / state.batches_per_step
        loss = add_gradient(batch, weight)
        shares.append(Share(replace(loss, value=loss.value.detach()), weight))
    return shares[0] if state.batches_per_step == 1 else _put_together(state, shares)


def _put_together(state: TrainState, shares: list[Share]) -> Share:
    """The sum of a step's shares, in their weighted mean, and of the gradients, over all processes.

    A figure that is no tensor is a function of the step, and the same for every batch.
    """
    first, like = shares[0].figures, shares[0].loss.value
    names = [name for name, value in first.items() if torch.is_tensor(value)]
    sums = torch.stack([share.weight * share.column(names) for share in shares]).sum(0)
    modules = [state.model, *([state.adversary.module] if state.adversary is not None else [])]
    parameters = [] if state.layout.is_sharded else [each for module in modules for each in module.parameters()]
    gradients = [each.grad for each in parameters if each.grad is not None]  # those of shards have been added up
    add_up(state.accelerator, [*gradients, sums])
    means = first | dict(zip(names, (sums[1:] / sums[0]).unbind(), strict=True))
    logged, feedback = ({name: value for (of, name), value in means.items() if of == part} for part in PARTS)
    return Share(Loss(like, logged, feedback), sums[0])


@dataclass(frozen=True, kw_only=True)
class JointUpdate:
    """Step encoder and decoder together."""

    kind: Literal["joint"] = "joint"
    max_gradient_norm: PositiveFloat = 5.0
    one_batch_a_step: ClassVar[bool] = False
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step; return its figures, still on the device, and its weight among the steps."""
        return step_down(state, batches, lambda batch: evaluate(state, batch, objective), self.max_gradient_norm)

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check_objective(self, objective: Objective) -> None:
        """Any objective will do."""

    def check(self, model: LatentModel[Any]) -> None:
        """Any model can be trained so."""
