"""The figure of what z is worth by position."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from latent.measures import Estimate
from latent.reporting.plots import COLOURS, DASHES, INK, draw_svg


def draw_gain_by_position(gains: Sequence[Mapping[int, Estimate]]) -> str:
    """What z is worth to the decoder at each position of a sentence, a curve and its band for each run, as SVG."""

    def draw(axes: Axes) -> None:
        for number, gain in enumerate(gains):
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            places = sorted(place for place, e in gain.items() if np.isfinite([e.value, e.low, e.high]).all())
            found = [gain[place] for place in places]
            axes.plot(places, [e.value for e in found], color=colour, linestyle=dash, marker="o", markersize=2)
            axes.fill_between(places, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.15, lw=0)
        axes.axhline(0, color=INK, alpha=0.4, linewidth=0.6)
        axes.set_xlabel("token of the sentence")
        axes.set_ylabel("gain, nats")
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))

    return draw_svg("Gain from z by position", draw, (5.4, 2.6))
