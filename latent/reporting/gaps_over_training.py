"""`textvae gaps --checkpoint all`: the gaps of the same examples at every checkpoint that was kept, with a picture."""

import io
from collections.abc import Sequence

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from latent.measures import Estimate
from latent.measures.gaps import Gaps
from latent.reporting.gap_report import GapQuestion, Opened, as_dict, find_gaps, gap_figures, tighter, title_of
from latent.reporting.plots import COLOURS, DASHES, STYLE
from latent.reporting.tables import TextTable, shown, table_lines
from latent.training.checkpoints import load_model
from latent.training.console import Shown

LINES = ("approximation", "amortisation")
COLUMNS = ("log_marginal", "optimal", "amortised", *LINES)
HEADS = ("step", "log p(x)", "L[q*]", "L[q]", "approximation gap", "amortisation gap", "accepted", "log p(x) by")
SIZE, DPI = (5.4, 3.2), 150  # inches of 9-point text


def measure_gaps_over_training(trained: Opened, question: GapQuestion) -> Shown:
    """The gaps at each checkpoint, as figures, in a table and, in the run's folder, as a picture.

    All are of the same examples, by the same settings and seeds. Damaged checkpoints are passed over. Raises as
    `find_gaps` does.
    """
    run = trained.run
    checkpoints, _ = run.checkpoints()
    steps, found = [each.step for each in checkpoints], []
    for checkpoint in checkpoints:
        load_model(checkpoint, trained.model)
        found.append(find_gaps(trained, checkpoint, question))
    every = [
        {"step": each.step, **as_dict(gaps, question.asked(each))}
        for each, gaps in zip(checkpoints, found, strict=True)
    ]
    split = question.examples["split"]
    picture = run.write(f"measures/gaps-{split}-over-training.png", gaps_png(steps, found))
    rows = tuple(_row(step, gaps) for step, gaps in zip(steps, found, strict=True))
    title = title_of(run.name, found[-1], question.asked(checkpoints[-1]), f"{len(steps)} checkpoints")
    lines = [*table_lines(TextTable(title, HEADS, rows)), str(picture)]
    return Shown({"checkpoints": every, "picture": str(picture)}, lines)


def _row(step: int, gaps: Gaps) -> tuple[str, ...]:
    figures = gap_figures(gaps)
    return (f"{step:,}", *(shown(figures[name]) for name in COLUMNS), f"{gaps.acceptance.mean():.0%}", tighter(gaps))


def gaps_png(steps: Sequence[int], found: Sequence[Gaps]) -> bytes:
    """Both gaps against the step, in nats, each a line and the band of its 95 % intervals over the examples.

    Of one checkpoint it has the two points, each with a bar.
    """
    with matplotlib.style.context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        axes = figure.subplots()
        for name, colour, dash in zip(LINES, COLOURS, DASHES, strict=False):
            figures: list[Estimate] = [gap_figures(gaps)[name] for gaps in found]
            values = [each.value for each in figures]
            axes.plot(steps, values, color=colour, linestyle=dash, marker="o", markersize=3, label=f"{name} gap")
            low, high = ([getattr(each, end) for each in figures] for end in ("low", "high"))
            if len(steps) > 1:
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
            else:  # a band of no width cannot be seen
                axes.vlines(steps, low, high, color=colour, linestyle=dash)
        axes.set_xlabel("step of training")
        axes.set_ylabel("nats")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
