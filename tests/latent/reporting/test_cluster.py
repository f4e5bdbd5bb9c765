"""Sweeps over the nodes of a Ray cluster: all on this machine, but with processes of their own, which die together."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tiny import tiny_recipe, write_corpus

import cli
from latent.reporting.cluster import pool_of, share_of
from latent.reporting.processes import Job, LostError, run_jobs
from latent.reporting.sweep import read_sweep, run_sweep
from latent.training import ConfigError, Run
from latent.training.lock import HOLDER, LOCK, break_lock
from textvae.run_kind import KIND
from textvae.side import TEXT

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'textvae[sweep]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's own pipes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        found.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield found
    ray.shutdown()
    found.shutdown()


def swept(folder: Path, *settings: str) -> Path:
    recipe = folder / "tiny.yaml"
    recipe.write_text(TEXT.schema.dump(tiny_recipe(write_corpus(folder), *settings)), "utf-8")
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({"recipes": [str(recipe)], "measure": {"samples": 2}}))
    return path


def test_a_signal_stops_those_that_run_and_those_that_wait(cluster: Any, tmp_path: Path) -> None:
    """By the command line; two nodes have room for two of three."""
    path = swept(tmp_path, "train.steps=100000", "train.checkpoint_steps=50000", "train.checkpoint_every=1s")
    path.write_text(path.read_text() + "seeds: [0, 1, 2]\n")
    command = [sys.executable, "-m", "cli", "sweep", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--workers=3", f"--address={cluster.address}"], stderr=subprocess.PIPE)
    trials, deadline = read_sweep(path).trials(tmp_path / "out"), time.monotonic() + 200
    while sum(any(trial.path.glob("checkpoints/step-*")) for trial in trials) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 143, said
    assert b"stopped; what was under way has been saved" in said
    begun = [trial for trial in trials if trial.path.exists()]
    assert len(begun) == 2
    for trial in begun:
        assert not (trial.path / LOCK).exists()
        assert "go on with: textvae train --resume" in trial.log.read_text()


def node_of(cluster: Any, pid: int) -> Any:
    """Whose raylet a process descends from."""
    above = {process.pid for process in psutil.Process(pid).parents()}
    (node,) = [each for each in cluster.worker_nodes if each.all_processes["raylet"][0].process.pid in above]
    return node


def test_a_trial_whose_node_is_lost_goes_on_elsewhere_from_its_checkpoint(cluster: Any, tmp_path: Path) -> None:
    (trial,) = read_sweep(path := swept(tmp_path, "train.steps=400", "train.checkpoint_steps=20")).trials(
        tmp_path / "o"
    )
    lost_at: list[int] = []

    def lose_a_node() -> None:
        deadline = time.monotonic() + 120
        while not (trial.path / "checkpoints" / "step-000040").exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        pid = json.loads((trial.path / LOCK / HOLDER).read_text())["pid"]
        node = node_of(cluster, pid)
        os.kill(pid, signal.SIGSTOP)  # it must not end before its node does
        holder = trial.path / LOCK / HOLDER
        holder.write_text(holder.read_text().replace('"host": "', '"host": "another-'))
        lost_at.append(max(int(each.name[5:]) for each in (trial.path / "checkpoints").glob("step-*")))
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=lose_a_node)
    killer.start()
    said: list[str] = []
    table, num_failed = run_sweep(
        read_sweep(path), tmp_path / "o", pool_of(cluster.address, 1), cli.found_recipe, lambda _: KIND, said.append
    )
    killer.join()
    assert lost_at, trial.log.read_text()
    assert num_failed == 0, trial.log.read_text()
    run = Run.open(trial.path)
    steps = [row["step"] for row in run.metrics() if "loss" in row]
    assert steps == sorted(set(steps))
    assert steps[-1] == 400
    assert f"resumed at step {lost_at[0]}" in (run.path / "log.txt").read_text()
    assert said[-1].endswith("_s0: done")
    assert table.is_file()


@pytest.fixture
def gpu_node(cluster: Any) -> Iterator[Any]:
    """A node that says it has two GPUs: only what each command is told of them shows."""
    node = cluster.add_node(num_cpus=6, num_gpus=2, object_store_memory=80 * 2**20)
    yield node
    ray.shutdown()
    cluster.remove_node(node)


SEES = "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all')); time.sleep(100)"


def seen_at_once(address: str, size: int, folder: Path) -> list[str]:
    """The GPUs that each of `size` commands may see, all of which run at the same time."""
    ray.shutdown()
    pool = pool_of(address, size)
    logs = [folder / f"{i}.log" for i in range(size)]
    running = [pool.start([sys.executable, "-uc", SEES], log) for log in logs]
    deadline = time.monotonic() + 60
    while not all(log.is_file() and log.read_text().endswith("\n") for log in logs):
        assert [process.poll() for process in running] == [None] * size
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in running:
        process.kill()
    return sorted(log.read_text().strip() for log in logs)


def test_commands_share_the_gpus_that_nodes_have(cluster: Any, gpu_node: Any, tmp_path: Path) -> None:
    """Two of three have half of one each."""
    assert seen_at_once(cluster.address, 3, tmp_path) == ["0", "0", "1"]


def test_where_no_node_has_gpus_to_give_a_command_sees_none(cluster: Any, tmp_path: Path) -> None:
    """`ray start --num-gpus=0` on a machine that has some."""
    assert seen_at_once(cluster.address, 1, tmp_path) == [""]


@pytest.mark.parametrize(
    ("nodes", "size", "share"),
    [
        ([{"CPU": 8}, {"CPU": 4}], 2, (4, 0)),
        ([{"CPU": 8}, {"CPU": 4}], 4, (3, 0)),
        ([{"CPU": 1}], 4, (1, 0)),
        ([{}], 4, (1, 0)),
        ([{"CPU": 8, "GPU": 4}], 4, (2, 1)),
        ([{"CPU": 8, "GPU": 4}], 1, (8, 1)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 4}], 8, (1, 0.5)),
        ([{"CPU": 16, "GPU": 1}, {"CPU": 6, "GPU": 3}], 4, (2, 1)),
        ([{"CPU": 16, "GPU": 2}], 3, (5, 0.5)),
        ([{"CPU": 16, "GPU": 1}], 6, (2, 0.1666)),  # six times 1/6 as Ray rounds it would be more than one
        ([{"CPU": 2, "GPU": 4}], 4, (1, 1)),
        ([{"CPU": 2}, {"GPU": 4}], 1, (2, 0)),  # no command runs without a processor
    ],
)
def test_what_each_asks_for(nodes: list[dict[str, float]], size: int, share: tuple[int, float]) -> None:
    assert share_of(nodes, size) == share


def test_where_there_is_no_cluster_or_no_ray_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--address needs Ray: pip install 'textvae\[sweep\]'"):
        pool_of("127.0.0.1:1", 1)


class Gone:
    """A pool whose every process is lost, but for the last."""

    size = 1

    def __init__(self, losses: int) -> None:
        self.losses = losses

    def start(self, command: list[str], log: Path) -> "Gone":
        return self

    def poll(self) -> int:
        self.losses -= 1
        if self.losses >= 0:
            raise LostError("the node died")
        return 0

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@pytest.mark.parametrize(("losses", "failures"), [(5, []), (6, ["lost 6 times with its machine (the node died)"])])
def test_a_job_that_is_lost_again_and_again_fails(losses: int, failures: list[str], tmp_path: Path) -> None:
    failed, begun, lost = list[str](), list[int](), list[int]()

    def commands() -> Iterator[list[str]]:
        begun.append(1)
        yield ["a"]

    job = Job(commands, tmp_path / "log", failed.append, lambda: lost.append(1))
    assert list(run_jobs([job], Gone(losses))) == [job]
    assert failed == failures
    assert len(lost) == min(losses, 5) == len(begun) - 1


def test_a_lock_is_broken_whosever_it_was(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    (tmp_path / LOCK / HOLDER).write_text('{"host": "elsewhere", "pid": 1}')
    for _ in range(2):
        break_lock(tmp_path)
        assert list(tmp_path.iterdir()) == []
