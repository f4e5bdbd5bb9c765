"""A comparison as tables, lines, JSON and CSV."""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from latent.measures import Estimate
from latent.reporting.comparability import differing_settings
from latent.reporting.comparison import Comparison, Difference
from latent.reporting.pooling import Figure, Group, SeedSpread
from latent.reporting.run_kind import Row
from latent.reporting.tables import TextTable, negated, rounded, shown, table_lines

OVER_SEEDS = (
    "over seeds: standard deviation, least and greatest figure of the seeds, and Student's 95 % interval of their mean "
    "(Welch's for a difference)."
)
SPREAD_LABEL = "  over seeds"
NO_FIGURE = "–"

CSV_HEAD = (
    "group", "figure", "value", "low", "high",
    "num_seeds", "seeds_sd", "seeds_minimum", "seeds_maximum", "seeds_low", "seeds_high",
    "baseline", "difference", "difference_low", "difference_high", "difference_seeds_low", "difference_seeds_high",
    "not_comparable",
)  # fmt: skip


def figures_table(found: Comparison) -> TextTable:
    """Every figure of every group, with what it was measured on."""
    groups = found.groups
    rows: list[tuple[str, ...]] = [("verdict", *(_verdicts(group) for group in groups))]
    for name, row in {**found.kind.rows, **_rows_of_some(found)}.items():
        figures = [group.figures.get(name) for group in groups]
        rows.append((row.label, *(_estimate(figure.estimate, row) if figure else NO_FIGURE for figure in figures)))
        spreads = [figure.over_seeds for figure in figures if figure]
        if any(spread is not None and spread.sd != 0 for spread in spreads):
            rows.append((SPREAD_LABEL, *(_spread(figure, row) if figure else "" for figure in figures)))
    title = f"nats per {found.kind.example}; 95 % intervals over the {found.kind.examples}"
    return TextTable(title, ("", *_names(found)), (*rows, *_basis_rows(found)))


def _rows_of_some(found: Comparison) -> dict[str, Row]:
    """Of the figures that not every run has those that a group has."""
    held = {name for group in found.groups for name in group.of_some}
    return {name: row for name, row in found.kind.rows_of_some.items() if name in held}


def _verdicts(group: Group) -> str:
    verdicts = [run.figures.verdict for run in group.runs]
    counted = {verdict: verdicts.count(verdict) for verdict in verdicts}
    return ", ".join(name if len(counted) == 1 else f"{name} ({count})" for name, count in counted.items())


def _basis_rows(found: Comparison) -> list[tuple[str, ...]]:
    """What the figures were measured on, and how."""
    cells: dict[str, Callable[[Group], str]] = {
        "most that MI can be, log N": lambda group: f"{group.runs[0].figures.mutual_information_ceiling:.2f}",
        "latent dimensions": lambda group: str(len(group.runs[0].figures.kl_per_dimension) or "–"),
        "split": lambda group: group.runs[0].figures.split,
        found.kind.examples: lambda group: f"{group.runs[0].figures.num_examples:,}",
        "K, importance samples": lambda group: f"{group.runs[0].figures.num_samples:,}",
        "seed of the measuring": lambda group: ", ".join(dict.fromkeys(str(run.figures.seed) for run in group.runs)),
        "checkpoint": lambda group: ", ".join(dict.fromkeys(run.figures.checkpoint for run in group.runs)),
    }
    facts = [
        (name, *(cell(group.runs[0].figures) for group in found.groups)) for name, cell in found.kind.facts.items()
    ]
    return [*((name, *(cell(group) for group in found.groups)) for name, cell in cells.items()), *facts]


def differences_table(found: Comparison) -> TextTable | None:
    """Every group less the baseline; None where there is nothing to compare it with."""
    comparable = [one for one in found.differences if not one.reasons]
    if not comparable:
        return None
    rows: list[tuple[str, ...]] = []
    quotients = {one.quotient: one.quotient_row for one in found.kind.geometric}
    paired = {name: row for name, row in found.kind.rows.items() if name in found.kind.differenced}
    for name, row in (paired | quotients | _rows_of_some(found)).items():
        nothing = 1.0 if name in quotients else 0.0
        estimates = (one.estimates.get(name) for one in comparable)
        rows.append((row.label, *(_difference(one, nothing, row) if one else NO_FIGURE for one in estimates)))
        if any(one.over_seeds for one in comparable):
            over_seeds = (one.over_seeds.get(name) for one in comparable)
            rows.append((SPREAD_LABEL, *(_difference(one, nothing, row) if one else "" for one in over_seeds)))
    num_examples = found.runs[0].figures.num_examples
    title = f"differences from {found.groups[0].name}, paired over the same {num_examples:,} {found.kind.examples}"
    return TextTable(title, ("", *(one.group.name for one in comparable)), tuple(rows))


def settings_table(found: Comparison) -> TextTable | None:
    """In what the recipes differ, seeds aside; None where they do not."""
    changed = differing_settings([group.runs[0].recipe for group in found.groups])
    rows = [(key, *values) for key, values in changed.items() if key != "train.seed"]
    return TextTable("settings that differ", ("", *_names(found)), tuple(rows)) if rows else None


def flags(found: Comparison) -> list[str]:
    """A line for each group that may not be compared with the baseline, all of it or its likelihood, and why."""
    return [
        f"{'' if one.reasons else 'the likelihood of '}{one.group.name} may not be compared with "
        f"{'' if one.reasons else 'that of '}{one.baseline.name}: {'; '.join(one.reasons or one.withheld)}"
        for one in found.differences
        if one.reasons or one.withheld
    ]


def remarks(found: Comparison) -> tuple[str, ...]:
    """What the tables' marks and intervals mean."""
    quotients = "".join(f", for the {one.quotient_row.label} 1" for one in found.kind.geometric)
    lines = (
        f"± is the 95 % interval over the {found.kind.examples}: it speaks of these trained models, not of another "
        "training's luck.",
        f"* marks a difference whose interval excludes no difference (0{quotients}).",
    )
    return (*lines, OVER_SEEDS) if any(len(group.runs) > 1 for group in found.groups) else lines


def comparison_lines(found: Comparison) -> list[str]:
    """All of it for the terminal."""
    lines: list[str] = []
    for table in (settings_table(found), figures_table(found), differences_table(found)):
        if table is not None:
            lines += [*table_lines(table), ""]
    return [*lines, *(f"! {flag}" for flag in flags(found)), *remarks(found)]


def as_dict(found: Comparison) -> dict[str, Any]:
    """JSON's view: groups with their runs and figures, then differences, each with its reasons where there is none."""
    return {
        "baseline": found.groups[0].name,
        "groups": [
            {
                "name": group.name,
                "seeds": list(group.seeds),
                "figures": {
                    name: {**asdict(figure.estimate), "over_seeds": figure.over_seeds and asdict(figure.over_seeds)}
                    for name, figure in group.figures.items()
                },
                "runs": [
                    {"name": run.name, "path": str(run.run.path), "measures": run.figures.as_dict()}
                    for run in group.runs
                ],
            }
            for group in found.groups
        ],
        "differences": [
            {
                "group": one.group.name,
                "baseline": one.baseline.name,
                "comparable": not one.reasons,
                "reasons": list(one.reasons),
                "withheld": list(one.withheld),
                "estimates": {name: asdict(estimate) for name, estimate in one.estimates.items()},
                "over_seeds": {name: asdict(estimate) for name, estimate in one.over_seeds.items()},
            }
            for one in found.differences
        ],
    }


def csv_text(found: Comparison) -> str:
    """A row for each group and figure, its difference from the baseline beside it where there is one."""
    written = io.StringIO()
    writer = csv.DictWriter(written, CSV_HEAD, lineterminator="\n")
    writer.writeheader()
    differences: dict[int, Difference] = {id(one.group): one for one in found.differences}
    for group in found.groups:
        difference = differences.get(id(group))
        for name in (*group.figures, *(one.quotient for one in found.kind.geometric)):
            row: dict[str, object] = {"group": group.name, "figure": name}
            if name in group.figures:
                row |= asdict(group.figures[name].estimate) | _spread_columns(group.figures[name].over_seeds)
            if difference is not None:
                row |= _difference_columns(difference, name, name in found.kind.of_likelihood)
            writer.writerow(row)
    return written.getvalue()


def _spread_columns(spread: SeedSpread | None) -> dict[str, object]:
    if spread is None:
        return {"num_seeds": 1}
    columns = asdict(spread)
    return {"num_seeds": columns.pop("num_seeds"), **{f"seeds_{name}": value for name, value in columns.items()}}


def _difference_columns(one: Difference, name: str, of_likelihood: bool) -> dict[str, object]:
    reasons = one.reasons or (one.withheld if of_likelihood else ())
    columns: dict[str, object] = {"baseline": one.baseline.name, "not_comparable": "; ".join(reasons)}
    if name in one.estimates:
        estimate = one.estimates[name]
        columns |= {"difference": estimate.value, "difference_low": estimate.low, "difference_high": estimate.high}
    if name in one.over_seeds:
        over_seeds = one.over_seeds[name]
        columns |= {"difference_seeds_low": over_seeds.low, "difference_seeds_high": over_seeds.high}
    return columns


def _names(found: Comparison) -> tuple[str, ...]:
    return tuple(group.name for group in found.groups)


def _estimate(estimate: Estimate, row: Row) -> str:
    return shown(negated(estimate) if row.sign < 0 else estimate, row.digits)


def _difference(estimate: Estimate, nothing: float, row: Row) -> str:
    is_clear = estimate.low > nothing or estimate.high < nothing
    return _estimate(estimate, row) + (" *" if is_clear else "")


def _spread(figure: Figure, row: Row) -> str:
    """`sd 0.31, 60.71 to 61.38, mean 60.2 to 61.9`: the spread, and where the mean over all seeds may lie."""
    spread = figure.over_seeds
    if spread is None:
        return ""
    ends = (spread.minimum, spread.maximum, spread.low, spread.high)
    digits = max(row.digits, 1)
    if row.sign < 0:
        ends = (-spread.maximum, -spread.minimum, -spread.high, -spread.low)
    least, greatest, low, high = (rounded(end, digits) for end in ends)
    return f"sd {spread.sd:,.{digits}f}, {least} to {greatest}, mean {low} to {high}"
