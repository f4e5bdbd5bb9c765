"""`kind: aggressive`: the encoder catches up with the decoder before each of the decoder's steps."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from latent.bound import Batch, LatentModel, Objective
from latent.training.joint import Batches, JointUpdate, Metrics, descend, evaluate
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

    The phase is in the state's feedback. The figure `cost` is the number of batches gone through, a plain step's being
    1; an inner step has no gradient by the decoder's weights, and so costs somewhat less than a plain one.

    Reference: He et al. 2019, "Lagging Inference Networks and Posterior Collapse in Variational Autoencoders",
    algorithm 1, with two differences: an inner step clips the gradient of the encoder alone, as there is no other, and
    losses are compared per batch, of which each holds about as many tokens, and not per token.
    """

    kind: Literal["aggressive"] = "aggressive"
    max_inner_steps: PositiveInt = 99
    compare_every: PositiveInt = 15
    max_gradient_norm: PositiveFloat = 5.0
    one_batch_a_step: ClassVar[bool] = True
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Nothing is needed beside the state: the phase begins where the feedback says nothing else."""

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step of either phase."""
        joint = JointUpdate(max_gradient_norm=self.max_gradient_norm)
        if not state.feedback.get(IS_AGGRESSIVE, 1.0):
            return {**joint(state, batches, objective), "cost": 1.0}
        batch = batches[state.step].to(state.accelerator.device)
        model = state.model
        encoder = model.encoder_parameters(batch)
        known = {id(parameter) for parameter in encoder}
        with frozen(parameter for parameter in model.parameters() if id(parameter) not in known):
            num_inner = self._fit_encoder(state, batches, batch, objective) if encoder else 0
        with frozen(encoder):
            metrics = joint(state, batches, objective)
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

    def _fit_encoder(self, state: TrainState, batches: Batches, batch: Batch, objective: Objective) -> int:
        """Step what is not frozen until its loss stops falling; return the number of steps."""
        epoch_start = state.step - state.step % batches.num_batches
        before, total = math.inf, torch.zeros((), device=state.accelerator.device)
        for number in range(1, self.max_inner_steps + 1):
            value: Tensor = evaluate(state, batch, objective).value * batch.weight
            descend(state, value, self.max_gradient_norm)
            total = total + value.detach()
            if number % self.compare_every == 0:
                now = float(total)  # the only wait for the device: whether to go on hangs on it
                if now > before:
                    return number
                before, total = now, torch.zeros_like(total)
            index = epoch_start + int(torch.randint(batches.num_batches, ()))
            batch = batches[index].to(state.accelerator.device)
        return self.max_inner_steps


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
