"""`measure --refine`: what it says beside the amortised figures of a run, on both sides, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import start_image_run, start_run, tiny_image_recipe, tiny_recipe, write_corpus
from typed import textvae

from imagevae.run_kind import KIND as IMAGES
from latent.reporting.run_kind import AnyKind
from latent.reporting.stored_measures import load_measures
from latent.training import Run
from textvae.run_kind import KIND as SENTENCES

KINDS: dict[str, AnyKind] = {"text": SENTENCES, "image": IMAGES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "text": start_run(tiny_recipe(write_corpus(folder)), folder / "text"),
        "image": start_image_run(tiny_image_recipe(), folder / "image"),
    }


def measured(run: Run, *options: str) -> dict[str, Any]:
    done = textvae("measure", str(run.path), "--json", "--samples", "8", "--limit", "40", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("side", KINDS)
def test_refined_figures_stand_beside_the_amortised_ones(side: str, runs: dict[str, Run]) -> None:
    plain, found = measured(runs[side]), measured(runs[side], "--refine", "30")
    refined = found.pop("refined")
    assert plain.pop("refined") is None
    assert found == plain
    assert refined["elbo"]["value"] == pytest.approx(found["elbo"]["value"] + refined["elbo_gain"]["value"])
    assert refined["nll"]["value"] == pytest.approx(found["nll"]["value"] - refined["nll_gain"]["value"])
    assert refined["elbo_gain"]["value"] > 0  # the encoder of a short training is far from the best
    stored = load_measures(KINDS[side], runs[side], "test")
    assert stored is not None
    assert stored.figures.refined.steps == 30
    assert stored.figures.refined.kl.value == pytest.approx(refined["kl"]["value"])


def test_the_table_names_the_steps_and_where_they_began(runs: dict[str, Run]) -> None:
    asked = ("measure", str(runs["image"].path), "--samples", "4", "--limit", "20")
    assert "refined" not in textvae(*asked).stdout
    shown = textvae(*asked, "--refine", "3", "--refine-from", "prior").stdout
    assert "3 steps of Adam, 0.3 falling to 0, 8 draws a step" in shown
    assert "N(0, I), without the encoder" in shown
    assert "refined −ELBO" in shown
    shown = textvae(*asked, "--refine", "3", "--refine-by", "natural").stdout
    assert "3 steps of natural gradients, 0.3 falling to 0, 8 draws a step" in shown


REFUSED = {
    "lstm_lm": ((), "LanguageModel has no z"),
    "vmf2018": ((), "SentenceVae has a posterior"),
    "deltavae": ((), "SentenceVae has a posterior"),
    "continuous": (("model.loss={kind: cosine}",), "loss is no likelihood"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_refined_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    overrides, reason = REFUSED[name]
    run = start_run(tiny_recipe(write_corpus(tmp_path), "train.steps=2", *overrides, recipe=name), tmp_path / "run")
    done = textvae("measure", str(run.path), "--refine", "2")
    assert done.returncode == 1
    assert reason in done.stderr
    assert "leave --refine out" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_start_without_steps_and_no_steps_are_refused(runs: dict[str, Run]) -> None:
    path = str(runs["text"].path)
    alone = textvae("measure", path, "--refine-from", "prior")
    assert alone.returncode == 1
    assert "give --refine N too" in alone.stderr.replace("Give", "give")
    assert textvae("measure", path, "--refine", "0").returncode == 2
