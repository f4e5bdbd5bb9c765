"""`textvae gaps`: what is stored, taken up again, refused and said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus

from latent.measures.gaps import Gaps, inference_gaps
from latent.reporting import gap_report
from latent.training import RunError
from textvae import verbs
from textvae.session import Trained, open_trained

OPTIONS: dict[str, Any] = {"split": "test", "limit": 6, "samples": 4, "steps": 50, "chains": 2, "temperatures": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("gaps")
    return open_trained(start_run(tiny_recipe(write_corpus(folder)), folder / "run"))


def found(trained: Trained, **changed: Any) -> Any:
    return verbs.gaps(trained, seed=0, **{**OPTIONS, **changed})


def test_a_second_call_takes_what_is_there_and_another_question_does_not(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "GAP_TOKENS_AT_ONCE", 20)  # several batches
    first = found(trained)
    monkeypatch.setattr(gap_report, "inference_gaps", lambda *_: pytest.fail("found before"))
    assert found(trained).lines == first.lines
    with pytest.raises(pytest.fail.Exception):
        found(trained, samples=5)


def test_a_call_that_was_stopped_goes_on_to_the_same_figures(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "GAP_TOKENS_AT_ONCE", 20)
    sizes: list[int] = []

    def counted(model: Any, batch: Any, *rest: Any) -> Gaps:
        sizes.append(len(batch))
        return inference_gaps(model, batch, *rest)

    monkeypatch.setattr(gap_report, "inference_gaps", counted)
    whole = found(trained, limit=5)
    num_batches, path = len(sizes), trained.run.path / "measures/gaps-test.json"
    assert num_batches > 1
    content = json.loads(path.read_text())
    content["gaps"] = {name: column[: sizes[0]] for name, column in content["gaps"].items()}
    path.write_text(json.dumps(content))
    sizes.clear()
    assert found(trained, limit=5).value == whole.value
    assert len(sizes) == num_batches - 1


def test_a_damaged_file_is_named(trained: Trained) -> None:
    found(trained)
    path = trained.run.path / "measures/gaps-test.json"
    for content in ("{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(RunError, match=r"gaps-test.json: damaged"):
            found(trained)
    path.unlink()


def test_chains_that_have_collapsed_are_said() -> None:
    columns = [torch.zeros(3).double() for _ in range(4)]
    nan = torch.full((3,), torch.nan).double()
    gaps = Gaps(*columns, acceptance=torch.tensor([0.1, 0.5, 0.6]).double(), simulated_lower=nan, simulated_upper=nan)
    settings = {"num_samples": 1, "num_chains": 1, "num_temperatures": 1, "seed": 0}
    asked = {"split": "test", "checkpoint": "step-1", **settings}
    lines = gap_report._lines("run", gaps, asked)
    assert "! of 1 examples fewer than 20% were" in lines[-1]
    assert not any("simulated" in line for line in lines)


def test_a_model_without_z_has_no_gaps(tmp_path: Path) -> None:
    run = start_run(tiny_recipe(write_corpus(tmp_path), recipe="lstm_lm"), tmp_path / "run")
    with pytest.raises(ValueError, match="this model has none"):
        found(open_trained(run))
