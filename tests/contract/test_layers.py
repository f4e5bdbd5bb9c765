"""Imports go one way, and the sources keep the house rules that a program can see."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("latent", "corpora", "textvae", "imagevae")
SOURCES = [*sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")), ROOT / "cli.py"]
MAY_IMPORT = {
    "latent": {"latent"},
    "corpora": {"corpora"},
    "textvae": {"textvae", "corpora", "latent"},
    "imagevae": {"imagevae", "corpora", "latent"},
    "cli": {"textvae", "imagevae", "corpora", "latent"},
}
ROOMS = ("machine", "distributions", "bound", "measures", "training", "reporting")  # each stands on those before it


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


OURS = {module_name(path): {m for m in imported_modules(path) if m.split(".")[0] in MAY_IMPORT} for path in SOURCES}


def test_packages_import_only_what_lies_below_them() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in OURS.items()
        for other in others
        if other.split(".")[0] not in MAY_IMPORT[module.split(".")[0]]
    ]
    assert not wrong
    assert any(others for others in OURS.values())  # the walk did find imports


def test_the_rooms_of_latent_stand_on_one_another() -> None:
    def room(module: str) -> int:
        return ROOMS.index(module.split(".")[1])

    wrong = [
        f"{module} imports {other}"
        for module, others in OURS.items()
        for other in others
        if module.startswith("latent.") and other.startswith("latent.") and room(other) > room(module)
    ]
    assert not wrong


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module in done:
            return
        for other in OURS.get(module, ()):
            # a package's __init__ imports its own modules; that they import it back would be a circle
            visit(other, (*trail, module))
        done.add(module)

    for module in OURS:
        visit(module, ())


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_nothing_is_ever_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "yaml.unsafe_load"}
            if called == "np.load":
                assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
    assert "pickle" not in imported_modules(path)
