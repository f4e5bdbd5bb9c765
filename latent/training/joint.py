"""What every update takes and gives, and the plain one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from latent.training.running import fold, running_parts, take_seen
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


def places(state: TrainState) -> range:
    """This process's share of the places 0 … K − 1 of a step's batches: every W-th, W the processes."""
    return range(state.accelerator.process_index, state.batches_per_step, state.accelerator.num_processes)


def batch_at(state: TrainState, place: int) -> int:
    r"""The number \(sK + k\) of the batch at place k of step s. Torch's noise becomes that of (seed, number).

    For the first of the step the loop has seeded it.
    """
    number = state.step * state.batches_per_step + place
    if place > 0:
        seed_everything(state.seed, Stream.STEP, number)
    return number


def batches_of_step(state: TrainState, batches: Batches) -> Iterator[Batch]:
    """This process's share of the step's batches, each with noise of its own, whichever process takes it."""
    for place in places(state):
        yield batches[batch_at(state, place)].to(state.accelerator.device)


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
    """What a batch adds to its step: its loss, without gradient, its weight over the number of batches, and a row.

    The rows, of all K batches where they are put together, are what the batches add to running statistics.
    """

    loss: Loss
    weight: Tensor | float
    seen: Float[Tensor, "K M"]

    @property
    def figures(self) -> dict[tuple[str, str], Tensor | float]:
        """What is logged and what is fed back, by part and name."""
        parts = {LOGGED: self.loss.logged, FEEDBACK: self.loss.feedback}
        return {(part, name): value for part, figures in parts.items() for name, value in figures.items()}

    def column(self, names: Sequence[tuple[str, str]]) -> Float[Tensor, " figures"]:
        """1, the loss and the figures of these names."""
        value, figures = self.loss.value, self.figures
        return torch.stack([torch.ones_like(value), value, *(torch.as_tensor(figures[n]).to(value) for n in names)])

    def metrics(self, state: TrainState, gradient_norm: Tensor) -> Metrics:
        """The figures of a step that has been taken; its objective's feedback goes into the state."""
        state.feedback |= self.loss.feedback
        return {**self.loss.logged, "gradient_norm": gradient_norm, "weight": self.weight}


def step_down(
    state: TrainState, batches: Iterable[Batch], loss_of: Callable[[Batch], Loss], max_gradient_norm: float
) -> Metrics:
    """One step as `descend` takes it; returns its figures, on the device. The objective's feedback goes into the state.

    What is fed back is the mean of what each batch says.
    """
    together, norm = descend(state, batches, loss_of, max_gradient_norm)
    return together.metrics(state, norm)


def descend(
    state: TrainState, batches: Iterable[Batch], loss_of: Callable[[Batch], Loss], max_gradient_norm: float
) -> tuple[Share, Tensor]:
    r"""One step, of the parameters that want a gradient, down the loss of all the examples of K batches:

    \[ \frac1K \sum_k w_k L_k, \]
    with \(L_k\) the mean of batch k and \(w_k\) its weight, so that every example counts the same. What an objective
    takes over a batch is taken over each of the K. This process is given its share of them. Returns what all of them
    say, and the gradient's norm before it was clipped.
    """

    def add_gradient(batch: Batch, weight: float) -> Loss:
        loss = loss_of(batch)
        backward(state, loss.value * weight)
        return loss

    together = gather(state, batches, add_gradient)
    return together, descend_by_gradient(state, max_gradient_norm)


def gather(state: TrainState, batches: Iterable[Batch], add_gradient: Callable[[Batch, float], Loss]) -> Share:
    """The gradients of K batches, of which this process is given its share. No step is taken.

    `add_gradient` adds that of a batch, its loss times a weight. Returns the loss and the figures of all K, and their
    weight. The model's running statistics are then those after these batches, of which one of a single example finds
    them as they were before.
    """
    state.optimizer.zero_grad(set_to_none=True)
    parts = running_parts(state.model)
    fold(parts, take_seen(parts))  # of forward passes before, which all processes have made alike
    shares: list[Share] = []
    for batch in batches:
        weight = batch.weight / state.batches_per_step
        loss = add_gradient(batch, weight)
        shares.append(Share(replace(loss, value=loss.value.detach()), weight, take_seen(parts)))
    together = shares[0] if state.batches_per_step == 1 else _put_together(state, shares)
    fold(parts, together.seen)
    return together


def _put_together(state: TrainState, shares: list[Share]) -> Share:
    """The sum of a step's shares, in their weighted mean, and of the gradients, over all processes; every batch's row.

    A figure that is no tensor is a function of the step, and the same for every batch.
    """
    first = shares[0].figures
    names = [name for name, value in first.items() if torch.is_tensor(value)]
    sums = torch.stack([share.weight * share.column(names) for share in shares]).sum(0)
    modules = [state.model, *([state.adversary.module] if state.adversary is not None else [])]
    parameters = [] if state.layout.is_sharded else [each for module in modules for each in module.parameters()]
    gradients = [each.grad for each in parameters if each.grad is not None]  # those of shards have been added up
    seen = sums.new_zeros(state.batches_per_step, shares[0].seen.shape[1])
    seen[state.accelerator.process_index :: state.accelerator.num_processes] = torch.cat([each.seen for each in shares])
    add_up(state.accelerator, [*gradients, sums, seen])
    value, *of_figures = (sums[1:] / sums[0]).unbind()
    means = first | dict(zip(names, of_figures, strict=True))
    logged, feedback = ({name: value for (of, name), value in means.items() if of == part} for part in PARTS)
    return Share(Loss(value, logged, feedback), sums[0], seen)


@dataclass(frozen=True, kw_only=True)
class JointUpdate:
    """Step encoder and decoder together."""

    kind: Literal["joint"] = "joint"
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step; return its figures, still on the device, and its weight among the steps."""
        share = batches_of_step(state, batches)
        return step_down(state, share, lambda batch: evaluate(state, batch, objective), self.max_gradient_norm)

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check_objective(self, objective: Objective) -> None:
        """Any objective will do."""

    def check(self, model: LatentModel[Any]) -> None:
        """Any model can be trained so."""
