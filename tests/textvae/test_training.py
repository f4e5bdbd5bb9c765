"""Training runs: resume, damage, checkpoints and what the folder holds."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from latent.training import Run, RunError, find_run
from latent.training.checkpoints import MODEL, OPTIMIZER, STATE, Checkpoint, CheckpointError, best_checkpoint
from latent.training.files import checksum
from latent.training.loop import CollapseError
from textvae.recipe import TextRecipe
from textvae.session import open_trained


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def recipe(corpus: Path) -> TextRecipe:
    return tiny_recipe(corpus)


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start_run(tiny_recipe(corpus), tmp_path_factory.mktemp("finished") / "run")


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.path, folder / "copy")
    return Run(folder / "copy")


def assert_same_weights(a: Run, b: Run, step: int = 30) -> None:
    for name in (MODEL, OPTIMIZER):
        first, second = (load_file(run.path / f"checkpoints/step-{step:06d}" / name) for run in (a, b))
        assert first.keys() == second.keys()
        assert first
        for key in first:
            assert torch.equal(first[key], second[key]), key


def test_a_run_holds_what_is_needed_to_repeat_it(finished: Run, tmp_path: Path) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert names >= {"config.yaml", "env.json", "metrics.jsonl", "log.txt", "tokenizer.model", "checkpoints"}
    again = start_run(open_trained(finished).recipe, tmp_path / "again")
    assert_same_weights(finished, again)


def test_training_learns_and_logs_every_step_once(finished: Run) -> None:
    rows = list(finished.metrics())
    training = [row for row in rows if "loss" in row]
    assert [row["step"] for row in training] == [5, 10, 15, 20, 25, 30]
    valid = {row["step"]: row["reconstruction"] for row in rows if row.get("split") == "valid"}
    assert list(valid) == [10, 20, 30]
    assert valid[10] > valid[20] > valid[30]


def test_two_seeds_differ(recipe: TextRecipe, corpus: Path, finished: Run, tmp_path: Path) -> None:
    other = start_run(tiny_recipe(corpus, "train.seed=1"), tmp_path / "other")
    a, b = (load_file(run.path / "checkpoints/step-000030" / MODEL) for run in (finished, other))
    assert not torch.equal(a["head.mean.weight"], b["head.mean.weight"])


@pytest.mark.parametrize("lost", ["step-000030", "step-000020"])
def test_resuming_gives_the_same_weights_bit_for_bit(lost: str, finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    for path in (run.path / "checkpoints").iterdir():
        if path.name >= lost:
            shutil.rmtree(path)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "lo')  # a line cut short by the kill
    resume_run(run)
    assert_same_weights(finished, run)
    drop_rate = [
        [{key: value for key, value in row.items() if key != "rate"} for row in each.metrics()]
        for each in (finished, run)
    ]
    assert drop_rate[0] == drop_rate[1]


def test_resuming_a_finished_run_changes_nothing(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    resume_run(run)
    assert_same_weights(finished, run)


def test_a_run_killed_in_the_middle_ends_with_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    """SIGKILL to a real process, then `train --resume`, against the same run left alone."""
    whole, run = start_run(tiny_recipe(corpus, "train.steps=200"), tmp_path / "whole"), Run(tmp_path / "killed")
    shutil.copytree(whole.path, run.path, ignore=shutil.ignore_patterns("checkpoints", "metrics.jsonl"))
    command = [sys.executable, "-m", "cli", "train", "--resume", str(run.path)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 120
    while not (run.path / "checkpoints/step-000010").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert any((run.path / "checkpoints").iterdir())
    assert not (run.path / "checkpoints/step-000200").exists()
    resume_run(run)
    assert_same_weights(whole, run, step=200)


def damage(path: Path, how: str) -> None:
    if how == "flipped byte":
        data = bytearray(path.read_bytes())
        # the last digit of a float in the middle of the state file may change nothing
        data[data.index(b"figures") if path.name == STATE else len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:50])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flipped byte", "cut short", "missing"])
@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, STATE])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    name: str, how: str, finished: Run, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path)
    damage(run.path / "checkpoints/step-000030" / name, how)
    checkpoint, damaged = run.checkpoint("last")
    assert checkpoint.step == 20
    assert len(damaged) == 1
    assert "step-000030" in damaged[0]
    assert "damaged" in damaged[0]
    assert open_trained(run).warnings
    resume_run(run)
    assert_same_weights(finished, run)


def test_no_whole_checkpoint_is_said_in_one_line(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    for path in (run.path / "checkpoints").iterdir():
        (path / MODEL).write_bytes(b"")
    with pytest.raises(RunError, match=r"no checkpoint to load .*damaged") as caught:
        open_trained(run)
    assert "\n" not in str(caught.value)
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="it stopped before its first one"):
        open_trained(run)
    with pytest.raises(RunError, match="no checkpoint step-000099"):
        open_trained(finished, "step-000099")


def test_a_checkpoint_of_another_model_is_refused(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    config = run.config_path.read_text("utf-8").replace("hidden_size: 16", "hidden_size: 20")
    run.config_path.write_text(config, "utf-8")
    with pytest.raises(ValueError, match="does not fit the model"):
        open_trained(run)


def test_the_newest_checkpoints_and_the_best_are_kept(corpus: Path, tmp_path: Path) -> None:
    run = start_run(tiny_recipe(corpus, "train.steps=60", "train.keep_checkpoints=1"), tmp_path / "run")
    valid = {row["step"]: row["elbo"] for row in run.metrics() if row.get("split") == "valid"}
    best = max(valid, key=lambda step: valid[step])
    kept = {path.name for path in (run.path / "checkpoints").iterdir()}
    assert kept == {f"step-{best:06d}", "step-000060"}
    assert run.checkpoint("best")[0].step == best


def test_a_full_disk_leaves_no_half_checkpoint(finished: Run, tmp_path: Path) -> None:
    """The process may write no file larger than 20,000 bytes: the weights do not fit, the metrics do."""
    run = copied(finished, tmp_path)
    shutil.rmtree(run.path / "checkpoints/step-000030")
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        f"sys.argv = ['textvae', 'train', '--resume', {str(run.path)!r}]; runpy.run_module('cli', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1
    assert f"go on with: textvae train --resume {run.path}" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"step-000010", "step-000020"}


def test_a_loss_that_is_not_finite_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(corpus, "train.learning_rate=1e30", "train.optimizer=sgd", "update.max_gradient_norm=1e30")
    with pytest.raises(FloatingPointError, match=r"step \d+ \(batch \d+\).*not finite.*checkpoint"):
        start_run(recipe, tmp_path / "run")
    assert any("alarm" in row for row in Run(tmp_path / "run").metrics())


def test_a_collapse_is_said_when_it_happens(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_run(tiny_recipe(corpus, recipe="plain"), tmp_path / "run")
    alarms = [row for row in Run(tmp_path / "run").metrics() if "alarm" in row]
    assert len(alarms) == 1
    assert "no active unit (KL weight 1)" in alarms[0]["alarm"]
    assert alarms[0]["alarm"] in capsys.readouterr().err


def test_a_collapse_stops_the_run_where_the_recipe_wants_it(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(corpus, "train.on_collapse=stop", recipe="plain")
    with pytest.raises(CollapseError, match=r"step 10: .*train.on_collapse=stop"):
        start_run(recipe, tmp_path / "run")
    assert Run(tmp_path / "run").checkpoint("last")[0].step == 10


def test_a_resumed_run_does_not_say_again_what_it_said(corpus: Path, tmp_path: Path) -> None:
    run = start_run(tiny_recipe(corpus, recipe="plain"), tmp_path / "run")
    shutil.rmtree(run.path / "checkpoints/step-000030")
    resume_run(run)
    assert sum("alarm" in row for row in run.metrics()) == 1


def test_a_corpus_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    run = start_run(tiny_recipe(path), tmp_path / "run")
    path.write_text(path.read_text("utf-8") + "one more sentence .\n", "utf-8")
    for use in (lambda: resume_run(run), lambda: open_trained(run).splits):
        with pytest.raises(RunError, match="the content of the corpus has changed"):
            use()


def test_settings_that_cannot_be_leave_no_run(corpus: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
            start_run(tiny_recipe(corpus, "train.precision=fp16"), tmp_path / "run")
    with pytest.raises(ValueError, match=r"model.hidden_size=3000000: "):
        start_run(tiny_recipe(corpus, "model.hidden_size=3000000"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_hostile_optimizer_file_is_refused(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    folder = run.path / "checkpoints/step-000030"
    for tensors in ({"x.exp_avg": torch.zeros(2)}, {"0.exp_avg": torch.zeros(2)}, {"9999.step": torch.zeros(())}):
        save_file(tensors, folder / OPTIMIZER)
        state = json.loads((folder / STATE).read_text())
        state["files"][OPTIMIZER] = checksum(folder / OPTIMIZER)
        del state["checksum"]
        digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        (folder / STATE).write_text(json.dumps({**state, "checksum": digest}))
        with pytest.raises(CheckpointError, match="does not fit the optimizer"):
            resume_run(run)


def test_a_figure_that_is_not_finite_is_never_the_best() -> None:
    known = [Checkpoint(Path("a"), 1, {"elbo": math.nan}, None), Checkpoint(Path("b"), 2, {"elbo": -50.0}, None)]
    assert best_checkpoint(known).step == 2


def test_what_a_kill_left_behind_is_swept(finished: Run, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    (run.path / "checkpoints/.step-000030.99999.tmp").mkdir()
    shutil.rmtree(run.path / "checkpoints/step-000030")
    resume_run(run)
    assert not list((run.path / "checkpoints").glob(".*"))


def test_a_folder_that_is_not_empty_is_not_overwritten(recipe: TextRecipe, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(RunError, match="not an empty folder"):
        start_run(recipe, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"precious"}


def test_a_corpus_that_cannot_be_read_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.txt"):
        start_run(tiny_recipe(tmp_path / "missing.txt"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_are_found_by_path_prefix_and_latest(finished: Run, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("mine", "plain/2026-01-01_12-00-00_s0", "lstm/2026-01-01_00-00-00_s0", "lstm/2026-01-02_00-00-00_s1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(finished.path, root / name)
        (root / name / "env.json").write_text((finished.path / "env.json").read_text())  # begun now
        time.sleep(0.01)
    assert find_run("latest", root).path.name == "2026-01-02_00-00-00_s1"
    assert find_run("plain", root).path.parent.name == "plain"
    assert find_run("2026-01-02", root).path.name == "2026-01-02_00-00-00_s1"
    assert find_run(str(root)).path.name == "2026-01-02_00-00-00_s1"
    assert find_run(str(finished.path)).path == finished.path
    assert find_run(str(root / "lstm/2026-01-02"), root).path.name == "2026-01-02_00-00-00_s1"
    with pytest.raises(RunError, match=r"several runs begin so .*_s0, .*_s1.*; write more letters"):
        find_run("lstm", root)
    with pytest.raises(RunError, match="no such run"):
        find_run("gru", root)
    with pytest.raises(RunError, match="no run found"):
        find_run("latest", tmp_path / "nowhere")


def test_the_state_file_is_plain_json(finished: Run) -> None:
    described = json.loads((finished.path / "checkpoints/step-000030" / STATE).read_text())
    assert described["step"] == 30
    assert set(described["files"]) == {MODEL, OPTIMIZER}
