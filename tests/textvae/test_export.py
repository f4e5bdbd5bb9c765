"""A run given away: its weights, measures and card, and what may not be done with it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from latent.reporting.export import export_run
from latent.reporting.stored_measures import load_measures, save_measures
from latent.training import Run, RunError, find_run
from latent.training.checkpoints import MODEL, CheckpointError
from latent.training.hub import HubError
from textvae.measuring import measure
from textvae.run_kind import KIND
from textvae.session import open_trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    run = start_run(tiny_recipe(write_corpus(folder)), folder / "lstm" / "run")
    save_measures(run, measure(open_trained(run), "test", 4))
    return run


@pytest.fixture(scope="module")
def exported(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(export_run(KIND, finished, tmp_path_factory.mktemp("exported") / "given"))


def test_it_is_the_same_model(finished: Run, exported: Run) -> None:
    ours, theirs = open_trained(finished), open_trained(exported)
    assert theirs.checkpoint.step == ours.checkpoint.step
    assert theirs.checkpoint.figures == ours.checkpoint.figures
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(theirs.model.state_dict()[name], tensor), name
    assert load_measures(KIND, exported, "test").figures == load_measures(KIND, finished, "test").figures
    again = measure(theirs, "test", 4).figures
    assert again.nll == load_measures(KIND, finished, "test").figures.nll


def test_it_holds_what_is_needed_and_no_more(exported: Run) -> None:
    found = {str(path.relative_to(exported.path)) for path in exported.path.rglob("*") if path.is_file()}
    (checkpoint,) = (exported.path / "checkpoints").iterdir()
    inside = f"checkpoints/{checkpoint.name}"
    assert found == {
        "README.md", "config.yaml", "corpus.json", "env.json", "tokenizer.model",
        "measures/test.json", "measures/test.parquet", f"{inside}/model.safetensors", f"{inside}/state.json",
    }  # fmt: skip


def test_the_card_has_the_figures_with_their_intervals_and_the_recipe(finished: Run, exported: Run) -> None:
    card = (exported.path / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: textvae\n")
    assert re.search(r"^# .+: a model of sentences \(`lstm`\), trained by textvae$", card, re.MULTILINE)
    assert finished.config_path.read_text("utf-8") in card
    kl = load_measures(KIND, finished, "test").figures.kl
    (row,) = [line for line in card.splitlines() if line.startswith("| KL |")]
    assert f"{kl.value:.2f}" in row
    assert "±" in row or "[" in row


def test_measures_of_other_weights_stay_behind(finished: Run, tmp_path: Path) -> None:
    found = load_measures(KIND, finished, "test").figures.checkpoint
    (other, *_) = [p.name for p in (finished.path / "checkpoints").iterdir() if p.name != found]
    given = export_run(KIND, finished, tmp_path / "given", other)
    assert not (given / "measures").exists()
    assert "Not measured at this checkpoint" in (given / "README.md").read_text("utf-8")
    weights = (load_file(run / "checkpoints" / other / MODEL) for run in (finished.path, given))
    assert all(torch.equal(a, b) for a, b in zip(*(each.values() for each in weights), strict=True))


def test_a_link_in_the_run_is_not_followed(finished: Run, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "copy")
    (tmp_path / "secret.txt").write_text("private")
    (tmp_path / "copy/notes.txt").symlink_to(tmp_path / "secret.txt")
    given = export_run(KIND, Run(tmp_path / "copy"), tmp_path / "given")
    assert not (given / "notes.txt").exists()


def test_no_training_goes_on_from_it(exported: Run, tmp_path: Path) -> None:
    shutil.copytree(exported.path, tmp_path / "copy")
    with pytest.raises(CheckpointError, match="exported, without the moments"):
        resume_run(Run(tmp_path / "copy"))


def test_damage_to_its_weights_is_found(exported: Run, tmp_path: Path) -> None:
    shutil.copytree(exported.path, tmp_path / "copy")
    (weights,) = (tmp_path / "copy").rglob(MODEL)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(RunError, match="damaged"):
        open_trained(Run(tmp_path / "copy"))


def test_nothing_is_written_over(finished: Run, exported: Run) -> None:
    before = json.loads((exported.path / "env.json").read_text())
    with pytest.raises(RunError, match="not an empty folder"):
        export_run(KIND, finished, exported.path)
    assert json.loads((exported.path / "env.json").read_text()) == before


def test_a_run_on_the_hub_is_fetched_by_name_and_revision(exported: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(exported.path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_run("hf://someone/vae@v1.0").path == exported.path
    assert find_run("hf://someone/vae").path == exported.path
    assert [(name, revision) for name, revision, _ in asked] == [("someone/vae", "v1.0"), ("someone/vae", None)]
    assert not any("py" in pattern or "bin" in pattern or pattern == "*" for pattern in asked[0][2])


@pytest.mark.parametrize("name", ["hf://vae", "hf:someone/vae", "hf://a/b/c", "hf://a/../b@c"])
def test_a_name_that_is_none_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(HubError, match="write a run on the hub as hf://user/name"):
        find_run(name)


def test_a_hub_that_cannot_be_reached_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match=r"hf://someone/vae: cannot be fetched from the hub: .+") as caught:
        find_run("hf://someone/vae")
    assert "\n" not in str(caught.value)
