"""A report of some runs as one HTML file: no network, no scripts, nothing beside it."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from latent.reporting.comparison import Comparison
from latent.reporting.comparison_tables import differences_table, figures_table, flags, remarks, settings_table
from latent.reporting.page import columns, items, name_of, page, table
from latent.reporting.run_kind import AnyKind
from latent.reporting.run_report import RunReport
from latent.reporting.sections import alarm_list, curves, kl_per_dimension, rate_distortion
from latent.training.files import write_atomically

VERDICTS = {
    "collapsed": "The decoder ignores z: whatever the latent vector, it draws from one and the same distribution.",
    "partly used": "z carries something, but not all three questions below are clearly answered with yes.",
    "absent": "A model without z: what the others' NLL has to be below for z to be worth something.",
    "used": "z tells {examples} apart, and the decoder does what z tells it.",
}

MEANINGS = {
    "−ELBO": "An upper bound on each {example}'s −log p(x): reconstruction plus KL. It says nothing of z.",
    "KL": "How far each {example}'s posterior lies from the prior. Near 0 it has collapsed; above 0 it may go unused.",
    "Mutual information": "How much z tells of which {example} it came from: 0 is nothing, log N is all.",
    "Active units": "Latent dimensions whose posterior mean varies between {examples} (variance at least 0.01).",
    "Shuffled-z gain": "What each {example} costs more, decoded from another's z: at 0 the decoder does not heed z.",
}


def check_report_path(path: Path) -> None:
    """Raises ValueError for a path that is a folder or lies in none: before the work, not after it."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file in it, as in {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: cannot be written, as there is no folder {path.parent}")


def write_report(
    path: Path, title: str, runs: Sequence[RunReport[Any]], comparison: Comparison, notes: Sequence[str] = ()
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
    kind = comparison.kind
    sections = {
        "Is z used?": columns(names, [_verdict(kind, run) for run in runs]),
        "Differences": _differences(comparison),
        "Measures": table(figures_table(comparison), "judged"),
        "What the figures mean": _meanings(kind),
        "Rate and distortion": rate_distortion(runs, comparison),
        "Training": curves(runs),
        "Alarms": alarm_list(runs),
        "KL per latent dimension": kl_per_dimension(runs),
        **kind.sections(runs),
        "Notes": items([f'<li dir="auto">{escape(note)}</li>' for note in notes]) if notes else "",
    }
    content = page(title, _lead(kind, runs), {name: body for name, body in sections.items() if body})
    # A run's name may come from a file name that is not UTF-8, whose bytes Python keeps as lone surrogates.
    write_atomically(path, content.encode(errors="replace"))


def _lead(kind: AnyKind, runs: Sequence[RunReport[Any]]) -> str:
    one = runs[0].measures
    where = {(run.measures.num_examples, run.measures.split) for run in runs}
    judged = "; that of ".join(f"<b>{name_of(run.name)}</b> is <b>{escape(run.measures.verdict)}</b>" for run in runs)
    on = f"On {one.num_examples:,} {kind.examples} of the {escape(one.split)} split, the" if len(where) == 1 else "The"
    return f"{on} latent variable of {judged}."


def _verdict(kind: AnyKind, run: RunReport[Any]) -> str:
    split = [reason.partition(": ") for reason in run.measures.verdict_reasons]
    reasons = [f"<li><b>{escape(answer)}</b>{colon}{escape(claim)}</li>" for answer, colon, claim in split]
    means = VERDICTS[run.measures.verdict].format(examples=kind.examples)
    trained = "Measured" if run.seconds is None else f"Trained in {run.seconds / 60:,.1f} minutes; measured"
    return (
        f'<p class="verdict">{escape(run.measures.verdict)}</p>\n<p>{means}</p>\n'
        f'{items(reasons)}\n<p class="quiet">{trained} at {escape(run.measures.checkpoint)}.</p>'
    )


def _differences(comparison: Comparison) -> str:
    """Flags first, then what differs in the figures and in the recipes. Nothing where there is one recipe alone."""
    flagged = [f'<p class="flag" dir="auto">{escape(flag)}</p>' for flag in flags(comparison)]
    tables = [table(one) for one in (differences_table(comparison), settings_table(comparison)) if one is not None]
    if not flagged and not tables:
        return ""
    return "\n".join([*flagged, *tables, *(f'<p class="quiet">{remark}</p>' for remark in remarks(comparison))])


def _meanings(kind: AnyKind) -> str:
    filled = {name: text.format(example=kind.example, examples=kind.examples) for name, text in MEANINGS.items()}
    listed = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in {**filled, **kind.meanings}.items())
    return "<dl>\n" + "\n".join(listed) + "\n</dl>"
