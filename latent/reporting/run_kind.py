"""A kind of run, of sentences or of images: what its side supplies, so that runs are compared and shown by one code."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter
from torch import Tensor

from latent.measures import Estimate, Measured, MeasuresT, exponential, ratio_estimate
from latent.reporting.run_report import ContentT, RunReport
from latent.reporting.tables import Rows
from latent.training import ConfigError, Recipe, Run, Side

BY_EXAMPLE = ("nll", "elbo", "reconstruction", "kl")  # means of what `SplitMeasured` knows of each example


@runtime_checkable
class ByName(Protocol):
    """A corpus, read."""

    def by_name(self) -> Mapping[str, Sized]:
        """Its splits."""


@runtime_checkable
class Opened(Protocol):
    """A trained run, opened for use."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was passed over in opening it."""

    @property
    def splits(self) -> ByName:
        """Its corpus."""


TrainedT = TypeVar("TrainedT", bound=Opened)


@dataclass(frozen=True)
class Row:
    """How a figure is shown: its label, its digits, and the sign of what is better shown the other way up."""

    label: str
    digits: int = 2
    sign: int = 1


NLL_FIGURE = {"nll": Row("NLL (importance weighted)")}
BOUND_FIGURES = {
    "elbo": Row("−ELBO", sign=-1),
    "reconstruction": Row("reconstruction"),
    "kl": Row("KL"),
    "mutual_information": Row("mutual information"),
    "active_units": Row("active units", 0),
    "shuffled_gain": Row("shuffled-z gain"),
    "effective_sample_size": Row("effective sample size", 1),
}


@dataclass(frozen=True, kw_only=True)
class GeometricMean:
    r"""A figure \(\exp(\sum_i a_i / \sum_i b_i)\) of two columns over the examples, as a perplexity is.

    Two of them differ by a quotient, which has a name and a row of its own; b is the same for both.
    """

    name: str
    numerator: str
    denominator: str
    quotient: str
    quotient_row: Row

    def pooled(self, columns: Mapping[str, Float[Tensor, " N"]]) -> Estimate:
        """The figure, with its interval over the examples."""
        return exponential(ratio_estimate(columns[self.numerator], columns[self.denominator]))

    def quotient_of(
        self, columns: Mapping[str, Float[Tensor, " N"]], baseline: Mapping[str, Float[Tensor, " N"]]
    ) -> Estimate:
        """The figure over the baseline's, paired over the examples."""
        difference = columns[self.numerator] - baseline[self.numerator]
        return exponential(ratio_estimate(difference, columns[self.denominator]))


@dataclass(frozen=True, kw_only=True)
class RunKind(Generic[TrainedT, MeasuresT, ContentT]):
    """What the runs of a side are measured by, when two of them may be compared, and what their report shows.

    - `examples`: what they are trained on, in the plural.
    - `rows`: each figure that is shown, by its name in `measures`. Those `by_example` are means of the columns of that
      name and are compared in pairs; `geometric` ones are made of columns; all others belong to the whole split, of
      which the `paired` ones have columns with their value as the mean, for their differences alone.
    - `rows_of_some`: figures that some runs have and others do not, and `of_some`: those that measures hold, by name.
      They too are means of columns and are compared in pairs, of runs that both have them.
    - `of_likelihood`: the figures that rest on a likelihood, and `unlike`: why two runs' likelihoods are not of the
      same thing, so that these figures may not be subtracted, others though they may.
    - `facts`: what else the measures say of the way in which they were found, and `meanings` what the figures that the
      side has of its own mean.
    - `problem`: what is wrong with measures and columns that do not belong together, if anything.
    - `reasons`: why the examples, or what is said of them, are not the same, given the settings of the corpus that
      differ: nothing where the figures may be compared.
    - `describe`: a run under a name, made to speak; `sections`: what the report shows of that, as HTML, by title.
    """

    side: Side[Any]
    examples: str
    measures: type[MeasuresT]
    rows: Mapping[str, Row]
    by_example: tuple[str, ...]
    geometric: tuple[GeometricMean, ...] = ()
    paired: tuple[str, ...] = ()
    rows_of_some: Mapping[str, Row] = field(default_factory=dict)
    of_some: Callable[[MeasuresT], Mapping[str, Estimate]] = lambda measures: {}
    of_likelihood: tuple[str, ...] = ()
    unlike: Callable[[MeasuresT, MeasuresT], tuple[str, ...]] = lambda one, other: ()
    facts: Rows[MeasuresT]
    meanings: Mapping[str, str]
    problem: Callable[[MeasuresT, Mapping[str, Float[np.ndarray, " N"]]], str | None]
    reasons: Callable[[MeasuresT, MeasuresT, Mapping[str, tuple[str, ...]]], tuple[str, ...]]
    open_run: Callable[..., TrainedT]
    measure: Callable[..., Measured[MeasuresT]]
    describe: Callable[[TrainedT, str, MeasuresT], RunReport[ContentT]]
    sections: Callable[[Sequence[RunReport[ContentT]]], Mapping[str, str]]

    @cached_property
    def parse(self) -> Callable[..., MeasuresT]:
        """The measures that a JSON text holds, and nothing that is not of their shape."""
        return TypeAdapter(self.measures).validate_json

    @property
    def example(self) -> str:
        """One of them."""
        return self.examples.removesuffix("s")

    @property
    def columns(self) -> tuple[str, ...]:
        """What is known of each example."""
        behind = [name for one in self.geometric for name in (one.numerator, one.denominator)]
        return tuple(dict.fromkeys((*self.differenced, *behind)))

    @property
    def differenced(self) -> tuple[str, ...]:
        """The figures whose differences are means over the examples."""
        return (*self.by_example, *self.paired)

    def figure(self, measures: MeasuresT, name: str) -> Estimate:
        """The figure of that name, one that all runs have or one of some."""
        found: Estimate = self.of_some(measures)[name] if name in self.rows_of_some else getattr(measures, name)
        return found

    @property
    def of_the_whole(self) -> tuple[str, ...]:
        """The figures that belong to the whole split."""
        others = {*self.by_example, *(one.name for one in self.geometric)}
        return tuple(name for name in self.rows if name not in others)


AnyKind = RunKind[Any, Any, Any]


@dataclass(frozen=True)
class MeasuredRun:
    """A run under the name that it has in a comparison, with its measures."""

    kind: AnyKind
    name: str
    run: Run
    recipe: Recipe[Any, Any, Any]
    measured: Measured[Any]

    @property
    def figures(self) -> Any:
        """The run's figures of the split: the kind's `measures`."""
        return self.measured.figures


def one_side(found: Sequence[tuple[Run, Side[Any]]]) -> Side[Any]:
    """The side of all the runs. Raises ConfigError where they are of several: their figures have nothing in common."""
    first_run, first = found[0]
    for run, side in found:
        if side.name != first.name:
            raise ConfigError(
                f"{first_run.path} is a run of the {first.name} side and {run.path} one of the {side.name} side; "
                "compare the runs of each side by themselves"
            )
    return first
