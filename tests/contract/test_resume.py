"""A training that is stopped anywhere and gone on with is the training that was left alone: for every update."""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny import checkpoints, rows, tiny_image_recipe, tiny_recipe, write_corpus

from imagevae.side import IMAGE
from latent.training import Run, RunError, Side, TrainState, resume_run, start_run
from latent.training.changes import MAY_CHANGE
from latent.training.interruption import Stopped
from latent.training.nonfinite import Guard
from latent.training.recipe import Recipe, TrainConfig
from latent.training.saving import Saver
from latent.training.updates import Update
from latent.training.window import Window
from textvae.side import TEXT

KINDS = {
    "joint": ("lstm", ()),
    "pretrained_encoder": ("fbp2019", ()),
    "aggressive": ("lagging2019", ("update={kind: aggressive, max_inner_steps: 6, compare_every: 2}",)),
    "adversarial": ("aae", ("update.hidden_size=8",)),
    "pretrained": ("digits_vade", ()),
    "vae_gan": ("digits_vaegan", ("update.channels=[4,6]", "update.margin=0.02")),  # so that either pauses
    "semi_amortized": ("savae2018", ()),
}
OF_IMAGES = ("pretrained", "vae_gan")
STEPS = (3, 10, 12, 23)  # in the middle of a row, at the switch of stages, between rows and validations
AnyRecipe = Recipe[Any, Any, Any]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def recipe_of(kind: str, corpus: Path, *overrides: str) -> tuple[Side[Any], AnyRecipe]:
    name, settings = KINDS[kind]
    if kind in OF_IMAGES:
        return IMAGE, tiny_image_recipe(name, *settings, *overrides)
    return TEXT, tiny_recipe(corpus, *settings, *overrides, recipe=name)


def saved_at_every_step(side: Side[Any], recipe: AnyRecipe, path: Path, copied: Sequence[int]) -> Run:
    """Train with a checkpoint after each step; beside the run lie copies of it as it was after some of them."""
    save = Saver.save

    def saved_and_copied(saver: Saver, state: TrainState, figures: dict[str, float], window: Window) -> None:
        save(saver, state, figures, window)
        if state.step in copied:
            shutil.copytree(path, path.with_name(f"at-{state.step}"), ignore=shutil.ignore_patterns("lock"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "save", saved_and_copied)
        return start_run(side, recipe, path)


def test_every_update_is_here() -> None:
    assert set(KINDS) == {each.kind for each in get_args(get_args(Update)[0])}


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_by_time_change_nothing_and_are_gone_on_from_exactly(
    kind: str, corpus: Path, tmp_path: Path
) -> None:
    side, recipe = recipe_of(kind, corpus)
    alone = start_run(side, recipe, tmp_path / "alone")
    side, often = recipe_of(kind, corpus, "train.checkpoint_every=0s")
    run = saved_at_every_step(side, often, tmp_path / "often", STEPS)
    assert checkpoints(run) == checkpoints(alone)
    assert rows(run) == rows(alone)
    for step in STEPS:
        stopped = Run(tmp_path / f"at-{step}")
        assert stopped.checkpoint("last")[0].step == step
        resume_run(side, stopped, ["train.checkpoint_every=never"])
        assert checkpoints(stopped) == checkpoints(alone), step
        assert rows(stopped) == rows(alone), step


def signalled(monkeypatch: pytest.MonkeyPatch, step: int, *signals: signal.Signals) -> None:
    """These signals come in the middle of a step."""
    take = Guard.step

    def taken(guard: Guard, state: TrainState, window: Window) -> None:
        take(guard, state, window)
        if state.step == step:
            for number in signals:
                signal.raise_signal(number)

    monkeypatch.setattr(Guard, "step", taken)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [6, 9])
def test_a_signal_is_obeyed_after_the_step_and_a_checkpoint(
    number: signal.Signals, exit_code: int, step: int, corpus: Path, tmp_path: Path
) -> None:
    recipe, before = tiny_recipe(corpus), signal.getsignal(number)
    path = tmp_path / "it's mine"
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, step, number)
        with pytest.raises(Stopped) as caught:
            start_run(TEXT, recipe, path)
    assert caught.value.exit_code == exit_code
    remedy = f"go on with: textvae train --resume '{tmp_path}/it'\"'\"'s mine'"
    assert str(caught.value) == f"stopped at step {step + 1}; {remedy}"
    assert signal.getsignal(number) is before
    assert Run(path).checkpoint("last")[0].step == step + 1
    assert not (path / "lock").exists()
    alone = start_run(TEXT, recipe, tmp_path / "alone")
    resume_run(TEXT, Run(path))
    assert checkpoints(Run(path)) == checkpoints(alone)
    assert rows(Run(path)) == rows(alone)


def test_a_second_signal_stops_at_once(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signalled(monkeypatch, 12, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(Stopped) as caught:
        start_run(TEXT, tiny_recipe(corpus), tmp_path / "run")
    assert caught.value.exit_code == 130
    assert "stopped at step 12; the last good checkpoint is step-000010; go on with: " in str(caught.value)
    assert Run(tmp_path / "run").checkpoint("last")[0].step == 10


def test_an_ignored_signal_stays_ignored(corpus: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.MonkeyPatch.context() as patch:
            signalled(patch, 12, signal.SIGINT)
            run = start_run(TEXT, tiny_recipe(corpus), tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.checkpoint("last")[0].step == 30


def test_a_longer_training_is_that_of_the_longer_recipe(corpus: Path, tmp_path: Path) -> None:
    whole = start_run(TEXT, tiny_recipe(corpus, "train.steps=40"), tmp_path / "whole")
    run = start_run(TEXT, tiny_recipe(corpus, "train.steps=20"), tmp_path / "run")
    resume_run(TEXT, run, ["train.steps=40", "train.log_steps=5"])
    assert checkpoints(run)["step-000040"] == checkpoints(whole)["step-000040"]
    assert rows(run) == rows(whole)
    assert TEXT.load_recipe(run.config_path) == TEXT.load_recipe(whole.config_path)
    assert "train.steps was 20 and is 40" in (run.path / "log.txt").read_text("utf-8")
    with pytest.raises(RunError, match="the run is at step 40 already"):
        resume_run(TEXT, run, ["train.steps=30"])
    assert TEXT.load_recipe(run.config_path).train.steps == 40


def test_what_may_change_is_there_and_nothing_else_may(corpus: Path, tmp_path: Path) -> None:
    assert {key.removeprefix("train.") for key in MAY_CHANGE} - {"corpus.path"} <= set(TrainConfig.__dataclass_fields__)
    run = start_run(TEXT, tiny_recipe(corpus, "train.steps=10"), tmp_path / "run")
    before = run.config_path.read_text("utf-8")
    given = ["train.learning_rate=0.5", "model.hidden_size=20", "train.steps=20"]
    with pytest.raises(
        RunError, match=r"model\.hidden_size \(trained with 16, now 20\), train\.learning_rate"
    ) as caught:
        resume_run(TEXT, run, given)
    assert "\n" not in str(caught.value)
    assert "train.steps (" not in str(caught.value)
    assert run.config_path.read_text("utf-8") == before
    run.config_path.write_text(before.replace("seed: 0", "seed: 1"), "utf-8")
    with pytest.raises(RunError, match=r"config\.yaml: .*train\.seed \(trained with 0, now 1\)"):
        resume_run(TEXT, run)
    assert not (run.path / "lock").exists()


def test_a_moved_corpus_of_the_same_content_is_found_where_it_is_said_to_be(corpus: Path, tmp_path: Path) -> None:
    moved = tmp_path / "before.txt"
    shutil.copy(corpus, moved)
    run = start_run(TEXT, tiny_recipe(moved, "train.steps=10"), tmp_path / "run")
    moved.unlink()
    resume_run(TEXT, run, [f"corpus.path={corpus}", "train.steps=20"])
    assert run.checkpoint("last")[0].step == 20


def test_a_checkpoint_without_a_validation_is_not_the_best(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(corpus, "train.checkpoint_every=0s")
    run = saved_at_every_step(TEXT, recipe, tmp_path / "run", [4, 23])
    assert Run(tmp_path / "at-4").checkpoint("best")[0].step == 4  # there is no other
    late = Run(tmp_path / "at-23")
    assert late.checkpoint("best")[0].step in (10, 20)
    assert set(checkpoints(late)) == {f"step-{step:06d}" for step in (10, 20, 21, 22, 23)}
    assert torch.isfinite(torch.tensor([row["loss"] for row in rows(run) if "loss" in row])).all()
