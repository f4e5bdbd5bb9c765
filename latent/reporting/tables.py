"""Tables for the terminal and the report: rows of a name and a text for each run."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from latent.measures import BoundMeasures, Estimate, MeasuresT, RefinedFigures

Rows = Mapping[str, Callable[[MeasuresT], str]]  # a name, and what is shown of a run, if anything


@dataclass(frozen=True)
class TextTable:
    """A title, column heads and rows, all text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def shown(estimate: Estimate, digits: int = 2) -> str:
    """A figure with half the width of its interval, or with its ends where they lie unevenly."""
    if math.isnan(estimate.low):
        return "undefined"
    value, low, high = (rounded(x, digits) for x in (estimate.value, estimate.low, estimate.high))
    if estimate.low == estimate.high:
        return value
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    if abs(above - below) < 10**-digits:
        return f"{value} ± {above:,.{digits}f}"
    return f"{value} [{low}, {high}]"


def rounded(number: float, digits: int) -> str:
    """A number to so many decimals; what rounds to nothing has no sign."""
    return f"{number:z,.{digits}f}"


def measures_table(measures: Mapping[str, MeasuresT], rows: Rows[MeasuresT], examples: str) -> TextTable:
    """Runs side by side. All of them were measured on the same split, of `examples`, with the same settings."""
    one = next(iter(measures.values()))
    title = (
        f"{one.num_examples:,} {examples} of {one.split}, 95 % intervals; nats per {examples.removesuffix('s')}; "
        f"K = {one.num_samples}, seed {one.seed}"
    )
    cells = [(name, *(cell(m) for m in measures.values())) for name, cell in rows.items()]
    return TextTable(title, ("", *measures), tuple(row for row in cells if any(row[1:])))


NLL_ROWS: Rows[Any] = {
    "verdict": lambda m: m.verdict,
    "NLL (importance weighted)": lambda m: shown(m.nll),
    "  at K": lambda m: ", ".join(f"{k}: {nll.value:.2f}" for k, nll in m.nll_ladder.items()),
    "  would still fall by about": lambda m: _bias(m),
    "  precision of its products": lambda m: _rounding(m),
    "  effective sample size": lambda m: f"{shown(m.effective_sample_size, 1)} of {m.total_draws / m.num_examples:.0f}",
}
BOUND_ROWS: Rows[Any] = {
    "−ELBO": lambda m: shown(negated(m.elbo)),
    "reconstruction": lambda m: shown(m.reconstruction),
    "KL": lambda m: shown(m.kl),
    "  5 %, median, 95 % of examples": lambda m: ", ".join(
        f"{m.kl_quantiles[share].value:.2f}" for share in ("0.05", "0.5", "0.95") if share in m.kl_quantiles
    ),
    "mutual information": lambda m: f"{shown(m.mutual_information)} (at most {m.mutual_information_ceiling:.2f})",
    "KL of all posteriors together": lambda m: shown(m.marginal_kl),
    "active units": lambda m: shown(m.active_units, 0),
    "  at 0.001, at 0.1": lambda m: f"{m.active_units_at_0_001}, {m.active_units_at_0_1}",
    "latent dimensions": lambda m: f"{len(m.kl_per_dimension) or ''}",
    "prior-z gain": lambda m: shown(m.prior_gain),
    "shuffled-z gain": lambda m: shown(m.shuffled_gain),
}


OF_BOUND = (*(name for name in NLL_ROWS if name != "verdict"), "−ELBO")  # what a loss that is none does not have


def unless_lacking(rows: Rows[MeasuresT], lacking: Callable[[MeasuresT], Collection[str]]) -> Rows[MeasuresT]:
    """The same rows, empty for a run that lacks what they say."""

    def unless(name: str, cell: Callable[[MeasuresT], str]) -> Callable[[MeasuresT], str]:
        return lambda measures: "" if name in lacking(measures) else cell(measures)

    return {name: unless(name, cell) for name, cell in rows.items()}


def of_refined(cell: Callable[[RefinedFigures], str]) -> Callable[[Any], str]:
    """The cell for runs that were measured with refined posteriors too; empty for the others."""
    return lambda m: cell(m.refined) if m.refined else ""


REFINED_ROWS: Rows[Any] = {
    "with q refined for each example by": of_refined(
        lambda r: f"{r.steps} steps of {r.optimizer}, {r.learning_rate:g} falling to 0, {r.num_draws} draws a step"
    ),
    "  from": of_refined(lambda r: "the encoder's q" if r.start == "posterior" else "N(0, I), without the encoder"),
    "  refined −ELBO": of_refined(lambda r: shown(negated(r.elbo))),
    "    lower by": of_refined(lambda r: shown(r.elbo_gain, 3)),
    "  refined KL": of_refined(lambda r: shown(r.kl)),
    "  NLL, refined q its proposal": of_refined(lambda r: shown(r.nll)),
    "    that is lower by": of_refined(lambda r: shown(r.nll_gain, 3)),
    "    refined effective sample size": of_refined(lambda r: shown(r.effective_sample_size, 1)),
}


def negated(estimate: Estimate) -> Estimate:
    """The same figure the other way up."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _bias(measures: BoundMeasures) -> str:
    """How far the importance-weighted NLL is from its limit, by its own estimate."""
    if measures.nll_bias is None:
        return "unknown: too few draws"
    return f"{measures.nll_bias:.2f} nats{'' if measures.nll_has_converged else ' (not converged: raise --samples)'}"


def _rounding(measures: BoundMeasures) -> str:
    """How the weights were computed, and what that does to the NLL."""
    off = f", {measures.nll_rounding:.3f} nats from fp32" if measures.nll_precision != "fp32" else ""
    return f"{measures.nll_precision}{off}"


def table_lines(table: TextTable) -> list[str]:
    """The table in lines, as wide as its texts."""
    widths = [max(map(len, column)) for column in zip(table.heads, *table.rows, strict=True)]
    head, *rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (table.heads, *table.rows)
    ]
    return [table.title, "", head, "─" * (sum(widths) + 2 * len(widths) - 2), *rows]


def verdict_lines(measures: BoundMeasures) -> list[str]:
    """The verdict's reasons, and what to try."""
    return [*measures.verdict_reasons, *(f"try: {advice}" for advice in measures.verdict_advice)]
