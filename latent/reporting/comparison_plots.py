"""Figures in which runs meet: the rate–distortion plane and maps of the latent means."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from latent.measures import Estimate
from latent.reporting.latent_map import LatentMap
from latent.reporting.plots import COLOURS, INK, draw_svg, say_instead

# From short to long: told apart by lightness and by hue, on white and on black.
ORDERED = ("#4477dd", "#9a50c8", "#e0558a", "#f0a030")
# Ten are as many as digits have; the last four are told from the others by lightness where not by hue.
LABELS = (*COLOURS, "#7a4fc9", "#a3a000", "#8b1a3a", "#7d5a3c")
OTHER = "#8a8f98"  # labels beyond the colours
TICKS = MaxNLocator(6, steps=[1, 2, 5, 10])


def draw_rate_distortion(points: Sequence[tuple[Estimate, Estimate]], hollow: Sequence[bool]) -> str:
    """`plot_rate_distortion` as an SVG element."""
    return draw_svg("Rate–distortion plane", lambda axes: plot_rate_distortion(axes, points, hollow), (5.4, 3.4))


def plot_rate_distortion(axes: Axes, points: Sequence[tuple[Estimate, Estimate]], hollow: Sequence[bool]) -> None:
    """Each run's KL and reconstruction with their intervals as a cross, and lines of equal −ELBO.

    Hollow points are those that may not be compared with the first.
    """
    drawn = 0
    for number, ((rate, distortion), is_hollow) in enumerate(zip(points, hollow, strict=True)):
        ends = np.array([[e.value, e.low, e.high] for e in (rate, distortion)])
        if not np.isfinite(ends).all():
            continue
        drawn += 1
        (x, y), arms = ends[:, 0].tolist(), np.abs(ends[:, 1:] - ends[:, :1])
        colour = COLOURS[number % len(COLOURS)]
        face = "none" if is_hollow else colour
        axes.errorbar(x, y, arms[1][:, None], arms[0][:, None], fmt="none", ecolor=colour, elinewidth=1)
        axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=5)
    axes.set_xlabel("rate: KL, nats")
    axes.set_ylabel("distortion: reconstruction, nats")
    if not drawn:
        say_instead(axes, "no finite figures")
        return
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.margins(0.08)
    _lines_of_equal_sum(axes)


def _lines_of_equal_sum(axes: Axes) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.grid(False)
    for total in TICKS.tick_values(left + bottom, right + top):
        if not left + bottom < total < right + top:
            continue
        x, y = (left, total - left) if total - left <= top else (total - top, top)
        axes.axline((x, y), slope=-1, color=INK, alpha=0.25, linewidth=0.6)
        if total - left <= top or x < right - 0.15 * (right - left):
            axes.annotate(f"{total:g}", (x, y), (2, -2), textcoords="offset points", va="top", fontsize=7, alpha=0.6)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_title("thin lines: equal −ELBO", fontsize=8, loc="right", alpha=0.7)


def map_colours(one: LatentMap) -> dict[str, str]:
    """The colour of each category of a map, by name; categories beyond the colours share one."""
    if one.is_ordered:
        return dict(zip(one.categories, ORDERED, strict=False))
    named = dict(zip(one.categories, LABELS, strict=False))
    return named | ({"other": OTHER} if len(one.categories) > len(LABELS) else {})


def draw_latent_map(one: LatentMap, number: int, half_width: float) -> str:
    """The points of a run's map, in pixels within the SVG element, and the circle in which the prior has 39 % of them.

    `half_width` is where the axes end on either side of the middle, the same for all runs of a report.
    """
    palette = np.array([*(ORDERED if one.is_ordered else LABELS), OTHER])
    area = min(14.0, max(4.0, 4000 / max(1, len(one.points))))  # of a point: fewer are larger

    def draw(axes: Axes) -> None:
        if len(one.points) == 0:
            say_instead(axes, "no finite means")
            return
        colours = palette[np.minimum(one.numbers, len(palette) - 1)]
        axes.scatter(one.points[:, 0], one.points[:, 1], c=colours, s=area, alpha=0.7, linewidths=0, rasterized=True)
        axes.add_patch(Circle(one.origin, 1.0, fill=False, edgecolor=INK, linewidth=1.2, linestyle="--", zorder=3))
        axes.set_xlim(-half_width, half_width)
        axes.set_ylim(-half_width, half_width)
        axes.set_aspect("equal")
        axes.grid(False)
        axes.set_xlabel(f"first component, {one.explained[0]:.0%} of the variance")
        axes.set_ylabel(f"second, {one.explained[1]:.0%}")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))

    return draw_svg(f"Latent means, run {number + 1}", draw, (3.6, 3.4))
