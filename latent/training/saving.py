"""What a training writes while it runs: a write that fails costs what it would have kept, not the training."""

import time
from collections.abc import Callable
from typing import Any

from latent.training.checkpoints import state_tensors
from latent.training.config import Tree
from latent.training.recipe import TrainConfig, seconds
from latent.training.rows import Row
from latent.training.runs import Run
from latent.training.state import TrainState
from latent.training.window import Window

RETRY_SECONDS = 60.0  # after a checkpoint that could not be written


class Saver:
    """Writes rows and checkpoints, says what cannot be written, and knows when it is time for a checkpoint.

    `check_lock` raises where another process has taken the run over: nothing is written from then on. Of several
    processes of one training the first alone `writes`; the others' savers know the step of the last checkpoint.
    """

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        recipe: Tree,
        saved_step: int | None,
        say: Callable[[str], object],
        check_lock: Callable[[], None],
        *,
        writes: bool = True,
    ) -> None:
        self.run = run
        self.saved_step = saved_step  # of the last checkpoint
        self.failure: OSError | None = None  # why there is none of a later step
        self._keep, self._recipe = config.keep_checkpoints, recipe
        self._seconds = seconds(config.checkpoint_every)
        self.say, self._check_lock = say, check_lock
        self._writes = writes
        self._last_try = time.monotonic()
        self._rows_wait = False

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint: one by time, or another try of one that failed."""
        wait = self._seconds if self.failure is None else min(self._seconds, RETRY_SECONDS)
        return self._writes and time.monotonic() - self._last_try >= wait

    def log(self, row: Row) -> None:
        """Append a row to metrics.jsonl; one that cannot be written waits in memory for the next."""
        if not self._writes:
            return
        self._check_lock()
        try:
            self.run.log(row)
        except OSError as error:
            if not self._rows_wait:
                self.say(f"warning: metrics.jsonl: {error}; its rows wait in memory until they can be written")
            self._rows_wait = True
        else:
            self._rows_wait = False

    def cut(self, step: int) -> None:
        """Drop the rows after a step, which the training takes from there again."""
        if self._writes:
            self.run.cut_metrics(step)

    def alarm(self, step: int, line: str, **details: Any) -> None:
        """Log a line, and say it."""
        self.log({"step": step, "alarm": line, **details})
        self.say(line)

    def last_good(self) -> str:
        """Where the training could go on from."""
        if self.saved_step is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is step-{self.saved_step:06d}"

    def save(self, state: TrainState, figures: dict[str, float], window: Window) -> None:
        """Write a checkpoint and drop old ones; where it cannot be written, say so and go on."""
        parts = state_tensors(state)
        if not self._writes:
            self.saved_step = state.step
            return
        self._check_lock()
        self._last_try = time.monotonic()
        try:
            self.run.save(state, parts, figures, window.columns(), self._recipe)
        except OSError as error:
            self.failure = error
            self.say(
                f"warning: step {state.step}: no checkpoint could be written ({error}); the training goes on and tries "
                f"again; {self.last_good()}"
            )
            return
        self.saved_step, self.failure = state.step, None
        self.prune()

    def prune(self) -> None:
        """Drop the old checkpoints, or say that it cannot be done."""
        if not self._writes:
            return
        try:
            self.run.prune(self._keep)
        except OSError as error:
            self.say(f"warning: old checkpoints could not be removed ({error})")
