"""The sections of the report in which figures of all runs stand together, as HTML."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from latent.reporting.comparison import Comparison
from latent.reporting.comparison_plots import draw_latent_map, draw_rate_distortion, map_colours
from latent.reporting.latent_map import NUM_POINTS
from latent.reporting.page import dots, figures, items, key, keys, name_of
from latent.reporting.plots import CURVES, alarms, draw_curve, draw_kl_per_dimension
from latent.reporting.run_report import RunReport
from latent.reporting.tables import shown

MIN_TOP = 0.1  # nats: the bars of a collapsed run look as small as they are
MIN_HALF_WIDTH = 1.5  # of the maps: so do its points, beside the prior's circle of radius 1


def rate_distortion(runs: Sequence[RunReport[Any]], comparison: Comparison) -> str:
    """The rate–distortion plane."""
    flagged = {run.name for one in comparison.differences if one.reasons or one.withheld for run in one.group.runs}
    hollow = [run.name in flagged for run in runs]
    drawn = draw_rate_distortion([(run.measures.kl, run.measures.reconstruction) for run in runs], hollow)
    remark = " Hollow points may not be compared with the first run." if any(hollow) else ""
    crosses = "Runs whose crosses overlap can still differ: paired differences have far narrower intervals."
    lines = "Along a thin line nats pass from reconstruction to KL and −ELBO stays as it is; lower left is better."
    return (
        f'{keys([run.name for run in runs])}\n<figure class="wide">{drawn}</figure>\n'
        f'<p class="quiet">{lines} {crosses}{remark}</p>'
    )


def curves(runs: Sequence[RunReport[Any]]) -> str:
    """Training and validation, a curve for each run."""
    drawn = [
        f"<figure><figcaption>{curve.title}</figcaption>{draw_curve(curve, [run.metrics for run in runs])}</figure>"
        for curve in CURVES
    ]
    return (
        f"{keys([run.name for run in runs])}\n{figures(drawn)}\n"
        '<p class="quiet">▲ on the step axis: an alarm. × at the upper edge: a value that is not finite.</p>'
    )


def alarm_list(runs: Sequence[RunReport[Any]]) -> str:
    """The alarms of all runs."""
    return items(
        [
            f"<li>{key(number)}{name_of(run.name)}, step {step:,}: {name_of(text)}</li>"
            for number, run in enumerate(runs)
            for step, text in alarms(run.metrics)
        ]
    )


def kl_per_dimension(runs: Sequence[RunReport[Any]]) -> str:
    """Bars for each run, all on one scale."""
    every = [value for run in runs for value in run.measures.kl_per_dimension if math.isfinite(value)]
    top = 1.05 * max([MIN_TOP, *every])
    return figures(
        [
            f"<figure><figcaption>{key(number)}{name_of(run.name)}: {shown(run.measures.kl)} nats"
            f"{_in_dimensions(run.measures.kl_per_dimension)}</figcaption>"
            f"{draw_kl_per_dimension(run.measures.kl_per_dimension, number, top)}</figure>"
            for number, run in enumerate(runs)
        ]
    )


def _in_dimensions(values: Sequence[float]) -> str:
    return f" in {len(values)} dimensions" if values else ""


def latent_maps(runs: Sequence[RunReport[Any]], examples: str) -> str:
    """A map for each run that has one, all on one scale; nothing where none has."""
    maps = [(number, run.name, run.latent_map) for number, run in enumerate(runs) if run.latent_map is not None]
    if not maps:
        return ""
    reach = [np.abs(one.points).max(initial=0) for _, _, one in maps]
    half_width = 1.05 * max(MIN_HALF_WIDTH, *reach)
    drawn = [
        f"<figure><figcaption>{key(number)}{name_of(name)}{dots(map_colours(one))}</figcaption>"
        f"{draw_latent_map(one, number, half_width)}</figure>"
        for number, name, one in maps
    ]
    return (
        f'{figures(drawn)}\n<p class="quiet">The posterior means of up to {NUM_POINTS:,} {examples} along their first '
        "two principal components, a point each. Dashed: one standard deviation of N(0, I) about z = 0.</p>"
    )
