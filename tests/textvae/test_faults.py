"""A fault in each system call of a save: whatever stands there afterwards can be loaded and is gone on from exactly."""

import errno
import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults import Killed, faulty
from tiny import checkpoints, resume_run, rows, start_run, tiny_recipe, write_corpus

from latent.training import Run, TrainState, build_state
from latent.training.checkpoints import load_state
from latent.training.saving import Saver
from latent.training.window import Window
from textvae.recipe import TextRecipe
from textvae.side import TEXT


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> TextRecipe:
    return tiny_recipe(write_corpus(tmp_path_factory.mktemp("corpus")), "train.keep_checkpoints=2")


@pytest.fixture(scope="module")
def finished(recipe: TextRecipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Beside it, `stopped` is the run as it was before its last checkpoint, with the two before."""
    path, save = tmp_path_factory.mktemp("finished") / "run", Saver.save

    def copied_and_saved(saver: Saver, state: TrainState, *arguments: Any) -> None:
        if state.step == 30:
            shutil.copytree(path, path.with_name("stopped"), ignore=shutil.ignore_patterns("lock"))
        save(saver, state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "save", copied_and_saved)
        return start_run(recipe, path)


@pytest.fixture(scope="module")
def state(recipe: TextRecipe, finished: Run) -> TrainState:
    """As it was at the end."""
    found = build_state(TEXT.read(recipe, finished), recipe.train)
    load_state(finished.checkpoint("last")[0], found)
    return found


class BeforeItsLastSave:
    """Copies of a run as they were before the last checkpoint, and what they are to be after it."""

    def __init__(self, finished: Run, recipe: TextRecipe, folder: Path) -> None:
        self.finished, self.recipe, self.folder = finished, recipe, folder
        self.expected, self.rows = checkpoints(finished), rows(finished)
        self.said: list[str] = []

    def copy(self) -> tuple[Run, Saver]:
        path = self.folder / "run"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.finished.path.with_name("stopped"), path)
        run = Run(path)
        run.cut_metrics(29)
        self.said = []
        tree = TEXT.schema.tree(TEXT.load_recipe(run.config_path))
        return run, Saver(run, self.recipe.train, tree, 20, self.said.append, lambda: None)

    def save(self, saver: Saver, state: TrainState) -> None:
        for row in list(self.finished.metrics())[-2:]:
            saver.log(row)
        saver.save(state, self.finished.checkpoint("last")[0].figures, Window())


@pytest.fixture
def before(finished: Run, recipe: TextRecipe, tmp_path: Path) -> BeforeItsLastSave:
    return BeforeItsLastSave(finished, recipe, tmp_path)


def faults(before: BeforeItsLastSave, state: TrainState, error: BaseException) -> Iterator[tuple[Run, Saver]]:
    """A save with a fault in its first system call, its second and so on, until there are no more."""
    for at in itertools.count():
        run, saver = before.copy()
        with faulty(at, error) as counted, suppress(Killed):
            before.save(saver, state)
        if counted.number <= at:
            assert at > 30  # rows, three files, and a folder that comes and one that goes
            return
        yield run, saver


def test_a_save_is_what_it_is_to_be(before: BeforeItsLastSave, state: TrainState) -> None:
    run, saver = before.copy()
    before.save(saver, state)
    assert checkpoints(run) == before.expected
    assert rows(run) == before.rows
    assert before.said == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_after_an_error_the_old_checkpoints_stand_and_the_next_save_makes_up_for_it(
    number: int, before: BeforeItsLastSave, state: TrainState
) -> None:
    num_failed = 0
    for run, saver in faults(before, state, OSError(number, "injected")):
        found = checkpoints(run)
        assert "step-000020" in found
        assert {"step-000010", "step-000030"} & found.keys()
        if saver.failure is not None:
            num_failed += 1
            assert any("no checkpoint could be written" in line for line in before.said)
            saver.save(state, before.finished.checkpoint("last")[0].figures, Window())
        assert saver.failure is None
        saver.run.prune(2)
        assert checkpoints(run) == before.expected
        assert rows(run) == before.rows
        assert not list((run.path / "checkpoints").glob(".*"))
    assert num_failed > 20


def test_after_a_kill_at_any_call_the_run_is_gone_on_with_exactly(before: BeforeItsLastSave, state: TrainState) -> None:
    steps = []
    for run, _ in faults(before, state, Killed()):
        found = checkpoints(run)
        assert "step-000020" in found
        assert {"step-000010", "step-000030"} & found.keys()
        steps.append(run.checkpoint("last")[0].step)
        resume_run(Run(run.path))
        assert checkpoints(run) == before.expected
        assert rows(run) == before.rows
        assert not list((run.path / "checkpoints").glob(".*"))
    assert set(steps) == {20, 30}
