"""On one CUDA device: the same training, measures and decoding as on a CPU, and no step that waits for it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import SMALL, start_run, tiny_recipe, write_corpus

from latent.training import Run, build_state
from latent.training.window import Window
from textvae.decoding import Greedy
from textvae.generation import decode_texts, posterior_of
from textvae.measuring import measure
from textvae.recipe import TextRecipe
from textvae.session import open_trained
from textvae.side import TEXT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

STEPS = 200
WITHOUT_NOISE = ("model.dropout_in=0.0", "model.dropout_out=0.0", f"train.steps={STEPS}", "train.checkpoint_steps=100")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path, 400)


@pytest.fixture
def waiting_forbidden() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_a_cpu(corpus: Path, out: Path) -> Run:
    """The same in a process that sees no GPU."""
    values = ("corpus.kind=files", f"corpus.path={corpus}", "corpus.tokenizer.min_count=1", *SMALL, *WITHOUT_NOISE)
    settings = [word for value in values for word in ("--set", value)]
    command = [sys.executable, "-m", "cli", "train", "plain", "--out", str(out), *settings]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return Run.open(out)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_ends_where_it_ends_on_a_cpu(precision: str, corpus: Path, tmp_path: Path) -> None:
    """The random numbers are others, so that this is no equality."""
    recipe = tiny_recipe(corpus, *WITHOUT_NOISE, f"train.precision={precision}", recipe="plain")
    run = start_run(recipe, tmp_path / precision)
    assert "weights on cuda" in (run.path / "log.txt").read_text("utf-8")
    expected = on_a_cpu(corpus, tmp_path / "cpu").last_validation()
    found = run.last_validation()
    assert found is not None
    assert expected is not None
    assert found["elbo"] == pytest.approx(expected["elbo"], abs=1.0)
    if precision == "fp16":
        rows = [row for row in run.metrics() if "loss_scale" in row]
        assert rows[-1]["skipped_steps"] < STEPS / 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["plain", "freebits", "beta"])
def test_no_step_waits(name: str, precision: str, corpus: Path, request: pytest.FixtureRequest) -> None:
    recipe = tiny_recipe(corpus, f"train.precision={precision}", recipe=name)
    material = TEXT.read(recipe, None)
    state, batches = build_state(material, recipe.train), material.training_data().batches
    recipe.update(state, batches, recipe.objective)  # makes the optimizer's moments
    state.step += 1
    request.getfixturevalue("waiting_forbidden")
    for _ in range(3):
        recipe.update(state, batches, recipe.objective)
        state.step += 1


def test_a_run_is_measured_and_decoded(corpus: Path, tmp_path: Path) -> None:
    trained = open_trained(start_run(tiny_recipe(corpus, "train.precision=bf16"), tmp_path / "run"))
    assert trained.device.type == "cuda"
    found = measure(trained, "test", 20, None, 0).figures
    assert found.nll is not None
    assert 0 < found.nll.value < 200
    q = posterior_of(trained, trained.splits.test)
    texts = decode_texts(trained, q.mean, Greedy())
    assert len(texts) == len(trained.splits.test)
    alone = decode_texts(trained, q.mean[:1], Greedy())
    assert alone == texts[:1]


def test_a_long_training_is_compiled(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(recipe: TextRecipe, out: str) -> list[float]:
        lines = (start_run(recipe, tmp_path / out).path / "metrics.jsonl").read_text("utf-8").splitlines()
        return [row["loss"] for row in map(json.loads, lines) if "loss" in row]

    recipe = tiny_recipe(corpus, "model.dropout_in=0.0", "model.dropout_out=0.0")
    expected = losses(recipe, "plain")
    monkeypatch.setattr("latent.training.compiling.STEPS_TO_EARN", 30)
    assert losses(recipe, "compiled") == pytest.approx(expected, rel=0.1)
    log = (tmp_path / "compiled/log.txt").read_text("utf-8")
    assert "compiled (train.compile=auto: 30 steps are at least 30)" in log
    assert re.search(r"compiling has taken \d+\.\d s", log)


def test_what_a_checkpoint_brings_and_what_is_on_the_device_make_one_row() -> None:
    window = Window({"step": [1.0], "weight": [1.0], "loss": [3.0]})
    window.add(2, {"weight": 1.0, "loss": torch.tensor(5.0, device="cuda")})
    assert window.means() == {"loss": 4.0}
