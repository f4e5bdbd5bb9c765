"""`train.on_nonfinite`: what becomes of a step whose loss, gradient or other figure is not finite.

- `stop` looks where figures are read anyway, at each row and checkpoint, and ends the training.
- `skip` looks after each step, for which it waits for the device, and takes the step back from a copy of weights,
  moments and feedback made before it.
- `rollback` looks where `stop` does, goes back to the last checkpoint, takes the steps from there once more and leaves
  the bad one out: the same weights as with `skip`, paid for only where there is a bad step.

A step is a function of the state and its number, so a resumed training passes over the same ones.
"""

from typing import Any, NoReturn

import torch

from latent.training.checkpoints import load_state, set_tensors, state_tensors
from latent.training.joint import Metrics
from latent.training.processes import largest
from latent.training.recipe import Recipe
from latent.training.saving import Saver
from latent.training.state import TrainState
from latent.training.updates import Batches
from latent.training.window import Window

PASSED_OVER = "passed_over_steps"  # so far, in the state's feedback
NUM_SHOWN = 8  # examples in a message; all of them are in metrics.jsonl
ADVICE = (
    "Try a lower train.learning_rate, a lower update.max_gradient_norm, train.precision=fp32 or train.on_nonfinite=skip"
)


class NonFiniteStepError(FloatingPointError):
    """The step of this index, counted from 0, has a figure that is not finite."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Guard:
    """Takes the steps of a training, and deals with those whose figures are not finite."""

    def __init__(self, saver: Saver, recipe: Recipe[Any, Any, Any], batches: Batches) -> None:
        self._saver, self._recipe, self._batches = saver, recipe, batches
        self._bad: dict[int, str] = {}  # by the index of the step, which figures are not finite

    def step(self, state: TrainState, window: Window) -> None:
        """Take the state's next step, or pass over it."""
        if state.step in self._bad:
            self._pass_over(state, self._bad[state.step])
        elif self._recipe.train.on_nonfinite == "skip":
            self._step_or_skip(state, window)
        else:
            window.add(state.step, self._recipe.update(state, self._batches, self._recipe.objective))

    def refuse_non_finite(self, window: Window) -> None:
        """Raise NonFiniteStepError for the first step of the window with a figure that is not finite."""
        found = window.non_finite()
        if found is not None:
            step, names = found
            self._bad[step] = _are(names)
            raise NonFiniteStepError(self._message(step, _are(names)), step)

    def roll_back(self, error: NonFiniteStepError, state: TrainState) -> Window:
        """Go back to the last checkpoint, after which the step is passed over; return its window.

        Raises the error where the recipe does not want that, RunError where there is no checkpoint.
        """
        if self._recipe.train.on_nonfinite != "rollback":
            self._log(error.step, str(error))
            raise error
        checkpoint, _ = self._saver.run.checkpoint("last")
        load_state(checkpoint, state)
        self._saver.cut(state.step)
        self._saver.say(f"step {error.step + 1}: {self._bad[error.step]} not finite; back to {checkpoint.path.name}")
        return Window(checkpoint.window)

    def refuse_weights(self, state: TrainState) -> None:
        """Raise FloatingPointError for weights that are not finite: no good checkpoint is to go for theirs."""
        modules = [state.model, *([state.adversary.module] if state.adversary is not None else [])]
        own = [state.layout.own(parameter) for module in modules for parameter in module.parameters()]
        is_bad = not torch.stack([tensor.isfinite().all() for tensor in own]).all()
        if any(largest(state.accelerator, is_bad)):  # of shards each process has others
            self.stop(state.step - 1, "a weight after it is")

    def stop(self, step: int, what: str) -> NoReturn:
        """Raise FloatingPointError for a step, by its index, and log its examples."""
        message = self._message(step, what)
        self._log(step, message)
        raise FloatingPointError(message)

    def _step_or_skip(self, state: TrainState, window: Window) -> None:
        tensors, feedback = _copied(state_tensors(state)), dict(state.feedback)
        metrics = self._recipe.update(state, self._batches, self._recipe.objective)
        bad = _non_finite(metrics)
        if not bad:
            window.add(state.step, metrics)
            return
        set_tensors(tensors, state)
        state.feedback = feedback
        self._pass_over(state, _are(bad))

    def _pass_over(self, state: TrainState, what: str) -> None:
        train, num_before = self._recipe.train, int(state.feedback.get(PASSED_OVER, 0))
        if not self._recipe.update.may_pass_over(state.step):
            self.stop(state.step, f"the update changes its stage at this step, and {what}")
        if num_before >= train.max_nonfinite_steps:
            self.stop(state.step, f"{num_before} steps have been passed over (train.max_nonfinite_steps), and {what}")
        state.feedback[PASSED_OVER] = float(num_before + 1)
        line = f"step {state.step + 1}: {what} not finite; passed over"
        self._log(state.step, line)
        self._saver.say(line)

    def _log(self, step: int, line: str) -> None:
        self._saver.log({"step": step + 1, "alarm": line, "examples": self._examples(step)})

    def _message(self, step: int, what: str) -> str:
        examples, numbers = self._examples(step), self._numbers(step)
        of = f"batch {step}" if len(numbers) == 1 else f"batches {numbers[0]} to {numbers[-1]}"
        more = f" and {len(examples) - NUM_SHOWN} more, all in metrics.jsonl" if len(examples) > NUM_SHOWN else ""
        return (
            f"step {step + 1} ({of}): {what} not finite; {self._saver.last_good()} of {self._saver.run.path}. "
            f"{ADVICE}; its examples of the training split: {', '.join(map(str, examples[:NUM_SHOWN]))}{more}"
        )

    def _numbers(self, step: int) -> range:
        num_batches = self._recipe.train.batches_per_step
        return range(step * num_batches, (step + 1) * num_batches)

    def _examples(self, step: int) -> list[int]:
        return [index for number in self._numbers(step) for index in self._batches[number].indices.tolist()]


def _are(names: list[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _copied(parts: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: {key: tensor.clone() for key, tensor in tensors.items()} for name, tensors in parts.items()}


def _non_finite(metrics: Metrics) -> list[str]:
    return [name for name, value in metrics.items() if not torch.as_tensor(value).isfinite()]
