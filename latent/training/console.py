"""What a training says while it runs: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


@dataclass(frozen=True)
class Shown:
    """What a verb found: a value for JSON, and the same in lines."""

    value: Any
    lines: Sequence[str]


@runtime_checkable
class Reporter(Protocol):
    """Hears of a training's progress."""

    def advance(self, step: int, figures: Mapping[str, float]) -> None:
        """Take note of the figures up to a step: means over the steps since the last call, or a validation's."""

    def say(self, line: str) -> None:
        """Show a line."""


def _shown(figures: Mapping[str, float], unit: str) -> str:
    parts = [f"loss {figures['loss']:.2f}", f"KL {figures['kl']:.2f}"] if "loss" in figures else []
    if "active_units" in figures:
        parts.append(f"active units {figures['active_units']:.0f}")
    if "rate" in figures:
        parts.append(f"{figures['rate']:,.0f} {unit}/s")
    return " · ".join(parts)


class PlainReporter:
    """A line at most every `seconds`, for logs and pipes."""

    def __init__(self, title: str, num_steps: int, start_step: int, unit: str, seconds: float = 15.0) -> None:
        self.title, self.num_steps, self.unit, self.seconds = title, num_steps, unit, seconds
        self.start_step, self.start, self.last = start_step, time.monotonic(), 0.0
        self.figures: dict[str, float] = {}

    def advance(self, step: int, figures: Mapping[str, float]) -> None:
        """Print a line if it is time for one."""
        self.figures.update(figures)
        now = time.monotonic()
        if now - self.last < self.seconds and step < self.num_steps:
            return
        self.last = now
        left = (now - self.start) / max(step - self.start_step, 1) * (self.num_steps - step)
        shown = _shown(self.figures, self.unit)
        print(f"{self.title}: step {step}/{self.num_steps} · {shown} · {left:.0f} s left", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print the line."""
        print(line, file=sys.stderr, flush=True)


class BarReporter:
    """A progress bar with loss, KL, active units, rate and time left."""

    def __init__(self, progress: Progress, num_steps: int, start_step: int, unit: str) -> None:
        self.progress, self.unit = progress, unit
        self.task = progress.add_task("", total=num_steps, completed=start_step, figures="")
        self.figures: dict[str, float] = {}

    def advance(self, step: int, figures: Mapping[str, float]) -> None:
        """Move the bar."""
        self.figures.update(figures)
        self.progress.update(self.task, completed=step, figures=_shown(self.figures, self.unit))

    def say(self, line: str) -> None:
        """Show the line above the bar."""
        self.progress.console.print(line, markup=False, highlight=False)


class SilentReporter:
    """Shows nothing: of several processes the first one's reporter is enough."""

    def advance(self, step: int, figures: Mapping[str, float]) -> None:
        """Do nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""


@contextmanager
def open_reporter(
    title: str, num_steps: int, start_step: int = 0, unit: str = "examples", *, silent: bool = False
) -> Iterator[Reporter]:
    """A progress bar if standard error is a terminal, else plain lines; nothing if silent."""
    if silent:
        yield SilentReporter()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainReporter(title, num_steps, start_step, unit)
        return
    fixed = Column(no_wrap=True)
    columns = (
        BarColumn(bar_width=12, table_column=Column(min_width=12)),
        MofNCompleteColumn(table_column=fixed),
        TimeRemainingColumn(table_column=fixed),
        TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    console.print(title, markup=False, highlight=False)
    with Progress(*columns, console=console, expand=True) as progress:
        yield BarReporter(progress, num_steps, start_step, unit)
