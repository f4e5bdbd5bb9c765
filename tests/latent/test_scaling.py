"""float16's scaled gradients on a CPU, in float32 cut to float16's range: no GPU is asked."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from latent.training import Run, build_state, seed_everything
from latent.training.checkpoints import MODEL, load_state, read_checkpoint, save_checkpoint, state_tensors
from latent.training.joint import SKIPPED
from latent.training.loop import scaling_figures
from latent.training.nonfinite import Guard
from latent.training.precision import resolve_precision
from latent.training.saving import Saver
from latent.training.seeding import Stream
from latent.training.state import TrainState
from textvae.recipe import TextRecipe
from textvae.side import TEXT

SCALE, OVERFLOWING = 2.0**10, 2.0**40
LARGEST = torch.finfo(torch.float16).max


@pytest.fixture
def recipe(tmp_path: Path) -> TextRecipe:
    return tiny_recipe(write_corpus(tmp_path), "update.max_gradient_norm=0.5", recipe="plain")


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What accelerate does for fp16 on CUDA, but for autocast."""

    def opened(precision: str) -> Accelerator:
        AcceleratorState._reset_state(reset_partial_state=False)
        accelerator = Accelerator(cpu=True)
        monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=7)
        accelerator.autocast = nullcontext  # a CPU has no LSTM in float16
        return accelerator

    build = TrainState.__init__

    def built(state: TrainState, model: torch.nn.Module, *parts: Any) -> None:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: gradient.masked_fill(gradient.abs() > LARGEST, torch.inf))
        build(state, model, *parts)

    monkeypatch.setattr("latent.training.start.open_accelerator", opened)
    monkeypatch.setattr(TrainState, "__init__", built)


def stepped(
    recipe: TextRecipe, num_steps: int, scale: float | None = None
) -> tuple[TrainState, list[dict[str, float]]]:
    material = TEXT.read(recipe, None)
    state, batches = build_state(material, recipe.train), material.training_data().batches
    if scale is not None:
        state.accelerator.scaler.load_state_dict({**state.accelerator.scaler.state_dict(), "scale": scale})
    found = []
    for step in range(num_steps):
        seed_everything(0, Stream.STEP, step)
        found.append({name: float(value) for name, value in recipe.update(state, batches, recipe.objective).items()})
        state.step += 1
    return state, found


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def test_gradients_are_unscaled_before_they_are_clipped(recipe: TextRecipe, request: pytest.FixtureRequest) -> None:
    plain, expected = stepped(recipe, 4)
    request.getfixturevalue("scaled")
    state, found = stepped(recipe, 4)
    assert state.accelerator.scaler.get_scale() == SCALE
    assert all(row["gradient_norm"] > 0.5 for row in expected)  # clipped
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    torch.testing.assert_close(weights(state), weights(plain), atol=1e-5, rtol=1e-4)
    assert float(state.feedback[SKIPPED]) == 0


def test_a_step_that_overflows_is_skipped_and_counted(recipe: TextRecipe, scaled: None) -> None:
    before = weights(build_state(TEXT.read(recipe, None), recipe.train))
    state, (row,) = stepped(recipe, 1, OVERFLOWING)
    assert row["gradient_norm"] == 0
    assert row["loss"] > 0
    assert float(state.feedback[SKIPPED]) == 1
    assert state.accelerator.scaler.get_scale() == OVERFLOWING / 2
    assert torch.equal(weights(state), before)


def test_after_steps_that_overflow_training_goes_on(recipe: TextRecipe, scaled: None) -> None:
    before = weights(build_state(TEXT.read(recipe, None), recipe.train))
    state, rows = stepped(recipe, 30, OVERFLOWING)
    num_skipped = int(state.feedback[SKIPPED])
    assert 0 < num_skipped < 30
    assert [row["gradient_norm"] == 0 for row in rows].count(True) == num_skipped
    assert not torch.equal(weights(state), before)


def test_a_checkpoint_holds_scale_and_count(recipe: TextRecipe, scaled: None, tmp_path: Path) -> None:
    state, _ = stepped(recipe, 3, OVERFLOWING)
    saved = save_checkpoint(tmp_path / "checkpoints", state, state_tensors(state), {})
    other, _ = stepped(recipe, 0)
    load_state(read_checkpoint(saved), other)
    assert other.accelerator.scaler.state_dict() == state.accelerator.scaler.state_dict()
    assert other.accelerator.scaler.get_scale() == OVERFLOWING / 8
    assert other.feedback[SKIPPED] == 3


def test_a_run_logs_them_and_resumes_bit_for_bit(recipe: TextRecipe, scaled: None, tmp_path: Path) -> None:
    whole = start_run(recipe, tmp_path / "whole")
    rows = [row for row in whole.metrics() if "loss" in row]
    assert [row["loss_scale"] for row in rows][-1] == SCALE * 2 ** (30 // 7)
    assert all(row["skipped_steps"] == 0 for row in rows)
    expected = load_file(whole.path / "checkpoints/step-000030" / MODEL)
    for path in (whole.path / "checkpoints/step-000030").iterdir():
        path.unlink()
    (whole.path / "checkpoints/step-000030").rmdir()
    resume_run(whole)
    found = load_file(whole.path / "checkpoints/step-000030" / MODEL)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [row["loss_scale"] for row in whole.metrics() if "loss" in row] == [row["loss_scale"] for row in rows]


def test_a_gradient_that_is_finite_at_no_scale_stops_the_run(recipe: TextRecipe, scaled: None, tmp_path: Path) -> None:
    state, _ = stepped(recipe, 1, 1e-5)
    saver = Saver(Run(tmp_path), recipe.train, {}, None, print, lambda: None)
    guard = Guard(saver, recipe, TEXT.read(recipe, None).training_data().batches)
    with pytest.raises(FloatingPointError, match=r"step 1 .*even at a scale of 1e-05, is not finite; .*precision=fp32"):
        scaling_figures(state, guard)


def test_fp16_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_precision("fp16") == "fp16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^train\.precision: fp16 needs a CUDA device; use auto, bf16 or fp32$"):
        resolve_precision("fp16")
