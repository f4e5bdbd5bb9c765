"""A report of some runs as one HTML file: no network, no scripts, nothing beside it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from latent.training.files import write_atomically
from textvae.generation import Step
from textvae.measuring import Measures
from textvae.plots import COLOURS, CURVES, DASHES, alarms, draw_curve, draw_kl_per_dimension
from textvae.tables import measures_table, shown

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

EMPTY = '<i class="quiet">(empty)</i>'

MIN_TOP = 0.1  # nats: the bars of a collapsed run look as small as they are

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1d1f23; --quiet: #666b73; --paper: #fdfdfc; --rule: #dddfe2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e4e6; --quiet: #9da2aa; --paper: #16181b; --rule: #34383d }
  svg, .key { filter: brightness(1.25) }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0 0 .75rem; font-size: 2rem; line-height: 1.2; font-weight: 650; letter-spacing: -.015em }
h2 { margin: 3.25rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); font-size: 1.25rem;
  font-weight: 650 }
h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 650 }
p { margin: 0 0 .75rem; max-width: 44rem }
ul { margin: 0; padding: 0; list-style: none }
li { margin: 0 0 .5rem }
.lead { font-size: 1.15rem }
.quiet, .same, figcaption { color: var(--quiet); font-size: .875rem }
.columns { display: grid; gap: 1.75rem 2.25rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)) }
.figures { display: grid; gap: 1.5rem 1.75rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)) }
.key { display: inline-block; width: 1.75rem; margin-right: .5rem; border-top: 3px; vertical-align: .25em }
.keys > span { display: inline-block; margin-right: 1.5rem }
.verdict { margin: 0 0 .35rem; font-size: 1.5rem; line-height: 1.2; font-weight: 650 }
figure { display: flex; flex-direction: column; justify-content: space-between; margin: 0; break-inside: avoid }
svg { display: block; width: 100%; height: auto }
svg text { font-family: inherit !important }
.scroll { margin-bottom: .6rem; overflow-x: auto }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .35rem 1.5rem .35rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
  white-space: pre }
thead th { border-bottom: 2px solid var(--ink) }
tbody th { position: sticky; left: 0; background: var(--paper); font-weight: 400; color: var(--quiet) }
tbody tr:first-child td { font-weight: 650 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; margin: 0 }
dt { font-weight: 650 }
dd { margin: 0 }
.sentence { display: block; font-family: Charter, "Bitstream Charter", Georgia, "Liberation Serif", serif;
  font-size: 1.0625rem; line-height: 1.4; text-align: start }
.pair { padding: 0 0 .1rem .75rem; border-left: 2px solid var(--rule) }
.pair .sentence:first-child { color: var(--quiet); font-size: 1rem }
.path li { display: grid; grid-template-columns: 2.5rem 1fr; align-items: baseline }
.path li > .quiet:first-child { font-variant-numeric: tabular-nums }
.repeat .sentence { color: var(--quiet) }
.same { margin: 0 .5rem; font-family: system-ui, sans-serif; white-space: nowrap }
@media (max-width: 40rem) {
  body { padding-top: 1.5rem }
  h2 { margin-top: 2.25rem }
  dl { display: block }
  dd { margin-bottom: .6rem }
  th, td { padding-right: 1rem }
  tbody th { min-width: 8rem; white-space: pre-wrap }
}
</style>
</head>
<body>
<header>
<h1 dir="auto">$title</h1>
<p class="lead">$lead</p>
</header>
$sections
</body>
</html>
""")


@dataclass(frozen=True)
class RunReport:
    """What the report shows of a run. `seconds` is the time that its training took."""

    name: str
    metrics: tuple[dict[str, Any], ...]
    measures: Measures
    samples: tuple[str, ...]
    reconstructions: tuple[tuple[str, str], ...]
    interpolation: tuple[Step, ...]
    seconds: float


def write_report(path: Path, title: str, runs: Sequence[RunReport], notes: Sequence[str] = ()) -> None:
    """Write the report of runs that were measured on the same split with the same settings.

    The same runs give the same bytes. Raises ValueError, having written nothing, for a path that is a folder or lies in
    none, and for runs that are none or share a name.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file in it, as in {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: cannot be written, as there is no folder {path.parent}")
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: a report needs one run or more, each with its own name, got {names}")
    sections = {
        "Is z used?": _columns(runs, _verdict),
        "Measures": _table(runs),
        "What the figures mean": _meanings(),
        "Training": _curves(runs),
        "Alarms": _alarms(runs),
        "KL per latent dimension": _kl_per_dimension(runs),
        "Samples from the prior": _columns(runs, _samples),
        "Reconstructions": _columns(runs, _reconstructions),
        "Interpolation": _columns(runs, _interpolation),
    }
    if notes:
        sections["Notes"] = _items([f'<li dir="auto">{escape(note)}</li>' for note in notes])
    page = PAGE.substitute(
        title=escape(title),
        lead=_lead(runs),
        sections="\n".join(f"<section>\n<h2>{name}</h2>\n{body}\n</section>" for name, body in sections.items()),
    )
    # A run's name may come from a file name that is not UTF-8, whose bytes Python keeps as lone surrogates.
    write_atomically(path, page.encode(errors="replace"))


def _lead(runs: Sequence[RunReport]) -> str:
    one = runs[0].measures
    judged = "; that of ".join(
        f"<b><bdi>{escape(run.name)}</bdi></b> is <b>{escape(run.measures.verdict)}</b>" for run in runs
    )
    return f"On {one.num_sentences:,} sentences of the {escape(one.split)} split, the latent variable of {judged}."


def _key(number: int) -> str:
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    return f'<span class="key" style="border-top-style: {dash}; border-top-color: {colour}"></span>'


def _columns(runs: Sequence[RunReport], content: Callable[[RunReport], str]) -> str:
    """Runs side by side, or one under the other where the page is narrow."""
    columns = [
        f"<article>\n<h3>{_key(number)}<bdi>{escape(run.name)}</bdi></h3>\n{content(run)}\n</article>"
        for number, run in enumerate(runs)
    ]
    return '<div class="columns">\n' + "\n".join(columns) + "\n</div>"


def _verdict(run: RunReport) -> str:
    split = [reason.partition(": ") for reason in run.measures.verdict_reasons]
    reasons = [f"<li><b>{escape(answer)}</b>{colon}{escape(claim)}</li>" for answer, colon, claim in split]
    return (
        f'<p class="verdict">{escape(run.measures.verdict)}</p>\n<p>{VERDICTS[run.measures.verdict]}</p>\n'
        f'{_items(reasons)}\n<p class="quiet">Trained in {run.seconds / 60:,.1f} minutes; measured at '
        f"{escape(run.measures.checkpoint)}.</p>"
    )


def _table(runs: Sequence[RunReport]) -> str:
    table = measures_table({run.name: run.measures for run in runs})
    heads = "".join(f'<th scope="col" dir="auto">{escape(head)}</th>' for head in table.heads)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0">\n<table>\n<thead><tr>{heads}</tr></thead>\n'
        f'<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n<p class="quiet">{escape(table.title)}</p>'
    )


def _meanings() -> str:
    return "<dl>\n" + "\n".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in MEANINGS.items()) + "\n</dl>"


def _curves(runs: Sequence[RunReport]) -> str:
    keys = "".join(f"<span>{_key(number)}<bdi>{escape(run.name)}</bdi></span>" for number, run in enumerate(runs))
    figures = [
        f"<figure><figcaption>{curve.title}</figcaption>{draw_curve(curve, [run.metrics for run in runs])}</figure>"
        for curve in CURVES
    ]
    return (
        f'<p class="keys">{keys}</p>\n<div class="figures">\n{"".join(figures)}</div>\n'
        '<p class="quiet">▲ on the step axis: an alarm. × at the upper edge: a value that is not finite.</p>'
    )


def _alarms(runs: Sequence[RunReport]) -> str:
    return _items(
        [
            f"<li>{_key(number)}<bdi>{escape(run.name)}</bdi>, step {step:,}: <bdi>{escape(text)}</bdi></li>"
            for number, run in enumerate(runs)
            for step, text in alarms(run.metrics)
        ]
    )


def _kl_per_dimension(runs: Sequence[RunReport]) -> str:
    every = [value for run in runs for value in run.measures.kl_per_dimension if math.isfinite(value)]
    top = 1.05 * max([MIN_TOP, *every])
    figures = [
        f"<figure><figcaption>{_key(number)}<bdi>{escape(run.name)}</bdi>: {shown(run.measures.kl)} nats in "
        f"{len(run.measures.kl_per_dimension)} dimensions</figcaption>"
        f"{draw_kl_per_dimension(run.measures.kl_per_dimension, number, top)}</figure>"
        for number, run in enumerate(runs)
    ]
    return f'<div class="figures">\n{"".join(figures)}</div>'


def _samples(run: RunReport) -> str:
    return _items([f"<li>{_sentence(text)}</li>" for text in run.samples])


def _reconstructions(run: RunReport) -> str:
    return _items(
        [
            f'<li class="pair">{_sentence(original)}{_sentence(decoded, is_same=decoded == original)}</li>'
            for original, decoded in run.reconstructions
        ]
    )


def _interpolation(run: RunReport) -> str:
    points = [
        f'<li class="{"repeat" if step.is_repeat else "step"}"><span class="quiet">{step.position:.2f}</span>'
        f"{_sentence(step.text, is_same=step.is_repeat)}</li>"
        for step in run.interpolation
    ]
    return f'<div class="path">{_items(points)}</div>'


def _sentence(text: str, is_same: bool = False) -> str:
    """A sentence in its own direction of writing, with a mark where it is the one before it."""
    mark = ' <span class="same">the same</span>' if is_same else ""
    return f'<span class="sentence" dir="auto">{escape(text) or EMPTY}{mark}</span>'


def _items(items: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(items) + "\n</ul>" if items else '<p class="quiet">None.</p>'
