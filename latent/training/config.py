"""Configuration: YAML in, frozen dataclasses out, with errors that name the file, the key and what would be right."""

import copy
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from latent.training.files import check_depth, read_plain

Config = TypeVar("Config")
Tree = dict[str, Any]
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MAX_BYTES = 1_000_000  # a recipe is a page; more is a mistake, or an attempt to fill the memory


class ConfigError(ValueError):
    """A recipe, an override or a name that the user has to mend."""

    exit_code = 2


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without aliases (a few lines of them can fill any memory), and with `1e-3` a number as in YAML 1.2."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", self.peek_event().start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, source: str) -> Any:
    try:
        tree = yaml.load(text, Loader=_Loader)
        check_depth(tree)
        return tree
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split()) or "nested too deeply"
        raise ConfigError(f"{source}: not valid YAML: {reason}") from error


def read_tree(path: Path) -> Tree:
    """Read a YAML file that holds a mapping. Raises ConfigError naming the file."""
    try:
        tree: Tree = _parse(read_plain(path, MAX_BYTES).decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a mapping of keys is needed, such as `train: {{steps: 100}}`")
    return tree


def apply_overrides(tree: Tree, overrides: Iterable[str], exclusive: tuple[str, ...] = ()) -> Tree:
    """Return the tree with `a.b=value` applied, values read as YAML, and of `a+={b: value, …}` every key.

    `exclusive` names keys of which one, given a value, replaces the others. Raises ConfigError for an override that is
    not of that form or leads through something that is not a mapping.
    """
    tree = copy.deepcopy(tree)
    for override in overrides:
        path, equals, text = override.partition("=")
        path, value = path.strip(), _parse(text, f"--set {override}")
        if not equals or not all(path.removesuffix("+").split(".")):
            raise ConfigError(f"--set {override}: write it as key.key=value, such as --set train.steps=500")
        if not path.endswith("+"):
            _put(tree, path, value, override, exclusive)
            continue
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ConfigError(f"--set {override}: += takes keys and values, such as 'model+={{hidden_size: 512}}'")
        for key, one in value.items():
            _put(tree, f"{path.removesuffix('+')}.{key}", one, override, exclusive)
    return tree


def _put(tree: Tree, path: str, value: Any, override: str, exclusive: tuple[str, ...]) -> None:
    keys = path.split(".")
    for rival in exclusive:
        if path in exclusive and rival != path and value is not None:
            _parent(tree, rival.split("."), override).pop(rival.split(".")[-1], None)
    _parent(tree, keys, override)[keys[-1]] = value


def _parent(tree: Tree, keys: list[str], override: str) -> Tree:
    node = tree
    for depth, key in enumerate(keys[:-1]):
        below = node.setdefault(key, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {'.'.join(keys[: depth + 1])} is a value, it has no keys below it")
        node = below
    return node


def _explain(problem: Any, tree: Tree) -> str:
    """One line for one of pydantic's problems; the tags of the unions on the way are no keys of the user's."""
    keys: list[str] = []
    node: Any = tree
    for part in problem["loc"]:
        is_tag = type(node) is dict and part not in node and part == node.get("kind")
        if is_tag:
            continue
        keys.append(str(part))
        node = node.get(part) if type(node) is dict else None
    if problem["type"] == "union_tag_invalid":
        kinds = problem["ctx"]["expected_tags"].replace("'", "")
        return f"{'.'.join([*keys, 'kind'])}: {problem['ctx']['tag']!r:.80} is none of: {kinds}"
    if problem["type"] == "union_tag_not_found":
        return f"{'.'.join([*keys, 'kind'])}: this key is needed"
    got = json.dumps(problem["input"], default=str)
    reasons = {"unexpected_keyword_argument": "unexpected key", "missing": "this key is needed"}
    reason = reasons.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if not keys:  # of several parts of the recipe, which the reason names
        return str(reason)
    shown = "" if problem["type"] == "missing" else f" (got {got if len(got) < 80 else got[:76] + ' ...'})"
    return f"{'.'.join(keys)}: {reason}{shown}"


class Schema(Generic[Config]):
    """The shape that a config must have: a dataclass with strict types, unions told apart by `kind`, no other keys."""

    def __init__(self, shape: Any) -> None:
        is_class = isinstance(shape, type)  # which pydantic takes a config with, and not beside
        self._adapter: TypeAdapter[Config] = (
            TypeAdapter(with_config(STRICT)(shape)) if is_class else TypeAdapter(shape, config=STRICT)
        )

    def validate(self, tree: Tree, source: str) -> Config:
        """Turn a tree into the dataclass. Raises ConfigError with a line for each problem, beginning with `source`."""
        try:
            return self._adapter.validate_json(json.dumps(tree), strict=True)
        except ValidationError as error:
            lines = [_explain(problem, tree) for problem in error.errors()]
            raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error
        except (TypeError, ValueError) as error:  # a date, a set: YAML that JSON does not have
            raise ConfigError(f"{source}: {error}") from error

    def dump(self, config: Config) -> str:
        """The config as YAML, every default written out: reading it gives an equal object."""
        return str(yaml.safe_dump(self.tree(config), sort_keys=False, allow_unicode=True))

    def tree(self, config: Config) -> Tree:
        """The config as mappings, lists and values that JSON has, every default written out."""
        tree: Tree = self._adapter.dump_python(config, mode="json")
        return tree
