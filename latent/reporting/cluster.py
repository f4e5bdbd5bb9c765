"""Processes on the nodes of a Ray cluster: each command a process beside an actor, which goes with its node."""

import ctypes
import logging
import math
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latent.reporting.processes import Child, Here, LostError, Pool, Process
from latent.training import ConfigError

_PARENT_DEATH_SIGNAL = 1  # of prctl, from linux/prctl.h
_PARTS = 10_000  # of a resource, the smallest that Ray counts


class Runner:
    """On a node: one command, in the driver's folder, that dies with its actor and sees the GPUs that Ray gave it."""

    def __init__(self, command: list[str], log: Path, folder: str, threads: int, has_gpu: bool) -> None:
        os.chdir(folder)
        libc = ctypes.CDLL(None)
        gpus = {} if has_gpu else {"CUDA_VISIBLE_DEVICES": ""}  # Ray sets it for those alone who asked for one
        self._child = Child(
            command,
            log,
            {**os.environ, **gpus, "OMP_NUM_THREADS": str(threads)},
            lambda: libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL),
        )

    def poll(self) -> int | None:
        """The command's exit status, None while it runs."""
        return self._child.poll()

    def stop(self) -> None:
        """Send it SIGTERM."""
        self._child.stop()


class Remote:
    """A command on some node, or waiting for room on one."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._asked = actor, actor.poll.remote()
        self._has_begun = False

    def poll(self) -> int | None:
        """Its exit status, None while it runs or waits. Raises LostError where the node is gone."""
        import ray

        if not ray.wait([self._asked], timeout=0)[0]:
            return None
        try:
            code: int | None = ray.get(self._asked)
        except ray.exceptions.RayActorError as error:
            raise LostError(" ".join(str(error).split())[:200]) from error
        self._has_begun = True
        if code is None:
            self._asked = self._actor.poll.remote()
        return code

    def stop(self) -> None:
        """Send it SIGTERM; one that waits for room does not begin."""
        if self._has_begun:
            self._actor.stop.remote()
        else:
            self.kill()

    def kill(self) -> None:
        """End it and its actor."""
        import ray

        ray.kill(self._actor)


def share_of(nodes: Sequence[Mapping[str, float]], size: int) -> tuple[int, float]:
    """The processors and GPUs of each of `size` commands at a time on nodes with these resources.

    Where any node has GPUs, commands run on such nodes alone. Each has a GPU, or 1/n of one where they are fewer than
    the commands, n as small as it can be; and of its node's processors what goes with that, so that all have room.
    """
    nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if not with_gpus:
        cpus = [int(node["CPU"]) for node in nodes] or [1]
        return max(1, min(sum(cpus) // size, *cpus)), 0.0
    to_a_gpu = math.ceil(size / sum(int(node["GPU"]) for node in with_gpus))
    cpus = [int(node["CPU"]) // min(size, int(node["GPU"]) * to_a_gpu) for node in with_gpus]
    return max(1, min(cpus)), _PARTS // to_a_gpu / _PARTS


class Cluster:
    """A pool of `size` commands at a time; the processors and GPUs of the nodes are divided among them."""

    def __init__(self, address: str, size: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or earlier versions warn of later ones' ways
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ConfigError("--address needs Ray: pip install 'textvae[sweep]'") from error
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--address {address}: no Ray cluster there ({' '.join(str(error).split())[:200]})"
            ) from error
        self.size = size
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._threads, self._gpus = share_of(alive, size)
        self._runner = ray.remote(num_cpus=self._threads, num_gpus=self._gpus, max_restarts=0)(Runner)

    def start(self, command: list[str], log: Path) -> Process:
        """Run a command on a node with room for it, what it prints added to a file that all nodes see."""
        return Remote(self._runner.remote(command, log, os.getcwd(), self._threads, self._gpus > 0))


def pool_of(address: str | None, size: int) -> Pool:
    """This machine's, or that of the Ray cluster at an address."""
    return Here(size) if address is None else Cluster(address, size)
