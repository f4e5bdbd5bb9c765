"""Steps whose figures are not finite: who is named, what is taken back, and that a cap ends it."""

import shutil
from pathlib import Path

import pytest
from spoiled import spoil
from tiny import checkpoints, resume_run, rows, start_run, tiny_recipe, write_corpus

from latent.training import Run
from latent.training.config import ConfigError

BAD = (7, 16)  # of the steps' indices
UPDATES = ("{kind: joint}", "{kind: aggressive, max_inner_steps: 3}", "{kind: adversarial, hidden_size: 8}")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def bad_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of some steps is not a number, nor is what the objective would carry on."""
    spoil(monkeypatch, BAD)


@pytest.mark.usefixtures("bad_steps")
def test_stop_names_step_examples_checkpoint_and_remedy(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError) as caught:
        start_run(tiny_recipe(corpus, "train.checkpoint_steps=6"), tmp_path / "run")
    said = str(caught.value)
    assert said.startswith(
        "step 8 (batch 7): loss and gradient_norm are not finite; the last good checkpoint is step-000006 of "
    )
    assert "a lower train.learning_rate" in said
    assert "train.on_nonfinite=skip" in said
    row = rows(Run(tmp_path / "run"))[-1]
    assert (row["step"], row["alarm"]) == (8, said)
    assert all(f" {index}" in said for index in row["examples"][:8])
    assert len(row["examples"]) > 1
    assert "\n" not in said


@pytest.mark.usefixtures("bad_steps")
@pytest.mark.parametrize(
    "update", ["{kind: joint}", "{kind: aggressive, max_inner_steps: 3}", "{kind: adversarial, hidden_size: 8}"]
)
def test_skip_and_rollback_leave_the_steps_out_alike(update: str, corpus: Path, tmp_path: Path) -> None:
    controlled = "objective.controller={kind: mdr, target: 2.0, rate: 0.05}"
    runs = {}
    for how in ("skip", "rollback"):
        recipe = tiny_recipe(corpus, f"train.on_nonfinite={how}", controlled, f"update={update}", recipe="plain")
        runs[how] = start_run(recipe, tmp_path / how)
    assert checkpoints(runs["skip"]) == checkpoints(runs["rollback"])
    assert rows(runs["skip"]) == rows(runs["rollback"])
    passed = [row for row in rows(runs["skip"]) if "examples" in row]
    assert [row["step"] for row in passed] == [index + 1 for index in BAD]
    assert all("passed over" in row["alarm"] for row in passed)
    assert runs["skip"].checkpoint("last")[0].feedback["passed_over_steps"] == 2
    for how, run in runs.items():
        stopped = Run(Path(shutil.copytree(run.path, tmp_path / f"{how}-stopped")))
        for step in (20, 30):
            shutil.rmtree(stopped.path / f"checkpoints/step-{step:06d}")
        assert stopped.checkpoint("last")[0].step == 10
        resume_run(stopped)
        assert checkpoints(stopped) == checkpoints(run)
        assert rows(stopped) == rows(run)


def test_a_copy_before_each_step_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    stop, skip = (
        start_run(tiny_recipe(corpus, f"train.on_nonfinite={how}"), tmp_path / how) for how in ("stop", "skip")
    )
    assert checkpoints(stop) == checkpoints(skip)
    assert rows(stop) == rows(skip)


@pytest.mark.parametrize("how", ["skip", "rollback"])
def test_too_many_stop_the_training(how: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, (3, 11, 12))
    recipe = tiny_recipe(corpus, f"train.on_nonfinite={how}", "train.max_nonfinite_steps=2")
    with pytest.raises(
        FloatingPointError, match=r"step 13 .*2 steps have been passed over \(train.max_nonfinite_steps\)"
    ):
        start_run(recipe, tmp_path / "run")
    assert Run(tmp_path / "run").checkpoint("last")[0].step == 10


@pytest.mark.parametrize("how", ["skip", "rollback"])
def test_the_step_that_changes_the_stage_is_not_passed_over(
    how: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, (10,))
    recipe = tiny_recipe(corpus, f"train.on_nonfinite={how}", recipe="fbp2019")
    with pytest.raises(FloatingPointError, match=r"step 11 .*changes its stage at this step"):
        start_run(recipe, tmp_path / "run")


def test_where_no_step_is_finite_there_is_nothing_to_save(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, tuple(range(30)))
    with pytest.raises(
        FloatingPointError, match=r"step 10 .*every loss so far is not finite; there is no checkpoint yet"
    ):
        start_run(tiny_recipe(corpus, "train.on_nonfinite=skip"), tmp_path / "run")


def test_weights_that_are_not_finite_are_not_saved(corpus: Path, tmp_path: Path) -> None:
    large = ("train.learning_rate=3e38", "train.optimizer=sgd", "train.log_steps=1", "train.checkpoint_steps=1")
    with pytest.raises(FloatingPointError, match=r"step 1 .*is not finite; there is no checkpoint yet"):
        start_run(tiny_recipe(corpus, *large, "train.checkpoint_every=0s"), tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("given", ["5", "5 minutes", "-1s", "''", "1e3s"])
def test_a_time_needs_its_unit(given: str, corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.checkpoint_every: "):
        tiny_recipe(corpus, f"train.checkpoint_every={given}")
