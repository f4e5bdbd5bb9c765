"""`textvae compare`: runs side by side with paired differences, and a word where two may not be compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from latent.measures import BoundMeasures, Estimate, Measured, exponential, mean_estimate
from latent.reporting.comparability import reasons_against
from latent.reporting.pooling import Group, difference_over_seeds, group_runs
from latent.reporting.run_kind import AnyKind, MeasuredRun
from latent.reporting.stored_measures import load_measures, save_measures
from latent.training import Run


@dataclass(frozen=True)
class Difference:
    """A group less the baseline, by figure, or over it for a geometric mean. Empty, with `reasons`, if they do not
    compare; without the figures of a likelihood, and why these are `withheld`, if only those do not.

    `estimates` have the paired interval over the examples, `over_seeds` that of Welch where both have two seeds or
    more.
    """

    group: Group
    baseline: Group
    reasons: tuple[str, ...]
    withheld: tuple[str, ...]
    estimates: dict[str, Estimate]
    over_seeds: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs in the order in which they were given; the first is the baseline of all differences."""

    runs: tuple[MeasuredRun, ...]
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]

    @property
    def kind(self) -> AnyKind:
        """Of what the runs are."""
        return self.runs[0].kind


def compare_runs(
    kind: AnyKind,
    runs: Sequence[Run],
    *,
    split: str = "test",
    num_samples: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    say: Callable[[str], None],
) -> Comparison:
    """Compare runs by their stored measures of a split.

    A run without them is measured and keeps what was found; one with others than asked for by `num_samples`, `limit` or
    `seed` is measured and keeps those that it had. What is not asked for is as in the first run that has measures.
    Raises ValueError for no run, a run given twice and stored measures that are damaged.
    """
    if not runs:
        raise ValueError("nothing to compare: name one run or more")
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise ValueError(f"{run.path}: the run is given more than once; name each run once")
    recipes = [kind.side.load_recipe(run.config_path) for run in runs]
    options = {"num_samples": num_samples, "limit": limit, "seed": seed}
    asked = {name: value for name, value in options.items() if value is not None}
    stored = [load_measures(kind, run, split) for run in runs]
    pairs = zip(runs, stored, strict=True)
    kept = [one if one and _fits(kind, run, one.figures, asked) else None for run, one in pairs]
    settings = _settings_of(next((one.figures for one in kept if one), None)) | asked
    names = [run.name for run in runs]
    measured = []
    for run, recipe, before, found in zip(runs, recipes, stored, kept, strict=True):
        name = run.name if names.count(run.name) == 1 else str(run.path)
        if found is None:
            why = (
                "it has no measures yet" if before is None else "it keeps those that it has, and others were asked for"
            )
            say(f"measuring {name}: {why}")
            found = _measure(kind, run, split, settings, say)
            settings = _settings_of(found.figures) | asked
            if before is None:
                save_measures(run, found)
        measured.append(MeasuredRun(kind, name, run, recipe, found))
    return compare_measured(measured)


def _settings_of(figures: BoundMeasures | None) -> dict[str, int]:
    if figures is None:
        return {}
    return {"num_samples": figures.num_samples, "limit": figures.num_examples, "seed": figures.seed}


def _fits(kind: AnyKind, run: Run, figures: BoundMeasures, asked: Mapping[str, Any]) -> bool:
    """Whether the measures are what was asked for; a limit above the size of the split asks for all of it."""
    settings = _settings_of(figures)
    if asked.get("limit", 0) > figures.num_examples:
        settings["limit"] = max(asked["limit"], len(kind.open_run(run).splits.by_name()[figures.split]))
    return asked.items() <= settings.items()


def _measure(
    kind: AnyKind, run: Run, split: str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> Measured[Any]:
    trained = kind.open_run(run)
    for line in trained.warnings:
        say(f"warning: {line}")
    return kind.measure(trained, split, **settings)


def compare_measured(runs: Sequence[MeasuredRun]) -> Comparison:
    """Pool the seeds of each recipe and compare every group with the first."""
    groups = group_runs(runs)
    return Comparison(tuple(runs), groups, tuple(_difference(group, groups[0]) for group in groups[1:]))


def _difference(group: Group, baseline: Group) -> Difference:
    kind, ours, theirs = group.kind, group.per_example, baseline.per_example
    withheld = kind.unlike(group.runs[0].figures, baseline.runs[0].figures)
    left_out = kind.of_likelihood if withheld else ()
    of_both = [name for name in group.of_some if name in baseline.of_some]
    names = [name for name in (*kind.differenced, *of_both) if name not in left_out]
    geometric = [one for one in kind.geometric if one.name not in left_out]
    reasons = reasons_against(group.runs[0], baseline.runs[0]) or _not_finite(names, group, baseline)
    if reasons:
        return Difference(group, baseline, reasons, (), {}, {})
    estimates = {name: mean_estimate(ours[name] - theirs[name]) for name in names}
    estimates |= {one.quotient: one.quotient_of(ours, theirs) for one in geometric}
    over_seeds: dict[str, Estimate] = {}
    if min(len(group.runs), len(baseline.runs)) > 1:
        for name in names:
            over_seeds[name] = difference_over_seeds(group.values(name), baseline.values(name))
        for one in geometric:
            logs = ([math.log(value) for value in each.values(one.name)] for each in (group, baseline))
            over_seeds[one.quotient] = exponential(difference_over_seeds(*logs))
    return Difference(group, baseline, (), withheld, estimates, over_seeds)


def _not_finite(names: Sequence[str], *groups: Group) -> tuple[str, ...]:
    """An example to which a model gives no finite likelihood has no difference, and is not averaged away."""
    lost: list[str] = []
    for group in groups:
        columns = torch.stack([group.per_example[name] for name in names])
        infinite: Bool[Tensor, " N"] = ~columns.isfinite().all(0)
        if infinite.any():
            lost.append(f"{group.kind.examples} without finite figures in {group.name}: {int(infinite.sum()):,}")
    return tuple(lost)
