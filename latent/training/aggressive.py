"""`kind: aggressive`: the encoder catches up with the decoder before each of the decoder's steps."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from latent.bound import Batch, LatentModel, Loss, Objective
from latent.training.joint import Batches, JointUpdate, Metrics, batch_at, descend, evaluate, places, step_down
from latent.training.seeding import Noise
from latent.training.state import TrainState

IS_AGGRESSIVE, INFORMATION = "is_aggressive", "information_before"  # names in the state's feedback


@dataclass(frozen=True, kw_only=True)
class AggressiveUpdate:
    """Lagging inference: while aggressive, step the encoder alone until its loss stops falling, then the decoder alone.

    The encoder's inner steps begin with the step's own batch and go on with others of the same epoch, drawn at random.
    After every `compare_every` of them the mean loss is compared with that of the `compare_every` before, and they end
    where it rose, or after `max_inner_steps`. Then the rest of the model (the decoder and a learned prior) is stepped
    once, on the step's own batch. With the first validation whose mutual information, over all its examples, is below
    the one before, the update becomes the joint one and stays it.

    Of several batches a step each goes such a way of its own, with noise of its own. An inner step goes down the loss
    of all that they have come to, and it is their mean that is compared.

    The phase is in the state's feedback. The figure `cost` is the number of steps, each over as many batches as a plain
    one, whose cost is 1; an inner step has no gradient by the decoder's weights, and so costs somewhat less.

    Reference: He et al. 2019, "Lagging Inference Networks and Posterior Collapse in Variational Autoencoders",
    algorithm 1, with two differences: an inner step clips the gradient of the encoder alone, as there is no other, and
    losses are compared per batch, of which each holds about as many tokens, and not per token.
    """

    kind: Literal["aggressive"] = "aggressive"
    max_inner_steps: PositiveInt = 99
    compare_every: PositiveInt = 15
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state: the phase begins where the feedback says nothing else."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step of either phase."""
        if not state.feedback.get(IS_AGGRESSIVE, 1.0):
            joint = JointUpdate(max_gradient_norm=self.max_gradient_norm)
            return {**joint(state, batches, objective), "cost": 1.0}

        def loss_of(batch: Batch) -> Loss:
            return evaluate(state, batch, objective)

        model, first = state.model, batches[state.step * state.batches_per_step]
        encoder = model.encoder_parameters(first.to(state.accelerator.device))
        known = {id(parameter) for parameter in encoder}
        walks = [Walk(state, batches, place) for place in places(state)]
        with frozen(parameter for parameter in model.parameters() if id(parameter) not in known):
            num_inner = self._fit_encoder(state, walks, loss_of) if encoder else 0
        for walk in walks:
            walk.turn_back()
        with frozen(encoder):
            metrics = step_down(state, share_of(walks), loss_of, self.max_gradient_norm)
        return {**metrics, "cost": num_inner + 1.0}

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """End the aggressive phase for good where the mutual information has fallen since the validation before."""
        if state.feedback.get(IS_AGGRESSIVE, 1.0):
            information = found["mutual_information"]
            state.feedback[IS_AGGRESSIVE] = float(information >= state.feedback.get(INFORMATION, -math.inf))
            state.feedback[INFORMATION] = information

    def check_objective(self, objective: Objective) -> None:
        """Any objective will do."""

    def check(self, model: LatentModel[Any]) -> None:
        """Any model can be trained so; one without an encoder has no inner steps."""

    def _fit_encoder(self, state: TrainState, walks: Sequence["Walk"], loss_of: Callable[[Batch], Loss]) -> int:
        """Step what is not frozen until its loss stops falling; return the number of steps."""
        before, total = math.inf, torch.zeros((), device=state.accelerator.device)
        for number in range(1, self.max_inner_steps + 1):
            together, _ = descend(state, share_of(walks), loss_of, self.max_gradient_norm)
            total = total + together.loss.value * together.weight
            if number % self.compare_every == 0:
                now = float(total)  # the only wait for the device: whether to go on hangs on it
                if now > before:
                    return number
                before, total = now, torch.zeros_like(total)
            for walk in walks:
                walk.move()
        return self.max_inner_steps


class Walk:
    """One of the K places of a step: the batches of an epoch that it comes to, by a stream of noise of its own.

    So what is drawn at a place does not hang on which process has the others.
    """

    def __init__(self, state: TrainState, batches: Batches, place: int) -> None:
        self._batches, self._device = batches, state.accelerator.device
        self._own = self._at = batch_at(state, place)
        self._noise = Noise(self._device)

    def batch(self) -> Iterator[Batch]:
        """The batch that it is at. What is drawn before the next one is asked for comes from its stream."""
        self._noise.go_on()
        yield self._batches[self._at].to(self._device)
        self._noise = Noise(self._device)

    def move(self) -> None:
        """Go to a batch of the epoch, drawn at random."""
        self._noise.go_on()
        num_batches = self._batches.num_batches
        self._at = self._own - self._own % num_batches + int(torch.randint(num_batches, ()))
        self._noise = Noise(self._device)

    def turn_back(self) -> None:
        """Go to the batch that it began with; its stream goes on."""
        self._at = self._own


def share_of(walks: Sequence[Walk]) -> Iterator[Batch]:
    """The batches that these places are at, one after the other."""
    return chain.from_iterable(walk.batch() for walk in walks)


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradient for these parameters within the block: the optimizer passes over them, its moments untouched."""
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
