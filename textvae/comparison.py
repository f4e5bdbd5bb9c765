"""`textvae compare`: runs side by side with paired differences, and a word where two may not be compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from latent.measures import Estimate, mean_estimate, ratio_estimate
from latent.training import Run
from textvae.measuring import Measured, Measures, measure, save_measures
from textvae.pooling import BY_SENTENCE, Group, MeasuredRun, difference_over_seeds, group_runs
from textvae.recipe import TextRecipe, load_recipe
from textvae.session import open_trained
from textvae.stored_measures import load_measures

PPL_RATIO = "ppl_ratio"


@dataclass(frozen=True)
class Difference:
    """A group less the baseline, by figure; `ppl_ratio` is a quotient. Empty, with `reasons`, if they do not compare.

    `estimates` have the paired interval over the sentences, `over_seeds` that of Welch where both have two seeds or
    more.
    """

    group: Group
    baseline: Group
    reasons: tuple[str, ...]
    estimates: dict[str, Estimate]
    over_seeds: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs in the order in which they were given; the first is the baseline of all differences."""

    runs: tuple[MeasuredRun, ...]
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]


def compare_runs(
    runs: Sequence[Run],
    *,
    split: str = "test",
    num_samples: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    say: Callable[[str], None],
) -> Comparison:
    """Compare runs by their stored measures of a split.

    A run without them, or with others than asked for by `num_samples`, `limit` or `seed`, is measured and keeps what
    was found. What is not asked for is as in the first run that has measures. Raises ValueError for no run, a run
    given twice and stored measures that are damaged.
    """
    if not runs:
        raise ValueError("nothing to compare: name one run or more")
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise ValueError(f"{run.path}: the run is given more than once; name each run once")
    recipes = [load_recipe(run.config_path) for run in runs]
    options = {"num_samples": num_samples, "limit": limit, "seed": seed}
    asked = {name: value for name, value in options.items() if value is not None}
    stored = [load_measures(run, split) for run in runs]
    kept = [one if one and _fits(run, one.figures, asked) else None for run, one in zip(runs, stored, strict=True)]
    settings = _settings_of(next((one.figures for one in kept if one), None)) | asked
    names = [run.name for run in runs]
    measured = []
    for run, recipe, before, found in zip(runs, recipes, stored, kept, strict=True):
        name = run.name if names.count(run.name) == 1 else str(run.path)
        if found is None:
            say(f"measuring {name}: {'it has no measures yet' if before is None else 'other ones were asked for'}")
            found = _measure(run, split, settings, say)
            settings = _settings_of(found.figures) | asked
        measured.append(MeasuredRun(name, run, recipe, found))
    return compare_measured(measured)


def _settings_of(figures: Measures | None) -> dict[str, int]:
    if figures is None:
        return {}
    return {"num_samples": figures.num_samples, "limit": figures.num_sentences, "seed": figures.seed}


def _fits(run: Run, figures: Measures, asked: Mapping[str, Any]) -> bool:
    """Whether the measures are what was asked for; a limit above the size of the split asks for all of it."""
    settings = _settings_of(figures)
    if asked.get("limit", 0) > figures.num_sentences:
        settings["limit"] = max(asked["limit"], len(open_trained(run).splits.by_name()[figures.split]))
    return asked.items() <= settings.items()


def _measure(run: Run, split: str, settings: Mapping[str, Any], say: Callable[[str], None]) -> Measured:
    trained = open_trained(run)
    for line in trained.warnings:
        say(f"warning: {line}")
    found = measure(trained, split, **settings)
    save_measures(run, found)
    return found


def compare_measured(runs: Sequence[MeasuredRun]) -> Comparison:
    """Pool the seeds of each recipe and compare every group with the first."""
    groups = group_runs(runs)
    return Comparison(tuple(runs), groups, tuple(_difference(group, groups[0]) for group in groups[1:]))


def _difference(group: Group, baseline: Group) -> Difference:
    reasons = reasons_against(group.runs[0], baseline.runs[0]) or _not_finite(group, baseline)
    if reasons:
        return Difference(group, baseline, reasons, {}, {})
    ours, theirs = group.per_sentence, baseline.per_sentence
    estimates = {name: mean_estimate(ours[name] - theirs[name]) for name in BY_SENTENCE}
    estimates[PPL_RATIO] = _exponential(ratio_estimate(ours["nll"] - theirs["nll"], ours["num_tokens"]))
    over_seeds = {}
    if min(len(group.runs), len(baseline.runs)) > 1:
        over_seeds = {name: difference_over_seeds(group.values(name), baseline.values(name)) for name in BY_SENTENCE}
        logs = ([math.log(value) for value in one.values("ppl")] for one in (group, baseline))
        over_seeds[PPL_RATIO] = _exponential(difference_over_seeds(*logs))
    return Difference(group, baseline, (), estimates, over_seeds)


def _exponential(estimate: Estimate) -> Estimate:
    return Estimate(math.exp(estimate.value), math.exp(estimate.low), math.exp(estimate.high))


def _not_finite(*groups: Group) -> tuple[str, ...]:
    """A sentence to which a model gives no finite likelihood has no difference, and is not averaged away."""
    lost: list[str] = []
    for group in groups:
        columns = torch.stack([group.per_sentence[name] for name in BY_SENTENCE])
        infinite: Bool[Tensor, " N"] = ~columns.isfinite().all(0)
        if infinite.any():
            lost.append(f"sentences without finite figures in {group.name}: {int(infinite.sum()):,}")
    return tuple(lost)


def reasons_against(run: MeasuredRun, baseline: MeasuredRun) -> tuple[str, ...]:
    """Why the figures of two runs may not be compared, in words: nothing where they may."""
    if run.basis == baseline.basis:
        return ()
    one, other = run.figures, baseline.figures
    reasons: list[str] = []
    if one.split != other.split:
        reasons.append(f"other split: {one.split} against {other.split}")
    if one.num_samples != other.num_samples:
        samples = f"K = {one.num_samples:,} against {other.num_samples:,}"
        reasons.append(f"other number of importance samples: {samples}; --samples measures both alike")
    changed = differing_settings([run.recipe, baseline.recipe], "corpus")
    tokenizer = {key: values for key, values in changed.items() if key.startswith("corpus.tokenizer.")}
    sizes = one.vocabulary_size.value, other.vocabulary_size.value
    if tokenizer or sizes[0] != sizes[1]:
        vocabulary = f"vocabulary {sizes[0]:,.0f} against {sizes[1]:,.0f}"
        reasons.append("; ".join(["other tokenisation", *_listed(tokenizer), vocabulary]))
    elif one.sentences_digest != other.sentences_digest:
        reasons.append(_other_sentences(one, other, changed))
    return tuple(reasons)


def _other_sentences(one: Measures, other: Measures, changed: Mapping[str, tuple[str, ...]]) -> str:
    if changed:
        return "; ".join(["other sentences", *_listed(changed)])
    if one.num_sentences != other.num_sentences:
        counts = f"{one.num_sentences:,} against {other.num_sentences:,}"
        return f"other sentences: {counts} of them; --limit measures both alike"
    if one.seed != other.seed:
        return f"other sentences: those of seed {one.seed} against seed {other.seed}; --seed measures both alike"
    return "other sentences or another tokenizer: the ids differ, though the recipes name one corpus; it has changed"


def _listed(changed: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"{key} {one} against {other}" for key, (one, other) in changed.items()]


def differing_settings(recipes: Sequence[TextRecipe], part: str | None = None) -> dict[str, tuple[str, ...]]:
    """The keys, dotted, in which the recipes (or one part of them) differ, each with its value in every recipe."""
    flat: list[dict[str, str]] = []
    for recipe in recipes:
        tree: dict[str, Any] = asdict(recipe)
        flat.append(_flattened({part: tree[part]} if part else tree))
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = {key: tuple(one.get(key, "–") for one in flat) for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= _flattened(value, f"{prefix}{key}.") if type(value) is dict else {f"{prefix}{key}": _shown(value)}
    return flat


def _shown(value: object) -> str:
    """A setting as text; what would move a terminal's cursor or turn its line around is written as an escape."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
