"""A report of some runs as one HTML file: no network, no scripts, nothing beside it."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from latent.training.files import write_atomically
from textvae.comparison import Comparison
from textvae.comparison_plots import draw_gain_by_position, draw_latent_map, draw_rate_distortion, map_colours
from textvae.comparison_tables import differences_table, figures_table, flags, remarks, settings_table
from textvae.page import columns, dots, figures, items, key, keys, name_of, page, sentence, table
from textvae.plots import CURVES, alarms, draw_curve, draw_kl_per_dimension
from textvae.run_report import RunReport
from textvae.tables import shown

VERDICTS = {
    "collapsed": "The decoder ignores z: whatever the latent vector, it draws from one and the same distribution.",
    "partly used": "z carries something, but not all three questions below are clearly answered with yes.",
    "used": "z tells sentences apart, and the decoder writes what z tells it.",
}

MEANINGS = {
    "−ELBO": "An upper bound on a sentence's −log p(x): reconstruction plus KL. Low is good, but tells nothing of z.",
    "KL": "How far a sentence's posterior lies from the prior. Near 0 it has collapsed; above 0 it need not be used.",
    "Mutual information": "How much z tells of which sentence it came from: 0 is nothing, log N is all.",
    "Active units": "Latent dimensions whose posterior mean varies between sentences (variance at least 0.01).",
    "Shuffled-z gain": "What a sentence costs more when decoded from another's z: at 0 the decoder does not heed z.",
    "PPL and T": "Perplexity per scored token, and the tokens in a sentence. Compare at equal T and vocabulary only.",
}

MIN_TOP = 0.1  # nats: the bars of a collapsed run look as small as they are
MIN_HALF_WIDTH = 1.5  # of the maps: so do its points, beside the prior's circle of radius 1


def check_report_path(path: Path) -> None:
    """Raises ValueError for a path that is a folder or lies in none: before the work, not after it."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file in it, as in {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: cannot be written, as there is no folder {path.parent}")


def write_report(
    path: Path, title: str, runs: Sequence[RunReport], comparison: Comparison, notes: Sequence[str] = ()
) -> None:
    """Write the report of the runs of a comparison, in its order.

    The same runs give the same bytes. Raises ValueError, having written nothing, for a path that is a folder or lies in
    none, and for runs that are none or share a name.
    """
    check_report_path(path)
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: a report needs one run or more, each with its own name, got {names}")
    assert names == [run.name for run in comparison.runs]
    sections = {
        "Is z used?": columns(names, [_verdict(run) for run in runs]),
        "Differences": _differences(comparison),
        "Measures": table(figures_table(comparison), "judged"),
        "What the figures mean": _meanings(),
        "Rate and distortion": _rate_distortion(runs, comparison),
        "Training": _curves(runs),
        "Alarms": _alarms(runs),
        "KL per latent dimension": _kl_per_dimension(runs),
        "Gain from z by position": _gain_by_position(runs),
        "Latent means": _latent_maps(runs),
        "Samples from the prior": columns(names, [_samples(run) for run in runs]),
        "Reconstructions": columns(names, [_reconstructions(run) for run in runs]),
        "Interpolation": columns(names, [_interpolation(run) for run in runs]),
        "Notes": items([f'<li dir="auto">{escape(note)}</li>' for note in notes]) if notes else "",
    }
    content = page(title, _lead(runs), {name: body for name, body in sections.items() if body})
    # A run's name may come from a file name that is not UTF-8, whose bytes Python keeps as lone surrogates.
    write_atomically(path, content.encode(errors="replace"))


def _lead(runs: Sequence[RunReport]) -> str:
    one = runs[0].measures
    where = {(run.measures.num_sentences, run.measures.split) for run in runs}
    judged = "; that of ".join(f"<b>{name_of(run.name)}</b> is <b>{escape(run.measures.verdict)}</b>" for run in runs)
    on = f"On {one.num_sentences:,} sentences of the {escape(one.split)} split, the" if len(where) == 1 else "The"
    return f"{on} latent variable of {judged}."


def _verdict(run: RunReport) -> str:
    split = [reason.partition(": ") for reason in run.measures.verdict_reasons]
    reasons = [f"<li><b>{escape(answer)}</b>{colon}{escape(claim)}</li>" for answer, colon, claim in split]
    trained = "Measured" if run.seconds is None else f"Trained in {run.seconds / 60:,.1f} minutes; measured"
    return (
        f'<p class="verdict">{escape(run.measures.verdict)}</p>\n<p>{VERDICTS[run.measures.verdict]}</p>\n'
        f'{items(reasons)}\n<p class="quiet">{trained} at {escape(run.measures.checkpoint)}.</p>'
    )


def _differences(comparison: Comparison) -> str:
    """Flags first, then what differs in the figures and in the recipes. Nothing where there is one recipe alone."""
    flagged = [f'<p class="flag" dir="auto">{escape(flag)}</p>' for flag in flags(comparison)]
    tables = [table(one) for one in (differences_table(comparison), settings_table(comparison)) if one is not None]
    if not flagged and not tables:
        return ""
    return "\n".join([*flagged, *tables, *(f'<p class="quiet">{remark}</p>' for remark in remarks(comparison))])


def _meanings() -> str:
    return "<dl>\n" + "\n".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in MEANINGS.items()) + "\n</dl>"


def _rate_distortion(runs: Sequence[RunReport], comparison: Comparison) -> str:
    flagged = {run.name for one in comparison.differences if one.reasons for run in one.group.runs}
    hollow = [run.name in flagged for run in runs]
    drawn = draw_rate_distortion([(run.measures.kl, run.measures.reconstruction) for run in runs], hollow)
    remark = " Hollow points may not be compared with the first run." if any(hollow) else ""
    crosses = "Runs whose crosses overlap can still differ: paired differences have far narrower intervals."
    lines = "Along a thin line nats pass from reconstruction to KL and −ELBO stays as it is; lower left is better."
    return (
        f'{keys([run.name for run in runs])}\n<figure class="wide">{drawn}</figure>\n'
        f'<p class="quiet">{lines} {crosses}{remark}</p>'
    )


def _curves(runs: Sequence[RunReport]) -> str:
    drawn = [
        f"<figure><figcaption>{curve.title}</figcaption>{draw_curve(curve, [run.metrics for run in runs])}</figure>"
        for curve in CURVES
    ]
    return (
        f"{keys([run.name for run in runs])}\n{figures(drawn)}\n"
        '<p class="quiet">▲ on the step axis: an alarm. × at the upper edge: a value that is not finite.</p>'
    )


def _alarms(runs: Sequence[RunReport]) -> str:
    return items(
        [
            f"<li>{key(number)}{name_of(run.name)}, step {step:,}: {name_of(text)}</li>"
            for number, run in enumerate(runs)
            for step, text in alarms(run.metrics)
        ]
    )


def _kl_per_dimension(runs: Sequence[RunReport]) -> str:
    every = [value for run in runs for value in run.measures.kl_per_dimension if math.isfinite(value)]
    top = 1.05 * max([MIN_TOP, *every])
    return figures(
        [
            f"<figure><figcaption>{key(number)}{name_of(run.name)}: {shown(run.measures.kl)} nats in "
            f"{len(run.measures.kl_per_dimension)} dimensions</figcaption>"
            f"{draw_kl_per_dimension(run.measures.kl_per_dimension, number, top)}</figure>"
            for number, run in enumerate(runs)
        ]
    )


def _gain_by_position(runs: Sequence[RunReport]) -> str:
    gains = [run.gain_by_position for run in runs]
    if not any(gains):
        return ""
    return f'{keys([run.name for run in runs])}\n<figure class="wide">{draw_gain_by_position(gains)}</figure>'


def _latent_maps(runs: Sequence[RunReport]) -> str:
    """A map for each run that has one, all on one scale."""
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
        f'{figures(drawn)}\n<p class="quiet">The posterior means of up to 2,000 sentences along their first two '
        "principal components, a point each. Dashed: one standard deviation of the prior about z = 0.</p>"
    )


def _samples(run: RunReport) -> str:
    return items([f"<li>{sentence(text)}</li>" for text in run.samples])


def _reconstructions(run: RunReport) -> str:
    return items(
        [
            f'<li class="pair">{sentence(original)}{sentence(decoded, is_same=decoded == original)}</li>'
            for original, decoded in run.reconstructions
        ]
    )


def _interpolation(run: RunReport) -> str:
    points = [
        f'<li class="{"repeat" if step.is_repeat else "step"}"><span class="quiet">{step.position:.2f}</span>'
        f"{sentence(step.text, is_same=step.is_repeat)}</li>"
        for step in run.interpolation
    ]
    return f'<div class="path">{items(points)}</div>'
