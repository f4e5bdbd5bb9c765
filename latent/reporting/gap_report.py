"""`textvae gaps`: the inference gaps of a split's examples, kept in the run batch by batch: a stop costs one."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch

from latent.bound import Batch, LatentModel
from latent.measures import Estimate, mean_estimate
from latent.measures.annealing import LOWEST_ACCEPTANCE
from latent.measures.gaps import Gaps, GapSettings, inference_gaps
from latent.reporting.tables import TextTable, shown, table_lines
from latent.training import Run, RunError
from latent.training.checkpoints import Checkpoint
from latent.training.console import Shown
from latent.training.files import read_json

Simulate = Callable[..., Any]


@runtime_checkable
class Opened(Protocol):
    """A trained run, opened for use."""

    @property
    def run(self) -> Run:
        """Its folder."""

    @property
    def model(self) -> LatentModel[Any]:
        """The model, with its weights."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Of which they are."""

    @property
    def device(self) -> torch.device:
        """Where they are."""


@dataclass(frozen=True)
class GapQuestion:
    """Of which examples the gaps are asked, and how much is spent on them.

    `examples` names those in the batches: with the settings it says what stored gaps are of. `simulate` draws x from
    p(x|z).
    """

    batches: Sequence[Batch]
    examples: Mapping[str, str]
    simulate: Simulate | None
    settings: GapSettings

    @classmethod
    def of(
        cls,
        batches: Sequence[Batch],
        examples: Mapping[str, str],
        simulate: Simulate | None,
        *,
        samples: int,
        steps: int,
        chains: int,
        temperatures: int,
        seed: int,
    ) -> "GapQuestion":
        """What the options of `gaps` ask."""
        settings = GapSettings(
            num_samples=samples, max_steps=steps, num_chains=chains, num_temperatures=temperatures, seed=seed
        )
        return cls(batches, examples, simulate, settings)

    def asked(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What gaps are of, and how they were found."""
        return {**self.examples, "checkpoint": checkpoint.path.name, **asdict(self.settings)}


def measure_gaps(trained: Opened, question: GapQuestion) -> Shown:
    """The gaps at the run's opened checkpoint, as figures and in lines. Raises as `find_gaps` does."""
    found, asked = find_gaps(trained, trained.checkpoint, question), question.asked(trained.checkpoint)
    return Shown(as_dict(found, asked), _lines(trained.run.name, found, asked))


def find_gaps(trained: Opened, checkpoint: Checkpoint, question: GapQuestion) -> Gaps:
    """The gaps of all batches' examples, those that the run's folder has already of this checkpoint taken from there.

    The model has that checkpoint's weights. Raises ValueError for a model without a z, RunError for a damaged file.
    """
    refuse_without_bound(trained, is_bound=trained.model.latent_size > 0)
    asked, batches, settings = question.asked(checkpoint), question.batches, question.settings
    run, found = trained.run, _stored(trained.run, asked)
    for number, batch in enumerate(batches):
        if found is None or len(found.optimal) <= _first_of(batches, number):
            of_batch = replace(settings, seed=settings.seed + number)
            here = inference_gaps(trained.model, batch.to(trained.device), of_batch, question.simulate)
            found = here if found is None else found.joined(here)
            run.write(_name(asked), json.dumps({"asked": asked, "gaps": _as_lists(found)}, indent=1) + "\n")
            done = f"{len(found.optimal)} of {sum(len(each) for each in batches)} examples, {checkpoint.path.name}"
            print(done, file=sys.stderr, flush=True)
    assert found is not None  # a split has a batch
    return found


def refuse_without_bound(trained: Opened, *, is_bound: bool) -> None:
    """Raise ValueError for a model whose bound is none on log p(x) by a z."""
    if not is_bound:
        raise ValueError(f"{trained.run.name}: gaps are of the bound on log p(x) by a z, and this model has none")


def _first_of(batches: Sequence[Batch], number: int) -> int:
    return sum(len(batch) for batch in batches[:number])


def _name(asked: dict[str, Any]) -> str:
    return f"measures/gaps-{asked['split']}-{asked['checkpoint']}.json"


def _stored(run: Run, asked: dict[str, Any]) -> Gaps | None:
    """What the run has of the same examples by the same settings, if anything."""
    path = run.path / _name(asked)
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        if content["asked"] != asked:
            return None
        columns = [torch.tensor(content["gaps"][each.name], dtype=torch.float64) for each in fields(Gaps)]
        if len({column.shape for column in columns}) != 1 or columns[0].dim() != 1:
            raise ValueError("its columns differ in length")
        return Gaps(*columns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); remove it, and the gaps are found anew") from error


def _as_lists(found: Gaps) -> dict[str, list[float]]:
    return {each.name: getattr(found, each.name).tolist() for each in fields(Gaps)}


def gap_figures(found: Gaps) -> dict[str, Estimate]:
    """Means over the examples, by name."""
    names = ("log_marginal", "optimal", "amortised", "approximation", "amortisation", "weighted", "annealed")
    return {name: mean_estimate(getattr(found, name)) for name in (*names, "simulated_lower", "simulated_upper")}


def as_dict(found: Gaps, asked: dict[str, Any]) -> dict[str, Any]:
    """JSON's view of gaps, and of what they are."""
    figures = {name: asdict(one) for name, one in gap_figures(found).items() if one.value == one.value}
    collapsed = int((found.acceptance < LOWEST_ACCEPTANCE).sum())
    return {**asked, **figures, "acceptance": found.acceptance.mean().item(), "chains_collapsed": collapsed}


def tighter(found: Gaps) -> str:
    """What log p(x) is bounded by."""
    return "annealed importance sampling" if found.log_marginal is found.annealed else "importance weighting"


def title_of(name: str, found: Gaps, asked: dict[str, Any], checkpoints: str) -> str:
    """Of what the figures are."""
    return (
        f"{name}: {len(found.optimal):,} examples of {asked['split']}, {checkpoints}; nats, 95 % intervals "
        f"over examples; K = {asked['num_samples']}, {asked['num_chains']} chains of {asked['num_temperatures']} "
        f"temperatures, seed {asked['seed']}"
    )


def _lines(name: str, found: Gaps, asked: dict[str, Any]) -> list[str]:
    """The table, and what is to be said of its figures."""
    figures, by = gap_figures(found), tighter(found)
    rows = [
        (f"log p(x), by {by}", shown(figures["log_marginal"])),
        ("  by importance weighting", shown(figures["weighted"])),
        ("  by annealed importance sampling", shown(figures["annealed"])),
        ("L[q*], the best of the family for each example", shown(figures["optimal"])),
        ("L[q], the encoder's", shown(figures["amortised"])),
        ("approximation gap, log p(x) − L[q*]", shown(figures["approximation"])),
        ("amortisation gap, L[q*] − L[q]", shown(figures["amortisation"])),
    ]
    width = figures["simulated_upper"].value - figures["simulated_lower"].value
    if width == width:
        low, high = shown(figures["simulated_lower"]), shown(figures["simulated_upper"])
        rows.append(("simulated examples: log p(x) between", f"{low} and {high}, {width:.2f} apart"))
    lines = table_lines(TextTable(title_of(name, found, asked, asked["checkpoint"]), ("", "mean"), tuple(rows)))
    num_collapsed = int((found.acceptance < LOWEST_ACCEPTANCE).sum())
    lines.append(f"proposals accepted: {found.acceptance.mean():.0%}")
    if num_collapsed:
        lines.append(
            f"! of {num_collapsed} examples fewer than {LOWEST_ACCEPTANCE:.0%} were: there annealing says nothing; "
            "ask for more temperatures"
        )
    return lines
