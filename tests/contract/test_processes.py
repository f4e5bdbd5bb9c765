"""Two processes train what one trains, but for rounding, whatever becomes of one of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from sharded_together import SHARDED, recipe, train_each
from tiny import SMALL, rows, tiny_recipe, write_corpus
from torch import nn
from trained_together import OWN, measure, train_all

from latent.training import ConfigError, Run, build_state, resume_run, start_run
from latent.training.checkpoints import MODEL
from latent.training.processes import ProcessError, add_up, check_same, check_share
from latent.training.running import check_statistics
from latent.training.sharding import Sharded
from textvae.side import TEXT

# of three batches, of which two processes have two and one, or of one alone
VALIDATED = {"reconstruction", "kl", "mutual_information", "active_units", "shuffled_gain", "cluster_entropy"}
ROOT = Path(__file__).parents[2]
LONG = ("train.steps=100000", "train.batches_per_step=2", "train.checkpoint_every=0.2s")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@contextmanager
def launched(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Two processes, which are ended whatever happens."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    launcher = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    with launcher:
        try:
            yield launcher
        finally:
            launcher.terminate()


def ranks(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The process ids of the launched processes, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = dict(
                pair.split("=", 1) for pair in (folder / "environ").read_text().split("\0") if "=" in pair
            )
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        if parent == launcher.pid and "RANK" in environment:
            found[int(environment["RANK"])] = int(folder.name)
    return found


def weights(run: Run, step: int) -> torch.Tensor:
    tensors = load_file(run.path / f"checkpoints/step-{step:06d}" / MODEL)
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


def statistics(run: Run, step: int) -> dict[str, torch.Tensor]:
    tensors = load_file(run.path / f"checkpoints/step-{step:06d}" / MODEL)
    return {name: tensor for name, tensor in tensors.items() if ".running_" in name}


def assert_same_training(run: Run, other: Run, step: int) -> None:
    assert len(rows(run)) == len(rows(other)) > 0
    for row, expected in zip(rows(run), rows(other), strict=True):
        assert row.keys() == expected.keys()
        for name in ("step", "loss", "gradient_norm", "elbo"):
            if name in expected:
                assert row[name] == pytest.approx(expected[name], rel=1e-5), (name, row, expected)
        for name in VALIDATED & row.keys():
            assert row[name] == pytest.approx(expected[name], rel=1e-5, abs=2e-5), (name, row, expected)
    found, expected = weights(run, step), weights(other, step)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    torch.testing.assert_close(statistics(run, step), statistics(other, step), rtol=1e-4, atol=1e-5)


def assert_same_figures(found: Any, expected: Any) -> None:
    """Of one run, measured by two processes and by one."""
    assert found.keys() == expected.keys()
    assert found["total_draws"] == expected["total_draws"] < found["num_samples"] * found["num_examples"]
    for name in ("nll", "elbo", "effective_sample_size", "shuffled_gain", "bleu", "ppl"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    assert found["nll_ladder"].keys() == expected["nll_ladder"].keys()


def wait_for_step(run: Run, step: int, process: subprocess.Popen[str]) -> None:
    while not any(row["step"] >= step for row in run.metrics()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def assert_gone_on_with_in_one(run: Run, folder: Path, num_steps: int) -> None:
    """From its last checkpoint on it becomes what one process trains from the beginning."""
    length = f"train.steps={num_steps}"
    resume_run(TEXT, run, [length])
    alone = start_run(TEXT, TEXT.load_recipe(run.config_path), folder / "from-the-beginning")
    assert_same_training(run, alone, num_steps)


def test_two_processes_train_and_measure_what_one_does_and_stop_together(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with launched("tests/trained_together.py", corpus, tmp_path) as together:
        alone = train_all(corpus, tmp_path / "alone")
        run = Run(tmp_path / "long")
        wait_for_step(run, 10, together)
        together.send_signal(signal.SIGTERM)
        out, errors = together.communicate(timeout=60)
    for name in OWN:
        assert_same_training(Run(tmp_path / name), alone[name], 14)
        assert any("passed over" in row.get("alarm", "") for row in rows(alone[name]))
        assert errors.count(f"run {tmp_path / name}\n") == 1  # the first process alone speaks
        assert not (tmp_path / name / "lock").exists()
    assert together.returncode != 0
    capsys.readouterr()
    measure(Run(tmp_path / "controlvae"))
    assert_same_figures(json.loads(out), json.loads(capsys.readouterr().out))
    stopped_at = run.checkpoint("last")[0].step
    assert stopped_at >= 10
    assert errors.count(f"latent.training.interruption.Stopped: stopped at step {stopped_at}; go on with: ") == 2
    assert_gone_on_with_in_one(run, tmp_path, stopped_at + 6)


def test_two_processes_train_in_shards_what_one_trains_whole(corpus: Path, tmp_path: Path) -> None:
    begun = start_run(TEXT, recipe(corpus, "embedding"), tmp_path / "begun")
    with launched("tests/sharded_together.py", corpus, tmp_path) as together:
        alone = train_each(corpus, tmp_path / "alone")
        out, errors = together.communicate(timeout=300)
    assert together.returncode == 0, errors
    held = [tuple(map(int, line.split())) for line in out.splitlines()]
    assert sum(own for own, _ in held) == held[0][1]
    assert max(own for own, _ in held) < 0.55 * held[0][1]
    for name, whole in alone.items():
        sharded = Run(tmp_path / name)
        assert_same_training(sharded, whole, 8)
        assert shapes(sharded, 8) == shapes(whole, 8)
    assert any("passed over" in row.get("alarm", "") for row in rows(alone["layers"]))
    of_two = Run(tmp_path / "embedding")
    resume_run(TEXT, of_two, ["train.shard=false", "train.steps=12"])
    from_the_beginning = start_run(TEXT, recipe(corpus, "embedding", "train.steps=12"), tmp_path / "from-the-beginning")
    for run in (begun, of_two):
        assert_same_training(run, from_the_beginning, 12)


def shapes(run: Run, step: int) -> dict[tuple[str, str], tuple[torch.Size, torch.dtype]]:
    folder = run.path / f"checkpoints/step-{step:06d}"
    found = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    return {(name, key): (each.shape, each.dtype) for name, tensors in found.items() for key, each in tensors.items()}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes are found in /proc")
def test_a_killed_process_ends_the_other_and_one_goes_on(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    settings = ("corpus.kind=files", f"corpus.path={corpus}", "corpus.tokenizer.min_count=1", *SMALL, *LONG)
    given = [part for pair in settings for part in ("--set", pair)]
    with launched("-m", "cli", "train", "lstm", "--out", run.path, *given) as process:
        wait_for_step(run, 12, process)
        os.kill(ranks(process)[1], signal.SIGKILL)
        out, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: another of the processes has ended, its own message says why" in errors
    assert re.search(r"rank *: 1 .*\n *exitcode *: -9 ", errors), errors
    assert out == ""
    assert not (run.path / "lock").exists()
    saved_at = run.checkpoint("last")[0].step
    assert saved_at >= 10
    assert_gone_on_with_in_one(run, tmp_path, saved_at + 6)


def test_fewer_batches_than_processes_are_refused() -> None:
    check_share(4, 4, shard=False)
    with pytest.raises(ValueError, match=r"^train\.batches_per_step: 1 cannot be shared out to 4 .*batches_per_step=4"):
        check_share(1, 4, shard=False)


def test_shards_are_for_several_processes_with_as_many_batches_each() -> None:
    check_share(4, 2, shard=True)
    with pytest.raises(ValueError, match=r"^train\.shard: one process has no other .* set train\.shard=false$"):
        check_share(4, 1, shard=True)
    with pytest.raises(ValueError, match=r"^train\.shard: each of 2 .* is 3; set it to a multiple of 2$"):
        check_share(3, 2, shard=True)


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (("train.precision=fp16",), "set train.precision to bf16 or fp32"),
        (("train.compile=true",), "set train.compile=false"),
        (("train.on_nonfinite=skip",), "set it to rollback or stop"),
        (("update.kind=adversarial",), "set update.kind=joint, or train.shard=false"),
    ],
)
def test_what_cannot_be_sharded_is_refused(corpus: Path, overrides: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.*: .*{remedy}"):
        recipe(corpus, "embedding", SHARDED, *overrides)


def test_a_model_without_layers_is_not_sharded(corpus: Path) -> None:
    plain = tiny_recipe(corpus)
    model = build_state(TEXT.read(plain, None), plain.train).model
    with pytest.raises(ValueError, match=r"^train\.shard: SentenceVae has no layers .* set train\.shard=false$"):
        Sharded(model, writes=True)


def test_running_statistics_of_another_kind_are_refused_in_several_processes(corpus: Path) -> None:
    recipe = tiny_recipe(corpus, recipe="bnvae2020")
    model = build_state(TEXT.read(recipe, None), recipe.train).model
    check_statistics(model, 2)
    model.decoder = nn.BatchNorm1d(3)
    check_statistics(model, 1)
    with pytest.raises(
        ValueError, match=r" \(decoder\.running_mean, decoder\.running_var\), .*train it in one process$"
    ):
        check_statistics(model, 2)


class OneOfTwo(Accelerator):
    """Knows of a second process, which is not there."""

    num_processes = 2


def test_processes_that_begin_differently_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"tokenizer.model": b"a"}, {"weight": torch.zeros(3)}
    monkeypatch.setattr("latent.training.processes.gather_object", lambda found: [*found, "that of another tokenizer"])
    with pytest.raises(ProcessError, match=r"^the 2 processes do not begin with the same tokenizer and weights: "):
        check_same(OneOfTwo(cpu=True), *others)
    monkeypatch.setattr("latent.training.processes.gather_object", lambda found: [*found, *found])
    check_same(OneOfTwo(cpu=True), *others)


def test_a_process_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tensor: torch.Tensor) -> None:
        raise RuntimeError("Connection closed by peer\nand a trace")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(ProcessError) as caught:
        add_up(OneOfTwo(cpu=True), [torch.zeros(2)])
    reason = "its own message says why (Connection closed by peer)"
    assert str(caught.value) == f"another of the processes has ended, {reason}"
