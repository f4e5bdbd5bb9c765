"""Models larger than the machine or than their checkpoint: refused by a key, with little memory taken."""

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus
from torch import nn

from latent.training import Run, resume_run
from latent.training.size import MOST_TENSORS, SPARE, SizeError, room_in_files, room_in_memory
from textvae.session import open_trained
from textvae.side import TEXT

TREE: dict[str, Any] = {
    "model": {"kind": "x", "hidden_size": 100_000, "head": {"sizes": [3, 10**7]}, "steps": 10**9},
    "train": {"optimizer": "sgd", "shard": False},
}
CPU = torch.device("cpu")


def peak() -> int:
    """Resident bytes of this process, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("size")
    return start_run(tiny_recipe(write_corpus(folder), "train.steps=4", "train.checkpoint_steps=2"), folder / "run")


@pytest.mark.parametrize(
    ("optimizer", "shard", "bytes_each"), [("adamw", False, 16), ("sgd", False, 8), ("adamw", True, 4)]
)
def test_what_is_free_bounds_weights_gradients_and_moments(
    optimizer: str, shard: bool, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {**TREE, "train": {"optimizer": optimizer, "shard": shard}}

    def memory() -> Any:
        return type("Memory", (), {"available": 110 * bytes_each})

    monkeypatch.setattr("psutil.virtual_memory", memory)
    with room_in_memory("a.yaml", tree, CPU):
        nn.Linear(10, 10)
    message = (
        rf"a.yaml: model.head.sizes.1=10000000: asks for 111 weights .*takes {bytes_each} bytes of each, and 0.0 GB"
    )
    with pytest.raises(SizeError, match=message), room_in_memory("a.yaml", tree, CPU):
        nn.Sequential(nn.Linear(100, 1), nn.Linear(9, 1))
    nn.Linear(1000, 10)  # outside nothing is counted


def test_a_checkpoint_bounds_what_is_read_from_it(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(1000))
    before = peak()
    files = [tmp_path / "weights", tmp_path / "missing"]
    message = r"model.head.sizes.1=10000000: asks for .* its checkpoint has 1,000 bytes"
    with pytest.raises(SizeError, match=message), room_in_files("run", TREE, files):
        nn.Linear(2**15, 2**15)  # 4 GiB
    assert peak() - before < SPARE


@pytest.mark.parametrize("size", [10**13, 10**20])
def test_sizes_that_no_tensor_can_have_are_refused_in_the_same_way(size: int) -> None:
    message = "model.head.sizes.1=10000000: no such model can be made"
    with pytest.raises(SizeError, match=message), room_in_memory("run", TREE, CPU):
        nn.Linear(size, size)


def test_very_many_small_tensors_are_refused() -> None:
    with pytest.raises(SizeError, match="asks for"), room_in_memory("run", TREE, CPU):
        nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(MOST_TENSORS + 1))


def enlarged(run: Run, folder: Path) -> Run:
    """A copy whose config asks for a model of two million hidden units."""
    shutil.copytree(run.path, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("hidden_size: 16", "hidden_size: 2000000"))
    return Run.open(folder)


def test_a_strangers_run_is_not_opened_at_a_size_that_its_checkpoint_does_not_have(run: Run, tmp_path: Path) -> None:
    large, before = enlarged(run, tmp_path / "run"), peak()
    message = rf"{large.config_path}: model.hidden_size=2000000: .*its checkpoint has \d"
    with pytest.raises(SizeError, match=message):
        open_trained(large)
    with pytest.raises(SizeError, match=message):
        resume_run(TEXT, large)
    assert peak() - before < 2**27


def test_a_training_larger_than_the_machine_is_not_begun(tmp_path: Path) -> None:
    recipe = tiny_recipe(write_corpus(tmp_path), "model.hidden_size=30000000")
    before = peak()
    with pytest.raises(SizeError, match=r"recipe: model.hidden_size=30000000: .*16 bytes of each"):
        start_run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert peak() - before < 2**27


def test_an_adversary_is_counted(tmp_path: Path) -> None:
    recipe = tiny_recipe(write_corpus(tmp_path), "update={kind: adversarial, hidden_size: 10000000000}")
    with pytest.raises(SizeError, match=r"recipe: update.hidden_size=10000000000: .* 16 bytes of each"):
        start_run(recipe, tmp_path / "run")
