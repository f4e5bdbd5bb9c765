"""`textvae compare --html`: a comparison as a page, each run opened again to let it speak."""

from collections.abc import Callable, Sequence
from pathlib import Path

from latent.reporting.comparison import Comparison, compare_runs
from latent.reporting.report import check_report_path, write_report
from latent.reporting.run_kind import AnyKind
from latent.training import Run


def run_comparison(
    kind: AnyKind,
    runs: Sequence[Run],
    *,
    split: str = "test",
    num_samples: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    report: Path | None = None,
    say: Callable[[str], None],
) -> Comparison:
    """`compare_runs`, and a report of it if one is asked for. Raises ValueError as that and `write_report` do."""
    if report is not None:
        check_report_path(report)
    found = compare_runs(kind, runs, split=split, num_samples=num_samples, limit=limit, seed=seed, say=say)
    if report is not None:
        write_comparison(report, found)
        say(f"report: {report}")
    return found


def write_comparison(path: Path, found: Comparison) -> None:
    """Open each run at the checkpoint that was measured, and write the report of all of them."""
    described = [
        found.kind.describe(found.kind.open_run(one.run, one.figures.checkpoint), one.name, one.figures)
        for one in found.runs
    ]
    names = ", ".join(one.name for one in found.runs) if len(found.runs) < 4 else f"{len(found.runs)} runs"
    write_report(path, f"Comparison of {names}", described, found)
