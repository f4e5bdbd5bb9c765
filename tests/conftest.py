"""Shapes and types are checked at run time in every test; caches and runs stay in temporary folders."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from corpora import Sentences, Tokenizer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the models are tiny, and pytest has a process a core
sys.path.insert(0, str(Path(__file__).parent))  # `checks`, `oracle` and `tiny`, which the folders of tests share
install_import_hook(["corpora", "imagevae", "latent", "textvae"], "checks.typechecker")

# A deadline would make the machine's load a cause of failure.
hypothesis.settings.register_profile("textvae", deadline=None)
hypothesis.settings.load_profile("textvae")

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTVAE_CACHE", str(root / "cache"))
        patch.setenv("TEXTVAE_RUNS", str(root / "runs"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts_are_heard() -> Iterator[None]:
    """As in a terminal: a shell's background job, which the tests may be, begins with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real corpora, which are not ours to publish."""
    if not DATA.is_dir():
        pytest.skip(f"the corpora are not at {DATA}")
    return DATA


@pytest.fixture(scope="session")
def tokenizer() -> "Tokenizer":
    """Of sixty sentences of the tiny language."""
    from tiny import sentences

    from corpora import Tokenizer, TokenizerConfig

    return Tokenizer.train(sentences(60), TokenizerConfig())


@pytest.fixture(scope="session")
def split(tokenizer: "Tokenizer") -> "Sentences":
    """These sixty sentences, encoded."""
    from tiny import sentences

    from corpora import encode_sentences

    return encode_sentences(sentences(60), tokenizer, 40)
