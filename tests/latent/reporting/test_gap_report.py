"""`textvae gaps`: what is stored, taken up again, refused and said."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import start_run, tiny_recipe, write_corpus
from typed import textvae

from latent.measures.gaps import Gaps, inference_gaps
from latent.reporting import gap_report
from latent.reporting.gaps_over_training import gaps_png
from latent.reporting.plots import COLOURS
from latent.training import RunError
from textvae import verbs
from textvae.session import Trained, open_trained

OPTIONS: dict[str, Any] = {"split": "test", "limit": 6, "samples": 4, "steps": 50, "chains": 2, "temperatures": 2}
SMALL = ("--limit", "2", "--samples", "4", "--steps", "50", "--chains", "2", "--temperatures", "2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("gaps")
    return open_trained(start_run(tiny_recipe(write_corpus(folder)), folder / "run"))


def found(trained: Trained, **changed: Any) -> Any:
    return verbs.gaps(trained, seed=0, **{**OPTIONS, **changed})


def stored(trained: Trained) -> Path:
    return trained.run.path / f"measures/gaps-test-{trained.checkpoint.path.name}.json"


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
    num_batches, path = len(sizes), stored(trained)
    assert num_batches > 1
    content = json.loads(path.read_text())
    content["gaps"] = {name: column[: sizes[0]] for name, column in content["gaps"].items()}
    path.write_text(json.dumps(content))
    sizes.clear()
    assert found(trained, limit=5).value == whole.value
    assert len(sizes) == num_batches - 1


def test_a_damaged_file_is_named(trained: Trained) -> None:
    found(trained)
    path = stored(trained)
    for content in ("{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(RunError, match=r"gaps-test-step-\d+.json: damaged"):
            found(trained)
    path.unlink()


def over_training(trained: Trained, **changed: Any) -> Any:
    return verbs.gaps_over_training(trained, seed=0, **{**OPTIONS, "limit": 2, **changed})


def test_over_training_each_checkpoint_has_the_gaps_that_it_has_alone(trained: Trained) -> None:
    kept, _ = trained.run.checkpoints()
    assert len(kept) == 3
    together = over_training(trained).value
    assert [each["step"] for each in together["checkpoints"]] == [each.step for each in kept]
    assert len({each["amortised"]["value"] for each in together["checkpoints"]}) == 3
    for one in together["checkpoints"]:
        for path in (trained.run.path / "measures").glob("gaps-*.json"):
            path.unlink()
        alone = found(open_trained(trained.run, one["checkpoint"]), limit=2).value
        assert {**alone, "step": one["step"]} == one


def test_over_training_what_was_measured_is_not_measured_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what a call for one checkpoint found nor what one for all of them did."""
    kept, _ = trained.run.checkpoints()
    calls: list[int] = []

    def counted(*arguments: Any) -> Gaps:
        calls.append(1)
        return inference_gaps(*arguments)

    monkeypatch.setattr(gap_report, "inference_gaps", counted)
    found(open_trained(trained.run, kept[1].path.name), samples=3, limit=2)
    of_one = len(calls)
    whole = over_training(trained, samples=3)
    assert len(calls) == 3 * of_one
    assert over_training(trained, samples=3).lines == whole.lines
    assert len(calls) == 3 * of_one


def test_over_training_there_is_a_table_and_a_picture(trained: Trained) -> None:
    shown = textvae("gaps", trained.run.path, "--checkpoint", "all", *SMALL)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert "2 examples of test, 3 checkpoints" in lines[0]
    assert [line.split()[0] for line in lines[4:7]] == ["10", "20", "30"]
    picture = trained.run.path / "measures/gaps-test-over-training.png"
    assert lines[7] == str(picture)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert (pixels[0] == 255).all()
    assert {tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in COLOURS[:2]} <= set(
        map(tuple, pixels.reshape(-1, 3).tolist())
    )
    as_json = json.loads(textvae("gaps", trained.run.path, "--checkpoint", "all", "--json", *SMALL).stdout)
    assert as_json["picture"] == str(picture)
    assert [each["step"] for each in as_json["checkpoints"]] == [10, 20, 30]
    assert all(each["amortisation"]["low"] <= each["amortisation"]["value"] for each in as_json["checkpoints"])


def test_the_picture_of_one_checkpoint_shows_its_intervals() -> None:
    """A bar of each gap, many times as high as its point."""
    spread, zero = torch.linspace(-9, 9, 8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    gaps = Gaps(-20 - 2 * spread, -spread, zero, zero - 1, zero, zero, zero)
    pixels = np.asarray(Image.open(io.BytesIO(gaps_png([30], [gaps]))).convert("RGB"))
    of_gap = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS[:2]]
    heights = [int((pixels == colour).all(-1).any(1).sum()) for colour in of_gap]
    assert min(heights) > 0.1 * len(pixels)


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    run = start_run(tiny_recipe(write_corpus(tmp_path)), tmp_path / "run")
    (run.path / "checkpoints/step-000020/model.safetensors").write_bytes(b"x")
    shown = textvae("gaps", run.path, "--checkpoint", "all", "--json", *SMALL)
    assert [each["step"] for each in json.loads(shown.stdout)["checkpoints"]] == [10, 30]
    assert "step-000020" in shown.stderr


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
