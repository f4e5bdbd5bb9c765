"""Trainings that carry feedback from step to step: a resumed one has the weights of one that never stopped."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from latent.training import Run, RunError
from latent.training.checkpoints import ADVERSARY, ADVERSARY_OPTIMIZER, MODEL, OPTIMIZER, STATE, Checkpoint
from textvae.recipe import TextRecipe

CONTROLLERS = {
    "multiplier": "objective.controller={kind: mdr, target: 2.0, rate: 0.05}",
    "integral": "objective.controller={kind: pi, target: 0.05, integral: 0.01}",
    "soft_weight": "objective.controller={kind: soft_free_bits, target: 2.0}",
}
AGGRESSIVE = "update={kind: aggressive, max_inner_steps: 6, compare_every: 2}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def rows(run: Run) -> list[dict[str, float]]:
    """All that was logged but the speed."""
    return [{key: value for key, value in row.items() if key != "rate"} for row in run.metrics()]


def feedback(run: Run, step: int) -> dict[str, float]:
    return json.loads((run.path / f"checkpoints/step-{step:06d}" / STATE).read_text("utf-8"))["feedback"]


def resumed(run: Run, folder: Path, step: int) -> Run:
    """A copy that was stopped after its checkpoint at a step, and gone on with."""
    shutil.copytree(run.path, folder)
    for path in (folder / "checkpoints").iterdir():
        if path.name > f"step-{step:06d}":
            shutil.rmtree(path)
    return resume_run(Run(folder))


def assert_same_run(a: Run, b: Run, step: int) -> None:
    names = sorted(path.name for path in (a.path / f"checkpoints/step-{step:06d}").glob("*.safetensors"))
    assert {MODEL, OPTIMIZER} <= set(names)
    for name in names:
        first, second = (load_file(run.path / f"checkpoints/step-{step:06d}" / name) for run in (a, b))
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key
    assert feedback(a, step) == feedback(b, step)
    assert rows(a) == rows(b)


def plain(corpus: Path, *overrides: str) -> TextRecipe:
    """Without free bits, below which the weight of the KL changes nothing."""
    return tiny_recipe(corpus, *overrides, recipe="plain")


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_goes_on_where_it_was(name: str, corpus: Path, tmp_path: Path) -> None:
    run = start_run(plain(corpus, CONTROLLERS[name]), tmp_path / "whole")
    assert len({feedback(run, step)[name] for step in (10, 20, 30)}) == 3
    assert len({row["kl_weight"] for row in rows(run) if "loss" in row}) > 1
    assert_same_run(run, resumed(run, tmp_path / "stopped", 10), 30)


def test_a_checkpoint_without_its_feedback_would_end_elsewhere(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The equality above does hang on what is stored."""
    run = start_run(plain(corpus, CONTROLLERS["multiplier"]), tmp_path / "whole")
    monkeypatch.setattr(Checkpoint, "feedback", property(lambda _: {}, lambda *_: None), raising=False)
    other = resumed(run, tmp_path / "stopped", 10)
    first, second = (load_file(each.path / "checkpoints/step-000030" / MODEL) for each in (run, other))
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("step", [5, 20])
def test_the_aggressive_phase_goes_on_or_stays_ended(step: int, corpus: Path, tmp_path: Path) -> None:
    often = ("train.checkpoint_steps=5", "train.keep_checkpoints=9", "train.log_steps=1")
    run = start_run(plain(corpus, AGGRESSIVE, *often), tmp_path / "whole")
    assert feedback(run, 5)["is_aggressive"] == 1
    phases = [feedback(run, each)["is_aggressive"] for each in range(5, 31, 5)]
    assert phases == sorted(phases, reverse=True)
    assert phases[3] == 0
    for row in rows(run):
        if "cost" in row:
            was_aggressive = row["step"] <= 5 * (1 + sum(phases))
            assert row["cost"] in ((5, 7) if was_aggressive else (1,))
    assert_same_run(run, resumed(run, tmp_path / "stopped", step), 30)


ADVERSARIAL = ("update={kind: adversarial, hidden_size: 8}", "model.encoder_noise={deletion: 0.3, masking: 0.1}")


def test_an_adversary_goes_on_where_it_was(corpus: Path, tmp_path: Path) -> None:
    run = start_run(plain(corpus, *ADVERSARIAL), tmp_path / "whole")
    for name in (ADVERSARY, ADVERSARY_OPTIMIZER):
        early, late = (load_file(run.path / f"checkpoints/step-{step:06d}" / name) for step in (10, 30))
        assert early.keys() == late.keys()
        assert all(not torch.equal(early[key], late[key]) for key in early)
    assert_same_run(run, resumed(run, tmp_path / "stopped", 10), 30)


@pytest.mark.parametrize("name", [ADVERSARY, ADVERSARY_OPTIMIZER])
def test_a_damaged_or_missing_adversary_is_found(name: str, corpus: Path, tmp_path: Path) -> None:
    run = start_run(plain(corpus, *ADVERSARIAL, "train.steps=20"), tmp_path / "run")
    path = run.path / "checkpoints/step-000020" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    checkpoint, damaged = run.checkpoint("last")
    assert checkpoint.step == 10
    assert [name in line for line in damaged] == [True]
    (run.path / "checkpoints/step-000010" / name).unlink()
    with pytest.raises(RunError, match="no checkpoint to load"):
        run.checkpoint("last")


def test_a_scheduled_word_dropout_goes_on_where_it_was(corpus: Path, tmp_path: Path) -> None:
    schedule = "model.word_dropout_schedule={kind: linear, start: 1.0, end: 0.0, steps: 40}"
    run = start_run(plain(corpus, "model.word_dropout=0.9", schedule), tmp_path / "whole")
    assert_same_run(run, resumed(run, tmp_path / "stopped", 10), 30)
    constant = start_run(plain(corpus, "model.word_dropout=0.9"), tmp_path / "constant")
    first, second = (load_file(each.path / "checkpoints/step-000030" / MODEL) for each in (run, constant))
    assert any(not torch.equal(first[key], second[key]) for key in first)
    log = (run.path / "log.txt").read_text("utf-8")
    assert "model.word_dropout_schedule is only 0.28 at step 30, on its way to 0" in log


@pytest.mark.parametrize("name", ["bow2017", "mi"])
def test_what_an_objective_adds_is_logged_beside_the_bound(name: str, corpus: Path, tmp_path: Path) -> None:
    run = start_run(tiny_recipe(corpus, recipe=name), tmp_path / "whole")
    for row in rows(run):
        if "loss" in row:
            assert row["elbo"] == pytest.approx(-row["reconstruction"] - row["kl"], rel=1e-4)
            added = row["auxiliary"] if name == "bow2017" else -0.9 * row["information"]
            assert row["loss"] == pytest.approx(-row["elbo"] + added, rel=1e-4)
    assert_same_run(run, resumed(run, tmp_path / "stopped", 10), 30)
