"""Several batches a step are one large one; the noise and the weight of each are what they would be alone."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiled import spoil
from tiny import checkpoints, resume_run, rows, start_run, tiny_image_recipe, tiny_recipe, write_corpus
from torch import Tensor

from corpora import TextBatch
from imagevae.side import IMAGE
from latent.training import Run, TrainState, build_state, seed_everything
from latent.training.recipe import Recipe
from latent.training.running import fold, running_parts, take_seen
from latent.training.seeding import Stream
from textvae.side import TEXT

NOISY = {
    "lstm": (),  # dropout of words and features, and draws of z
    "controlvae": (),  # feedback
    "aae": ("update.hidden_size=8",),
    "bnvae2020": (),  # running statistics
    "fbp2019": (),
    "digits_vade": (),
    "vmf2018": (),  # draws by rejection
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def state_and_batches(name: str, corpus: Path, *overrides: str) -> tuple[Recipe[Any, Any, Any], TrainState, Any]:
    is_image = name.startswith("digits")
    recipe = tiny_image_recipe(name, *overrides) if is_image else tiny_recipe(corpus, *overrides, recipe=name)
    material = (IMAGE if is_image else TEXT).read(recipe, None)
    state = build_state(material, recipe.train)
    state.model.double()
    recipe.update.prepare(state)
    return recipe, state, material.training_data().batches


def gradients(state: TrainState) -> list[Tensor]:
    modules = [state.model, *([state.adversary.module] if state.adversary is not None else [])]
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


class Cut:
    """One batch, whole or cut into four of unequal size."""

    def __init__(self, whole: TextBatch, num_batches: int) -> None:
        self.whole, self.num_batches = whole, num_batches

    def __getitem__(self, index: int) -> TextBatch:
        ends = [0, 1, 4, 6, len(self.whole)] if self.num_batches == 4 else [0, len(self.whole)]
        rows = torch.arange(ends[index], ends[index + 1])
        weight = self.whole.weight * self.num_batches * len(rows) / len(self.whole)
        return replace(self.whole.take(rows), weight=weight)


class From:
    """An order of training from one of its batches on."""

    def __init__(self, batches: Any, first: int) -> None:
        self.batches, self.first, self.num_batches = batches, first, batches.num_batches

    def __getitem__(self, index: int) -> Any:
        return self.batches[self.first + index]


def test_four_batches_are_the_batch_of_all_their_sentences(corpus: Path) -> None:
    found = []
    for num_batches in (1, 4):
        quiet = ("model.dropout_in=0.0", "model.dropout_out=0.0")
        settings = (*quiet, f"train.batches_per_step={num_batches}", "update.max_gradient_norm=1e9")
        recipe, state, batches = state_and_batches("lstm_lm", corpus, *settings)
        whole = batches[2]
        assert len(whole) > 8
        row = recipe.update(state, Cut(whole, num_batches), recipe.objective)
        found.append((row, gradients(state)))
    (row, expected), (other, got) = found
    assert {name: float(value) for name, value in other.items()} == pytest.approx(
        {name: float(value) for name, value in row.items()}, rel=1e-12
    )
    for gradient, of_parts in zip(expected, got, strict=True):
        torch.testing.assert_close(of_parts, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", NOISY)
def test_each_batch_has_the_noise_and_weight_that_it_has_alone(name: str, corpus: Path) -> None:
    """The step of three batches has the mean of the gradients and figures of these three, each a step's own."""
    alone = []
    for number in range(3):
        recipe, state, batches = state_and_batches(name, corpus, *NOISY[name], "update.max_gradient_norm=1e9")
        seed_everything(0, Stream.STEP, number)
        row = recipe.update(state, From(batches, number), recipe.objective)
        alone.append((row, gradients(state), dict(state.feedback)))
    settings = (*NOISY[name], "update.max_gradient_norm=1e9", "train.batches_per_step=3")
    recipe, state, batches = state_and_batches(name, corpus, *settings)
    seed_everything(0, Stream.STEP, 0)
    row = recipe.update(state, batches, recipe.objective)
    weights = torch.tensor([float(each["weight"]) for each, _, _ in alone], dtype=torch.float64)
    assert len(set(weights.tolist())) > 1 or name.startswith("digits")
    assert float(row["weight"]) == pytest.approx(float(weights.mean()))
    for figure in row.keys() - {"weight", "gradient_norm"}:
        values = torch.tensor([float(each[figure]) for each, _, _ in alone], dtype=torch.float64)
        assert float(row[figure]) == pytest.approx(float((weights * values).sum() / weights.sum()), rel=1e-9), figure
    for carried, value in state.feedback.items():
        values = torch.tensor([float(feedback[carried]) for _, _, feedback in alone], dtype=torch.float64)
        assert float(value) == pytest.approx(float((weights * values).sum() / weights.sum()), rel=1e-9), carried
    for number, gradient in enumerate(gradients(state)):
        mean = torch.stack([each[number] for _, each, _ in alone]).mean(0)
        torch.testing.assert_close(gradient, mean, rtol=1e-9, atol=1e-12)


def test_running_statistics_see_one_batch_of_a_step_after_the_other(corpus: Path) -> None:
    recipe, state, batches = state_and_batches("bnvae2020", corpus, "train.batches_per_step=3")
    _, other, _ = state_and_batches("bnvae2020", corpus)
    for number in range(3):
        other.model(batches[number])
        fold(running_parts(other.model), take_seen(running_parts(other.model)))
    recipe.update(state, batches, recipe.objective)
    found, expected = dict(state.model.named_buffers()), dict(other.model.named_buffers())
    assert sum(name.endswith(".running_variance") for name in found) == 1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recipe", ["controlvae", "aae", "fbp2019", "lagging2019"])
def test_a_run_of_several_batches_a_step_is_gone_on_from_exactly(recipe: str, corpus: Path, tmp_path: Path) -> None:
    settings = ("train.batches_per_step=3", "train.steps=15", "train.log_steps=4", "update.steps=6")
    settings = settings if recipe == "fbp2019" else settings[:-1]
    whole = start_run(tiny_recipe(corpus, *settings, recipe=recipe), tmp_path / "whole")
    run = start_run(tiny_recipe(corpus, *settings, recipe=recipe), tmp_path / "run")
    for path in (run.path / "checkpoints/step-000015").iterdir():
        path.unlink()
    (run.path / "checkpoints/step-000015").rmdir()
    resume_run(run)
    assert checkpoints(run) == checkpoints(whole)
    assert rows(run) == rows(whole)


def test_an_epoch_has_fewer_steps_of_more_batches(corpus: Path) -> None:
    train = tiny_recipe(corpus, "train.epochs=2", "train.batches_per_step=3").train
    assert train.num_steps(batches_per_epoch=15) == 10


def test_the_examples_of_all_batches_of_a_bad_step_are_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, (7,))
    recipe = tiny_recipe(corpus, "train.batches_per_step=2")
    with pytest.raises(
        FloatingPointError, match=r"^step 8 \(batches 14 to 15\): loss and gradient_norm are not finite"
    ):
        start_run(recipe, tmp_path / "run")
    _, _, batches = state_and_batches("lstm", corpus)
    expected = [index for number in (14, 15) for index in batches[number].indices.tolist()]
    assert rows(Run(tmp_path / "run"))[-1]["examples"] == expected
    assert math.isfinite(rows(Run(tmp_path / "run"))[0]["loss"])
