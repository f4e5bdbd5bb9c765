"""`textvae gaps`: the inference gaps of a split's examples, kept in the run batch by batch: a stop costs one."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from latent.bound import Batch, BatchT, LatentModel
from latent.measures import Estimate, mean_estimate
from latent.measures.annealing import LOWEST_ACCEPTANCE
from latent.measures.gaps import Gaps, GapSettings, inference_gaps
from latent.reporting.tables import TextTable, shown, table_lines
from latent.training import Run, RunError
from latent.training.console import Shown
from latent.training.files import read_json

Simulate = Callable[..., Any]


def progress(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr, flush=True)


def measure_gaps(
    run: Run,
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    device: torch.device,
    settings: GapSettings,
    described: dict[str, Any],
    simulate: Simulate | None,
    say: Callable[[str], None],
) -> Shown:
    """The gaps of all batches' examples, those that the run's folder has already taken from there.

    `described` names split, examples and checkpoint: with the settings it says what the stored ones are of. Raises
    ValueError for a model whose bound is no bound on log p(x), RunError for a damaged file.
    """
    asked = {**described, **asdict(settings)}
    found = _stored(run, asked)
    for number, batch in enumerate(batches):
        if found is None or len(found.optimal) <= _first_of(batches, number):
            of_batch = replace(settings, seed=settings.seed + number)
            here = inference_gaps(model, batch.to(device), of_batch, simulate)
            found = here if found is None else found.joined(here)
            run.write(_name(asked), json.dumps({"asked": asked, "gaps": _as_lists(found)}, indent=1) + "\n")
            say(f"{len(found.optimal)} of {sum(len(each) for each in batches)} examples")
    assert found is not None  # a split has a batch
    return Shown(_as_dict(found, asked), _lines(run.name, found, asked))


def _first_of(batches: Sequence[Batch], number: int) -> int:
    return sum(len(batch) for batch in batches[:number])


def _name(asked: dict[str, Any]) -> str:
    return f"measures/gaps-{asked['split']}.json"


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


def _figures(found: Gaps) -> dict[str, Estimate]:
    names = ("log_marginal", "optimal", "amortised", "approximation", "amortisation", "weighted", "annealed")
    return {name: mean_estimate(getattr(found, name)) for name in (*names, "simulated_lower", "simulated_upper")}


def _as_dict(found: Gaps, asked: dict[str, Any]) -> dict[str, Any]:
    figures = {name: asdict(one) for name, one in _figures(found).items() if one.value == one.value}
    collapsed = int((found.acceptance < LOWEST_ACCEPTANCE).sum())
    return {**asked, **figures, "acceptance": found.acceptance.mean().item(), "chains_collapsed": collapsed}


def _lines(name: str, found: Gaps, asked: dict[str, Any]) -> list[str]:
    """The table, and what is to be said of its figures."""
    figures = _figures(found)
    by = "annealed importance sampling" if figures["log_marginal"] == figures["annealed"] else "importance weighting"
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
    title = (
        f"{name}: {len(found.optimal):,} examples of {asked['split']}, {asked['checkpoint']}; nats, 95 % intervals "
        f"over examples; K = {asked['num_samples']}, {asked['num_chains']} chains of {asked['num_temperatures']} "
        f"temperatures, seed {asked['seed']}"
    )
    lines = table_lines(TextTable(title, ("", "mean"), tuple(rows)))
    num_collapsed = int((found.acceptance < LOWEST_ACCEPTANCE).sum())
    lines.append(f"proposals accepted: {found.acceptance.mean():.0%}")
    if num_collapsed:
        lines.append(
            f"! of {num_collapsed} examples fewer than {LOWEST_ACCEPTANCE:.0%} were: there annealing says nothing; "
            "ask for more temperatures"
        )
    return lines
