"""The report's figures, as SVG elements that take the page's text colour and font."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

# Okabe & Ito 2008, "Color Universal Design": told apart with every kind of colour blindness, on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# What curves that lie on each other, as two equal KL weights do, are told apart by.
DASHES = ("solid", "dashed", "dotted")
INK = "#010203"  # stands for the page's text colour, which the SVG takes over as `currentColor`
RASTER_DPI = 200  # of what is drawn in pixels: a map of thousands of points
MARKED = 30  # curves of at most so many points show them

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same on every machine
    "font.size": 9,
    "text.color": INK,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.8,
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.major.size": 0,
}
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Curve:
    """A figure over training steps: its title, the key in metrics.jsonl, and where and how it is shown.

    `sign` is −1 for what the log has the other way up. `from_zero` makes the axis reach from 0 to at least 1, so that
    the noise of a collapsed run does not fill the picture.
    """

    title: str
    key: str
    is_validation: bool = False
    sign: int = 1
    from_zero: bool = False

    def points(self, metrics: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
        """Steps and values in the rows of metrics.jsonl; rows that lack either, or a number there, are left out."""
        return [
            (row["step"], self.sign * row[self.key])
            for row in metrics
            if (row.get("split") == "valid") == self.is_validation and _has_step(row) and _is_number(row.get(self.key))
        ]


CURVES = (
    Curve("Training loss, nats", "loss"),
    Curve("Training KL, nats", "kl", from_zero=True),
    Curve("KL weight", "kl_weight", from_zero=True),
    Curve("Validation −ELBO, nats", "elbo", is_validation=True, sign=-1),
    Curve("Validation mutual information, nats", "mutual_information", is_validation=True, from_zero=True),
    Curve("Validation active units", "active_units", is_validation=True, from_zero=True),
)


def alarms(metrics: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Step and text of each alarm in the rows of metrics.jsonl."""
    found = [(row["step"], row["alarm"]) for row in metrics if _has_step(row) and "alarm" in row]
    return [(step, str(text).removeprefix(f"step {step}: ")) for step, text in found]


def draw_curve(curve: Curve, logs: Sequence[Sequence[dict[str, Any]]]) -> str:
    """The curve of every run, from the rows of each one's metrics.jsonl, as an SVG element.

    A triangle on the step axis is an alarm, a cross at the upper edge a value that is not finite.
    """

    def draw(axes: Axes) -> None:
        finite: list[float] = []
        for number, metrics in enumerate(logs):
            points = curve.points(metrics)
            drawn = [(step, value if math.isfinite(value) else math.nan) for step, value in points]
            finite += [value for _, value in drawn if not math.isnan(value)]
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            marker = "o" if len(drawn) <= MARKED else ""
            axes.plot(*_transposed(drawn), color=colour, linestyle=dash, marker=marker, markersize=3, clip_on=False)
            lost = [(step, 1.0) for step, value in points if not math.isfinite(value)]
            raised = [(step, 0.0) for step, _ in alarms(metrics)]
            edge = axes.get_xaxis_transform()
            axes.plot(*_transposed(lost), "x", color=colour, transform=edge, clip_on=False)
            axes.plot(*_transposed(raised), "^", color=colour, markersize=5, transform=edge, clip_on=False)
        if finite and curve.from_zero:
            axes.set_ylim(min([0.0, *finite]), max([1.0, *finite]) * 1.05)
        axes.set_xlim(0, max([1, *(row["step"] for metrics in logs for row in metrics if _has_step(row))]))
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if not finite:
            say_instead(axes, "no finite value in the log")

    return draw_svg(curve.title, draw)


def draw_kl_per_dimension(values: Sequence[float], number: int, top: float) -> str:
    """Bars of a run's KL in each latent dimension, largest first, as an SVG element.

    `number` is the run's place in the report, which its colour follows; `top` is where the axis ends, in nats.
    """

    def draw(axes: Axes) -> None:
        bars = sorted((value for value in values if math.isfinite(value)), reverse=True)
        axes.bar(range(1, len(bars) + 1), bars, width=0.8, color=COLOURS[number % len(COLOURS)])
        axes.set_xlim(0.4, max(len(bars), 1) + 0.6)
        axes.set_ylim(min([0.0, *bars]), top)
        axes.set_xlabel("latent dimension, largest first")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if not bars:
            say_instead(axes, "no KL per dimension")

    return draw_svg(f"KL per latent dimension, nats, run {number + 1}", draw)


def _has_step(row: dict[str, Any]) -> bool:
    return type(row.get("step")) is int and _is_number(row["step"])


def _is_number(value: object) -> bool:
    """A float, or an integer that a float can stand for: a log may be anybody's."""
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _transposed(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def say_instead(axes: Axes, text: str) -> None:
    """Write in the middle of a picture that shows nothing else."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", alpha=0.6)
    axes.set_yticks([])


def draw_svg(label: str, draw: Callable[[Axes], None], size: tuple[float, float] = (3.6, 2.2)) -> str:
    """Draw, and make the picture fit to stand in a page beside others. `size` is in inches of 9-point text."""
    written = io.StringIO()
    # The salt makes the ids the same in every writing and, being the label, different from those of the other figures.
    with matplotlib.style.context({**STYLE, "svg.hashsalt": label}, after_reset=True):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        figure.savefig(written, format="svg", metadata=NO_METADATA, dpi=RASTER_DPI)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to groups, and every figure calls them the same
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
