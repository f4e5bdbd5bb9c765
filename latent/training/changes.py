"""Which keys of a recipe may change when a run is resumed: those that change no step that has been taken."""

from typing import Any

from latent.training.config import Tree
from latent.training.runs import RunError

MAY_CHANGE = frozenset(
    {
        "corpus.path",  # its content is held against the run's digest
        *("train.steps", "train.epochs"),
        *("train.checkpoint_steps", "train.checkpoint_every", "train.keep_checkpoints", "train.log_steps"),
        "train.shard",
        *("train.on_collapse", "train.on_nonfinite", "train.max_nonfinite_steps"),
    }
)


def changed_keys(before: Tree, now: Tree) -> dict[str, tuple[Any, Any]]:
    """The keys in which two recipes differ, dotted, each with both values; None where a recipe has no such key."""
    flat_before, flat_now = _flat(before), _flat(now)
    names = sorted(flat_before.keys() | flat_now.keys())
    values = {name: (flat_before.get(name), flat_now.get(name)) for name in names}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}


def refuse_changes(before: Tree, now: Tree, source: str) -> dict[str, tuple[Any, Any]]:
    """The changed keys. Raises RunError naming those that may not be, which `source` has them from."""
    changed = changed_keys(before, now)
    refused = {name: pair for name, pair in changed.items() if name not in MAY_CHANGE}
    if refused:
        shown = ", ".join(
            f"{name} (trained with {_shown(then)}, now {_shown(new)})" for name, (then, new) in refused.items()
        )
        raise RunError(
            f"{source}: a run is resumed as it was trained, and these keys differ: {shown}; put them back or train a "
            f"new run. What may change: {', '.join(sorted(MAY_CHANGE))}"
        )
    return changed


def _flat(tree: Tree, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if type(value) is dict and value else {f"{prefix}{name}": value}
    return found


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
