"""`textvae train --profile`: where a step's time goes, as a table and as a trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

SKIPPED, WARM, PROFILED = 20, 2, 10  # steps
TABLE, TRACE = "profile.txt", "trace.json"
ROWS = 30


@contextmanager
def profiling(folder: Path | None) -> Iterator[Callable[[], object]]:
    """Give what is to be called after each step; write steps 23 to 32 to `profile.txt` and `trace.json` in a folder.

    The table has a row for each operator with its share of the time; the trace opens in Perfetto or chrome://tracing.
    Without a folder nothing is watched.
    """
    if folder is None:
        yield lambda: None
        return

    def write(found: profile) -> None:
        on_device = torch.cuda.is_available()
        sort_by = "self_cuda_time_total" if on_device else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=sort_by, row_limit=ROWS, max_name_column_width=60)
        (folder / TABLE).write_text(f"{PROFILED} steps\n{table}\n", "utf-8")
        found.export_chrome_trace(str(folder / TRACE))

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    steps = schedule(wait=SKIPPED, warmup=WARM, active=PROFILED, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=write) as profiler:
        yield profiler.step
