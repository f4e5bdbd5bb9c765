"""Shapes and types are checked at run time in every test; caches and runs stay in temporary folders."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # `checks`, `oracle` and `tiny`, which the folders of tests share
install_import_hook(["corpora", "latent", "textvae"], "checks.typechecker")

DATA = Path(__file__).parents[2] / "shared" / "data"


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
