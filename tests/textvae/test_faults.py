"""A fault in each system call of a save: whatever stands there afterwards can be loaded and is gone on from exactly."""

import errno
import itertools
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from faults import Killed, faulty
from tiny import checkpoints, resume_run, rows, start_run, tiny_recipe, write_corpus

from latent.training import Run, TrainState, build_state
from latent.training.checkpoints import load_state
from latent.training.nonfinite import Guard
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


@contextmanager
def while_taking(steps: range, fault: Callable[[], object], mend: Callable[[], object]) -> Iterator[None]:
    """Something breaks before the first of these steps and is mended before the one after the last."""
    take = Guard.step

    def taken(guard: Guard, state: TrainState, window: Window) -> None:
        if state.step == steps.start:
            fault()
        if state.step == steps.stop:
            mend()
        take(guard, state, window)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "step", taken)
        yield


@pytest.mark.parametrize("until", [17, 25, 99])
def test_a_training_goes_on_while_the_disk_is_full(
    until: int, recipe: TextRecipe, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_full, write, path = threading.Event(), os.write, tmp_path / "run"

    def limited(descriptor: int, data: bytes) -> int:
        if is_full.is_set():
            write(descriptor, bytes(data)[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", limited)
        with while_taking(range(12, until), is_full.set, is_full.clear):
            if until < 30:
                start_run(recipe, path)
            else:
                with pytest.raises(
                    OSError, match=r"the last step could not be saved: .*; mend that, then go on with: "
                ):
                    start_run(recipe, path)
    said = capsys.readouterr().err
    assert said.count("metrics.jsonl: [Errno 28] No space left on device; its rows wait") == 1
    assert ("step 20: no checkpoint could be written" in said) == (until > 20)
    assert ("the last good checkpoint is step-000010" in said) == (until > 20)
    if until > 30:
        assert set(checkpoints(Run(path))) == {"step-000010"}
        resume_run(Run(path))
    assert checkpoints(Run(path))["step-000030"] == checkpoints(finished)["step-000030"]
    assert rows(Run(path)) == rows(finished)


def test_a_folder_that_vanishes_ends_in_an_error_and_comes_back_whole(
    recipe: TextRecipe, finished: Run, tmp_path: Path
) -> None:
    path, away = tmp_path / "run", tmp_path / "away"
    with while_taking(range(12, 22), lambda: path.rename(away), lambda: away.rename(path)):
        start_run(recipe, path)
    assert checkpoints(Run(path))["step-000030"] == checkpoints(finished)["step-000030"]
    assert rows(Run(path)) == rows(finished)
    with (
        while_taking(range(12, 99), lambda: shutil.rmtree(tmp_path / "gone"), lambda: None),
        pytest.raises(OSError, match=r"the last step could not be saved: .*No such file or directory"),
    ):
        start_run(recipe, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_write_that_is_not_what_was_to_be_written_is_found_out(before: BeforeItsLastSave, state: TrainState) -> None:
    """A disk that says it wrote, and wrote something else."""
    run, saver = before.copy()
    write = os.write

    def flipped(descriptor: int, data: bytes) -> int:
        content = bytearray(data)
        content[len(content) // 2] ^= 1
        return write(descriptor, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", flipped)
        saver.save(state, {"elbo": 0.0}, Window())
    assert "what was written is not what can be read" in str(saver.failure)
    assert set(checkpoints(run)) == {"step-000010", "step-000020"}
    assert not list((run.path / "checkpoints").glob(".*"))


def test_a_file_system_that_cannot_sync_folders_is_borne_with(
    before: BeforeItsLastSave, state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saver = before.copy()
    sync = os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    before.save(saver, state)
    assert checkpoints(run) == before.expected


def test_a_failed_checkpoint_is_tried_again_after_a_while(
    before: BeforeItsLastSave, state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, saver = before.copy()
    now = [time.monotonic()]
    monkeypatch.setattr("latent.training.saving.time.monotonic", lambda: now[0])
    with faulty(10, OSError(errno.ENOSPC, "full")):
        before.save(saver, state)
    assert saver.failure is not None
    assert not saver.is_due
    now[0] += 61
    assert saver.is_due
    before.save(saver, state)
    assert not saver.is_due
    now[0] += 299
    assert not saver.is_due
    now[0] += 1
    assert saver.is_due
