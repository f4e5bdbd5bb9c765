"""Several seeds of one recipe as one: pooled figures, and their spread over the seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from latent.measures import UNDEFINED, Estimate, mean_estimate, student_quantile
from latent.reporting.comparability import reasons_against
from latent.reporting.run_kind import AnyKind, MeasuredRun


@dataclass(frozen=True)
class SeedSpread:
    """How a figure varies with the training's seed; `low` and `high` are the 95 % t-interval of its mean over seeds."""

    num_seeds: int
    sd: float
    minimum: float
    maximum: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """A figure of a group: its mean over the seeds, the interval over the examples, and the spread over the seeds."""

    estimate: Estimate
    over_seeds: SeedSpread | None  # of two seeds or more


@dataclass(frozen=True)
class Group:
    """The runs of one recipe that differ in their seed alone and were measured on the same examples; often just one.

    Every figure is a mean over its runs; those of the kind that are geometric means remain so.
    """

    runs: tuple[MeasuredRun, ...]

    @property
    def name(self) -> str:
        """The run's name, with all the seeds if there are several."""
        if len(self.runs) == 1:
            return self.runs[0].name
        return f"{self.runs[0].name} (seeds {', '.join(map(str, self.seeds))})"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run's training."""
        return tuple(run.recipe.train.seed for run in self.runs)

    @property
    def kind(self) -> AnyKind:
        """Of what the runs are."""
        return self.runs[0].kind

    @cached_property
    def per_example(self) -> dict[str, Float[Tensor, " N"]]:
        """What stands behind the figures for each example, as a mean over the runs."""
        columns, names = [run.measured.per_example for run in self.runs], (*self.kind.columns, *self.of_some)
        return {name: torch.stack([one[name].double() for one in columns]).mean(0) for name in names}

    @property
    def of_some(self) -> tuple[str, ...]:
        """The figures that not every run has, of those that these runs do."""
        held = [self.kind.of_some(run.figures) for run in self.runs]
        return tuple(name for name in self.kind.rows_of_some if all(name in one for one in held))

    def values(self, name: str) -> list[float]:
        """The figure `name` of each run."""
        return [self.kind.figure(run.figures, name).value for run in self.runs]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its name in the kind's measures."""
        pooled = {name: mean_estimate(self.per_example[name]) for name in (*self.kind.by_example, *self.of_some)}
        defined = [one for one in self.kind.geometric if not any(map(math.isnan, self.values(one.name)))]
        pooled |= {one.name: UNDEFINED for one in self.kind.geometric}
        pooled |= {one.name: one.pooled(self.per_example) for one in defined}
        pooled |= {name: self._mean_of_ends(name) for name in self.kind.of_the_whole}
        geometric = {one.name for one in self.kind.geometric}
        return {name: Figure(pooled[name], self._spread(name, name in geometric)) for name in pooled}

    def _mean_of_ends(self, name: str) -> Estimate:
        """The pooled figure where the examples behind it are not known.

        The error of a mean is at most the mean of the errors (Minkowski), so the interval is at most too wide.
        """
        found: list[Estimate] = [getattr(run.figures, name) for run in self.runs]
        ends = [[one.value, one.low, one.high] for one in found]
        return Estimate(*(sum(column) / len(ends) for column in zip(*ends, strict=True)))

    def _spread(self, name: str, is_geometric: bool) -> SeedSpread | None:
        values = self.values(name)
        if len(values) < 2 or any(map(math.isnan, values)):
            return None
        if is_geometric:
            low, high = map(math.exp, mean_over_seeds([math.log(value) for value in values]))
        else:
            low, high = mean_over_seeds(values)
        return SeedSpread(len(values), sd(values), min(values), max(values), low, high)


def group_runs(runs: Sequence[MeasuredRun]) -> tuple[Group, ...]:
    """The runs in groups, each in the place of its first run. A second run of one recipe and one seed is no further
    seed but a repetition, and stands by itself."""
    groups: list[list[MeasuredRun]] = []
    for run in runs:
        fitting = [group for group in groups if _is_further_seed(run, group)]
        if fitting:
            fitting[0].append(run)
        else:
            groups.append([run])
    return tuple(Group(tuple(members)) for members in groups)


def _is_further_seed(run: MeasuredRun, group: Sequence[MeasuredRun]) -> bool:
    """Whether the run is of the group's recipe, by a seed that is not in it, and may be compared with it."""
    ours, theirs = (replace(one.recipe, train=replace(one.recipe.train, seed=0)) for one in (run, group[0]))
    seeds = {other.recipe.train.seed for other in group}
    return repr(ours) == repr(theirs) and run.recipe.train.seed not in seeds and not reasons_against(run, group[0])


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float]:
    r"""The ends of Student's interval, \(\bar v \pm t_{0.975, S-1}\, s / \sqrt S\), for two seeds or more."""
    half = student_quantile(len(values) - 1) * sd(values) / math.sqrt(len(values))
    mean = sum(values) / len(values)
    return mean - half, mean + half


def difference_over_seeds(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    r"""The difference of two means over seeds with Welch's interval, for two seeds or more of each.

    \(\bar v - \bar b \pm t_\nu \sqrt{s_v^2 / S_v + s_b^2 / S_b}\). Reference: Welch 1947, "The generalization of
    'Student's' problem when several different population variances are involved".
    """
    difference = sum(values) / len(values) - sum(baseline) / len(baseline)
    errors = [(sd(side) ** 2 / len(side), len(side) - 1) for side in (values, baseline)]
    total = sum(error for error, _ in errors)
    if not total > 0:  # every seed gave the same, or one of them gave nothing finite
        return Estimate(difference, difference - total, difference + total)
    degrees = total**2 / sum(error**2 / freedom for error, freedom in errors)
    half = student_quantile(degrees) * math.sqrt(total)
    return Estimate(difference, difference - half, difference + half)


def sd(values: Sequence[float]) -> float:
    """The standard deviation over seeds, with S − 1 below; nan where a value is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
