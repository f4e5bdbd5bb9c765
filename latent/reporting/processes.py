"""Jobs of several commands each, a few at a time, each command a process, of this machine or of a pool's.

A signal to us stops them all.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from latent.training.interruption import Interruption, Stopped, interruptible

POLL_SECONDS = 0.1
MOST_LOSSES = 5  # of a job's processes, with the machines that they were on


class LostError(Exception):
    """A process whose end nobody can tell: its machine is gone."""


@runtime_checkable
class Process(Protocol):
    """A command that runs."""

    def poll(self) -> int | None:
        """Its exit status, None while it runs. Raises LostError."""

    def stop(self) -> None:
        """Ask it to end: SIGTERM."""

    def kill(self) -> None:
        """End it."""


@runtime_checkable
class Pool(Protocol):
    """Where commands run; `size` of them at a time."""

    @property
    def size(self) -> int:
        """How many."""

    def start(self, command: list[str], log: Path) -> Process:
        """Run a command, what it prints added to a file."""


@dataclass(frozen=True)
class Job:
    """Commands, each made once the one before has done; where what they print goes; what to do where one fails.

    Where a process is lost with its machine, `lost` is called and the commands are asked for again.
    """

    commands: Callable[[], Iterator[list[str]]]
    log: Path
    failed: Callable[[str], None]
    lost: Callable[[], None] = lambda: None


class Here:
    """A pool of this machine's processes, which divide its processors unless OMP_NUM_THREADS says otherwise."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = max(1, (os.cpu_count() or 1) // size)

    def start(self, command: list[str], log: Path) -> Process:
        """Run a command, what it prints added to a file."""
        return Child(command, log, {"OMP_NUM_THREADS": str(self._threads), **os.environ})


class Child:
    """A process of ours, in a session of its own: a Ctrl-C in the terminal is for us, and we pass it on."""

    def __init__(
        self, command: list[str], log: Path, environment: dict[str, str], at_start: Callable[[], None] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
                preexec_fn=at_start,
            )

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        with suppress(OSError):
            self._process.kill()


@dataclass
class _Running:
    """A job under way, and its process of the moment."""

    job: Job
    left: Iterator[list[str]]
    process: Process
    losses: int = 0

    @classmethod
    def begun(cls, job: Job, pool: Pool) -> "_Running | None":
        left = job.commands()
        command = next(left, None)
        return None if command is None else cls(job, left, pool.start(command, job.log))

    def is_over(self, pool: Pool) -> bool:
        """Whether it has ended, one way or the other; where a command has, the next is begun."""
        try:
            code = self.process.poll()
        except LostError as error:
            return self._is_lost(str(error), pool)
        if code is None:
            return False
        if code != 0:
            self.job.failed(_last_words(self.job.log, code))
            return True
        return self._has_no_more(pool)

    def _is_lost(self, why: str, pool: Pool) -> bool:
        self.losses += 1
        if self.losses > MOST_LOSSES:
            self.job.failed(f"lost {self.losses} times with its machine ({why})")
            return True
        self.job.lost()
        self.left = self.job.commands()
        return self._has_no_more(pool)

    def _has_no_more(self, pool: Pool) -> bool:
        command = next(self.left, None)
        if command is None:
            return True
        self.process = pool.start(command, self.job.log)
        return False


def run_jobs(jobs: Sequence[Job], pool: Pool) -> Iterator[Job]:
    """Run all of them, as many at a time as the pool has room for, and give each when it has ended.

    On SIGINT or SIGTERM every process gets SIGTERM and is waited for; then Stopped is raised. On a second signal they
    are killed.
    """
    waiting, running = iter(jobs), list[_Running]()
    try:
        with interruptible() as asked:
            while True:
                while len(running) < pool.size and (job := next(waiting, None)) is not None:
                    if (begun := _Running.begun(job, pool)) is not None:
                        running.append(begun)
                _stop_if_asked(asked, running)
                if not running:
                    return
                over = [one for one in running if one.is_over(pool)]
                running = [one for one in running if one not in over]
                yield from (one.job for one in over)
                if not over:
                    time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            one.process.kill()


def _stop_if_asked(asked: Interruption, running: list[_Running]) -> None:
    if asked.by is None:
        return
    for one in running:
        one.process.stop()
    for one in running:
        with suppress(LostError):
            while one.process.poll() is None:
                time.sleep(POLL_SECONDS)
    raise Stopped(asked.by, "stopped; what was under way has been saved: the same command goes on")


def _last_words(log: Path, code: int) -> str:
    """The last error that a process printed, or its exit status."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"exit status {code}" + (f": {lines[-1]}" if lines else "")
