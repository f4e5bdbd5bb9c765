"""The training loop. It reads top to bottom; what a step does is the update's, what it minimises the objective's."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latent.bound import Batch, Objective
from latent.measures import active_units, encode_split, mutual_information, shuffled_gain
from latent.training.alarms import COLLAPSED, alarm_line, findings
from latent.training.checkpoints import list_checkpoints
from latent.training.console import Reporter
from latent.training.joint import SKIPPED
from latent.training.recipe import TrainConfig
from latent.training.runs import Run
from latent.training.seeding import Stream, seed_everything
from latent.training.state import TrainState
from latent.training.updates import Batches, Metrics, Update

LEAST_SCALE = 1e-4  # of a loss in float16, whose first is 65,536


class CollapseError(ValueError):
    """z is not used, and the recipe wants to stop then."""


@dataclass(frozen=True)
class TrainingData:
    """The endless training order, the validation batches, and how many units (tokens, images) a step sees."""

    batches: Batches
    steps_per_epoch: int
    validation: Sequence[Batch]
    unit: str
    units_per_step: float


def train(
    run: Run,
    state: TrainState,
    data: TrainingData,
    objective: Objective,
    update: Update,
    config: TrainConfig,
    num_steps: int,
    reporter: Reporter,
    step_done: Sequence[Callable[[], object]],
) -> None:
    """Train from `state.step` to `num_steps`, logging, validating and saving as configured.

    What `step_done` holds is called after each update.

    Raises FloatingPointError, naming step and last good checkpoint, when a loss is not finite, and CollapseError where
    `train.on_collapse` is `stop`.
    """
    window: list[Metrics] = []
    since = time.monotonic()
    before = run.last_validation()
    while state.step < num_steps:
        seed_everything(config.seed, Stream.STEP, state.step)
        set_learning_rate(state, config.learning_rate * config.learning_rate_schedule(state.step))
        window.append(update(state, data.batches, objective))
        state.step += 1
        for call in step_done:
            call()

        at_checkpoint = state.step % config.checkpoint_steps == 0 or state.step == num_steps
        if state.step % config.log_steps == 0 or at_checkpoint:
            figures = mean_figures(window, run, state.step) | scaling_figures(state, run)
            rate = len(window) * data.units_per_step / max(time.monotonic() - since, 1e-9)
            run.log({"step": state.step, **figures, "rate": round(rate, 1)})
            window = []
            since = time.monotonic()
            if not at_checkpoint:
                reporter.advance(state.step, {**figures, "rate": rate})

        if at_checkpoint:
            found = validate(state, data.validation) | {"kl_weight": figures["kl_weight"]}
            if not all(map(math.isfinite, found.values())):
                raise_non_finite(run, state.step, "a figure of the validation")
            update.after_validation(state, found)
            run.log({"step": state.step, "split": "valid", **found})
            reporter.advance(state.step, {**figures, "rate": rate, "active_units": found["active_units"]})
            run.save(state, found, config.keep_checkpoints)
            if state.accelerator.unwrap_model(state.model).latent_size > 0:  # else there is no z to be unused
                raise_alarm(run, reporter, state.step, found, before, config.on_collapse)
            before = found
            since = time.monotonic()


def set_learning_rate(state: TrainState, learning_rate: float) -> None:
    """The rate of every parameter group."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate


def mean_figures(window: list[Metrics], run: Run, step: int) -> dict[str, float]:
    """The means over the examples since the last call: the only place where the loop waits for the device.

    Raises FloatingPointError if the loss of one of them is not finite.
    """
    values = {
        name: torch.stack([torch.as_tensor(row[name], dtype=torch.float64) for row in window]).cpu()
        for name in window[0]
    }
    finite = torch.isfinite(values["loss"]) & torch.isfinite(values["gradient_norm"])
    if not finite.all():
        raise_non_finite(run, step - len(window) + 1 + int((~finite).nonzero()[0, 0]))
    share = values.pop("weight")
    return {name: ((value * share).sum() / share.sum()).item() for name, value in values.items()}


def scaling_figures(state: TrainState, run: Run) -> dict[str, float]:
    """Of float16's scaled gradients: how many steps have been skipped, and the scale.

    Raises FloatingPointError if the scale has become so small that it is not the scale by which they overflow.
    """
    if state.accelerator.scaler is None:
        return {}
    scale = state.accelerator.scaler.get_scale()
    if scale < LEAST_SCALE:
        raise_non_finite(run, state.step, f"the gradient, even at a scale of {scale:.1g},")
    return {SKIPPED: float(state.feedback.get(SKIPPED, 0.0)), "loss_scale": scale}


def raise_non_finite(run: Run, step: int, what: str = "the loss or its gradient") -> None:
    """Stop, naming the step and where training can go on from."""
    good, _ = list_checkpoints(run.path / "checkpoints")
    saved = f"the last good checkpoint is {good[-1].path.name}" if good else "there is no checkpoint yet"
    run.log({"step": step, "alarm": f"{what} is not finite"})
    raise FloatingPointError(
        f"step {step} (batch {step - 1}): {what} is not finite; {saved} of {run.path}. "
        "Try a lower train.learning_rate, a lower update.max_gradient_norm or train.precision=fp32"
    )


def raise_alarm(
    run: Run, reporter: Reporter, step: int, found: dict[str, float], before: dict[str, float] | None, on_collapse: str
) -> None:
    """Say, when it begins, that z is not used. Raises CollapseError where the recipe wants to stop then."""
    now = findings(found)
    if not now.keys() - (findings(before) if before else {}).keys():
        return
    line = alarm_line(step, now)
    run.log({"step": step, "alarm": line})
    run.say(line)
    reporter.say(line)
    if on_collapse == "stop" and now.keys() & COLLAPSED:
        raise CollapseError(f"{line}; the run is in {run.path} (train.on_collapse=stop)")


def validate(state: TrainState, batches: Sequence[Batch]) -> dict[str, float]:
    """The bound with KL weight 1 and the use of z on the validation examples, in nats per example."""
    with state.accelerator.autocast():
        model = state.accelerator.unwrap_model(state.model)
        split = encode_split(model, batches, state.accelerator.device)
        # one example alone has no other one's z to be given
        gain = shuffled_gain(model, batches, split, state.accelerator.device) if len(split) > 1 else None
    found: dict[str, Tensor] = {"elbo": split.elbo, "reconstruction": split.reconstruction, "kl": split.kl}
    figures = {name: value.double().mean().item() for name, value in found.items()}
    figures["mutual_information"] = mutual_information(split.posterior, split.z).estimate.value
    figures["mutual_information_ceiling"] = math.log(len(split))
    figures["active_units"] = active_units(split.posterior.mean.cpu()).count.value
    figures |= model.validation_figures(split.posterior)
    return figures if gain is None else figures | {"shuffled_gain": gain.estimate.value}
