"""Jobs of several commands each, a few at a time, each command a process; a signal to us stops them all."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from latent.training.interruption import Interruption, Stopped, interruptible

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """Commands, each made once the one before has done; where what they print goes; what to do where one fails."""

    commands: Callable[[], Iterator[list[str]]]
    log: Path
    failed: Callable[[str], None]


@dataclass
class _Running:
    """A job under way, and its process of the moment."""

    job: Job
    left: Iterator[list[str]]
    process: "subprocess.Popen[bytes]"

    @classmethod
    def begun(cls, job: Job, threads: int) -> "_Running | None":
        left = job.commands()
        command = next(left, None)
        return None if command is None else cls(job, left, _start(command, job.log, threads))

    def is_over(self, threads: int) -> bool:
        """Whether it has ended, one way or the other; where a command has, the next is begun."""
        code = self.process.poll()
        if code is None:
            return False
        if code != 0:
            self.job.failed(_last_words(self.job.log, code))
            return True
        command = next(self.left, None)
        if command is None:
            return True
        self.process = _start(command, self.job.log, threads)
        return False


def run_jobs(jobs: Sequence[Job], num_workers: int) -> Iterator[Job]:
    """Run all of them, `num_workers` at a time, and give each when it has ended.

    The processors are divided among them, unless OMP_NUM_THREADS says otherwise. On SIGINT or SIGTERM every process
    gets SIGTERM and is waited for; then Stopped is raised. On a second signal they are killed.
    """
    threads = max(1, (os.cpu_count() or 1) // num_workers)
    waiting, running = iter(jobs), list[_Running]()
    try:
        with interruptible() as asked:
            while True:
                while len(running) < num_workers and (job := next(waiting, None)) is not None:
                    if (begun := _Running.begun(job, threads)) is not None:
                        running.append(begun)
                _stop_if_asked(asked, running)
                if not running:
                    return
                over = [one for one in running if one.is_over(threads)]
                running = [one for one in running if one not in over]
                yield from (one.job for one in over)
                if not over:
                    time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            with suppress(OSError):
                one.process.kill()


def _stop_if_asked(asked: Interruption, running: list[_Running]) -> None:
    if asked.by is None:
        return
    for one in running:
        one.process.send_signal(signal.SIGTERM)
    for one in running:
        one.process.wait()
    raise Stopped(asked.by, "stopped; what was under way has been saved: the same command goes on")


def _start(command: list[str], log: Path, threads: int) -> "subprocess.Popen[bytes]":
    """In a session of its own: a Ctrl-C in the terminal is for us, and we pass it on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def _last_words(log: Path, code: int) -> str:
    """The last error that a process printed, or its exit status."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"exit status {code}" + (f": {lines[-1]}" if lines else "")
