"""Shapes and types are checked at run time in every test; caches and runs stay in temporary folders."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # `checks`, `oracle` and `tiny`, which the folders of tests share
install_import_hook(["corpora", "latent", "textvae"], "checks.typechecker")

DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTVAE_CACHE", str(root / "cache"))
        patch.setenv("TEXTVAE_RUNS", str(root / "runs"))
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real corpora, which are not ours to publish."""
    if not DATA.is_dir():
        pytest.skip(f"the corpora are not at {DATA}")
    return DATA
