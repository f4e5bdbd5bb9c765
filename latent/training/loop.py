"""The training loop. It reads top to bottom; what a step does is the update's, what it minimises the objective's."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from latent.bound import Batch
from latent.training.alarms import COLLAPSED, alarm_line, findings
from latent.training.console import Reporter
from latent.training.interruption import Interruption, Stopped
from latent.training.joint import SKIPPED
from latent.training.nonfinite import Guard, NonFiniteStepError
from latent.training.processes import largest
from latent.training.recipe import Recipe
from latent.training.runs import Run
from latent.training.saving import Saver
from latent.training.seeding import Stream, seed_everything
from latent.training.state import TrainState
from latent.training.updates import Batches
from latent.training.validation import validate
from latent.training.window import Window

OF_BOUND = ("elbo", "reconstruction")  # of a validation: figures of a likelihood that was trained
LEAST_SCALE = 1e-4  # of a loss in float16, whose first is 65,536


class CollapseError(ValueError):
    """z is not used, and the recipe wants to stop then."""


@dataclass(frozen=True)
class TrainingData:
    """The endless training order, the validation batches, and how many units (tokens, images) a batch has."""

    batches: Batches
    validation: Sequence[Batch]
    unit: str
    units_per_batch: float


@dataclass(frozen=True)
class Training:
    """What a training has at hand from its first step to its last. What `step_done` holds is called after each step."""

    saver: Saver
    guard: Guard
    state: TrainState
    data: TrainingData
    recipe: Recipe[Any, Any, Any]
    num_steps: int
    reporter: Reporter
    asked: Interruption
    step_done: Sequence[Callable[[], object]] = ()


def train(training: Training, window: Window) -> None:
    """Train from the state's step to `num_steps`, logging, validating and saving as configured.

    `window` has the steps since the last row of metrics.jsonl.

    Raises FloatingPointError, naming step, examples and last good checkpoint, when a loss is not finite and
    `train.on_nonfinite` does not pass over it; CollapseError where `train.on_collapse` is `stop`; Stopped when a signal
    asked for it; OSError where the end could not be saved.
    """
    saver, state = training.saver, training.state
    if training.recipe.train.on_nonfinite == "rollback" and saver.saved_step is None:
        saver.save(state, {}, window)
    while state.step < training.num_steps:
        try:
            _train_on(training, window)
        except NonFiniteStepError as error:
            window = training.guard.roll_back(error, state)
    if saver.failure is not None:
        raise OSError(f"the last step could not be saved: {saver.failure}") from saver.failure


def _train_on(training: Training, window: Window) -> None:
    saver, guard, state, recipe = training.saver, training.guard, training.state, training.recipe
    config, reporter, asked = recipe.train, training.reporter, training.asked
    state.accelerator.wait_for_everyone()  # the first process has cut the rows that are read here
    since, since_step, num_batches = time.monotonic(), state.step, config.batches_per_step
    before, row = saver.run.last_row("split", "valid"), saver.run.last_row("loss") or {}
    while state.step < training.num_steps:
        seed_everything(config.seed, Stream.STEP, state.step * num_batches)
        set_learning_rate(state, config.learning_rate * config.learning_rate_schedule(state.step))
        guard.step(state, window)
        state.step += 1
        for call in training.step_done:
            call()

        at_checkpoint = state.step % config.checkpoint_steps == 0 or state.step == training.num_steps
        at_row = state.step % config.log_steps == 0 or at_checkpoint
        by, is_due = largest(state.accelerator, asked.by or 0, saver.is_due)
        in_between = not at_checkpoint and (is_due or by) > 0
        if at_row or in_between:
            guard.refuse_non_finite(window)
        if at_row and len(window) > 0:
            figures = window.means() | scaling_figures(state, guard)
            num_units = (state.step - since_step) * num_batches * training.data.units_per_batch
            row = {"step": state.step, **figures, "rate": round(num_units / max(time.monotonic() - since, 1e-9), 1)}
            saver.log(row)
            window.clear()
            since, since_step = time.monotonic(), state.step
            if not at_checkpoint:
                reporter.advance(state.step, row)

        if at_checkpoint or in_between:
            guard.refuse_weights(state)
        if at_checkpoint:
            if not row:
                guard.stop(state.step - 1, "every loss so far is")
            found = validate(state, training.data.validation)
            if not recipe.update.trains_bound:
                found = {name: value for name, value in found.items() if name not in OF_BOUND}
            found |= {"kl_weight": row["kl_weight"]}
            if not all(map(math.isfinite, found.values())):
                guard.stop(state.step - 1, "a figure of the validation is")
            recipe.update.after_validation(state, found)
            saver.log({"step": state.step, "split": "valid", **found})
            reporter.advance(state.step, {**row, "active_units": found["active_units"]})
            alarms = new_alarms(state, found, before)
            if alarms:
                saver.alarm(state.step, alarm_line(state.step, alarms))
            saver.save(state, found, window)
            raise_alarm(saver.run, state.step, alarms, config.on_collapse)
            before = found
            since, since_step = time.monotonic(), state.step
        elif in_between:
            saver.save(state, {}, window)
        if by > 0 and state.step < training.num_steps:
            raise Stopped(signal.Signals(by))


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """The rate of every parameter group."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate


def scaling_figures(state: TrainState, guard: Guard) -> dict[str, float]:
    """Of float16's scaled gradients: how many steps have been skipped, and the scale.

    Raises FloatingPointError if the scale has become so small that it is not the scale by which they overflow.
    """
    if state.accelerator.scaler is None:
        return {}
    scale = state.accelerator.scaler.get_scale()
    if scale < LEAST_SCALE:
        guard.stop(state.step - 1, f"the gradient, even at a scale of {scale:.1g}, is")
    return {SKIPPED: float(state.feedback.get(SKIPPED, 0.0)), "loss_scale": scale}


def new_alarms(state: TrainState, found: dict[str, float], before: dict[str, Any] | None) -> dict[str, str]:
    """What a validation finds wrong, if the one before did not find all of it."""
    if state.model.latent_size == 0:  # there is no z to be unused
        return {}
    now = findings(found)
    return now if now.keys() - (findings(before) if before else {}).keys() else {}


def raise_alarm(run: Run, step: int, alarms: dict[str, str], on_collapse: str) -> None:
    """Raise CollapseError if z is not used and the recipe wants to stop then."""
    if on_collapse == "stop" and alarms.keys() & COLLAPSED:
        raise CollapseError(f"{alarm_line(step, alarms)}; the run is in {run.path} (train.on_collapse=stop)")
