"""Which runs may be compared, and in words why others may not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from latent.measures import BoundMeasures
from latent.reporting.run_kind import MeasuredRun
from latent.training import Recipe

IN_YAML = {None: "null", True: "true", False: "false"}


def reasons_against(run: MeasuredRun, baseline: MeasuredRun) -> tuple[str, ...]:
    """Why the figures of two runs may not be compared, in words: nothing where they may."""
    one, other = run.figures, baseline.figures
    reasons: list[str] = []
    if one.split != other.split:
        reasons.append(f"other split: {one.split} against {other.split}")
    if one.num_samples != other.num_samples:
        samples = f"K = {one.num_samples:,} against {other.num_samples:,}"
        reasons.append(f"other number of importance samples: {samples}; --samples measures both alike")
    changed = differing_settings([run.recipe, baseline.recipe], "corpus")
    return (*reasons, *run.kind.reasons(one, other, changed))


def other_examples(
    one: BoundMeasures, other: BoundMeasures, changed: Mapping[str, tuple[str, ...]], examples: str, otherwise: str
) -> tuple[str, ...]:
    """Why the examples are others, for a kind's `reasons`; `otherwise` says it where neither settings nor counts do."""
    if one.examples_digest == other.examples_digest:
        return ()
    if changed:
        return ("; ".join([f"other {examples}", *listed(changed)]),)
    if one.num_examples != other.num_examples:
        counts = f"{one.num_examples:,} against {other.num_examples:,}"
        return (f"other {examples}: {counts} of them; --limit measures both alike",)
    if one.seed != other.seed:
        return (f"other {examples}: those of seed {one.seed} against seed {other.seed}; --seed measures both alike",)
    return (f"{otherwise}, though the recipes name one corpus; it has changed",)


def listed(changed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The settings of two runs that differ, in words."""
    return [f"{key} {one} against {other}" for key, (one, other) in changed.items()]


def differing_settings(recipes: Sequence[Recipe[Any, Any, Any]], part: str | None = None) -> dict[str, tuple[str, ...]]:
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
    """A setting as --set takes it; what would move a terminal's cursor or turn its line around becomes an escape."""
    text = IN_YAML[value] if value is None or type(value) is bool else str(value)
    return text if text.isprintable() else ascii(text)
