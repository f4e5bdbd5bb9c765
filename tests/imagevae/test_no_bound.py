"""A run whose loss is no bound: what is measured of it, what is not printed, and what is said instead."""

import math
from pathlib import Path

import pytest
import torch
from pages import Page
from tiny import rows, start_image_run, tiny_image_recipe
from typed import textvae

from imagevae.measuring import ImageMeasures, measure
from imagevae.run_kind import KIND
from imagevae.sample_quality import draw_images
from imagevae.session import TrainedImages, open_trained_images
from imagevae.tables import measured_lines
from latent.measures import Measured
from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_tables import comparison_lines, flags
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import load_measures, save_measures

RUNS = {
    "gan": ("digits_vaegan",),
    "other gan": ("digits_vaegan", "update.reconstruction_share=0.9"),
    "seed": ("digits_vaegan", "train.seed=1"),
    "vae": ("digits_vae",),
}
UNDEFINED = ("nll", "elbo", "reconstruction", "bits_per_dimension", "effective_sample_size")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedImages]:
    """Of the same images, whatever the recipes' own binarisation."""
    folder, alike = tmp_path_factory.mktemp("runs"), "corpus.binarisation=threshold"
    recipes = {name: tiny_image_recipe(recipe, alike, *overrides) for name, (recipe, *overrides) in RUNS.items()}
    return {name: open_trained_images(start_image_run(each, folder / name)) for name, each in recipes.items()}


@pytest.fixture(scope="module")
def measured(opened: dict[str, TrainedImages]) -> dict[str, Measured[ImageMeasures]]:
    found = {name: measure(trained, num_samples=4) for name, trained in opened.items()}
    for name, trained in opened.items():
        save_measures(trained.run, found[name])
    return found


def runs(
    opened: dict[str, TrainedImages], measured: dict[str, Measured[ImageMeasures]], *names: str
) -> list[MeasuredRun]:
    return [MeasuredRun(KIND, name, opened[name].run, opened[name].recipe, measured[name]) for name in names]


def test_training_says_that_there_is_no_bound_and_logs_none(opened: dict[str, TrainedImages]) -> None:
    run = opened["gan"].run
    log = (run.path / "log.txt").read_text("utf-8")
    assert log.count("the loss is no bound on log p(x): no ELBO is logged, and the best checkpoint is the last") == 1
    assert "no bound" not in (opened["vae"].run.path / "log.txt").read_text("utf-8")
    assert not any("elbo" in row for row in rows(run))
    validations = [row for row in rows(run) if row.get("split") == "valid"]
    assert all({"kl", "mutual_information", "active_units", "shuffled_gain"} <= row.keys() for row in validations)
    assert not any("reconstruction" in row for row in validations)
    assert {"adversary", "real_cost", "generated_cost", "decoder_steps", "discriminator_steps"} <= rows(run)[0].keys()
    assert run.checkpoint("best")[0].step == run.checkpoint("last")[0].step == 39


def test_nothing_is_printed_that_would_be_of_a_likelihood(measured: dict[str, Measured[ImageMeasures]]) -> None:
    found = measured["gan"].figures
    assert found.likelihood == "none"
    assert all(math.isnan(getattr(found, name).value) for name in UNDEFINED)
    assert all(found.as_dict()[name]["value"] is None for name in UNDEFINED)
    assert found.nll_ladder == {}
    lines = measured_lines("run", found, ())
    assert not any(
        line.startswith(("NLL", "  at K", "bits", "−ELBO", "reconstruction", "  effective")) for line in lines
    )
    assert not any("nan" in line or "undefined" in line for line in lines)
    [remark] = [line for line in lines if line.startswith("!")]
    assert "the loss of a VAE/GAN is no bound on log p(x)" in remark
    assert "compare by KL, squared error and, with measure --full, the Fréchet distance" in remark


def test_what_has_a_meaning_is_printed(measured: dict[str, Measured[ImageMeasures]]) -> None:
    found = measured["gan"].figures
    for figure in (found.kl, found.active_units, found.mutual_information, found.squared_error, found.shuffled_gain):
        assert math.isfinite(figure.value)
    lines = measured_lines("run", found, ())
    for name in ("verdict", "KL", "active units", "mutual information", "squared error of a pixel"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert any(line.startswith("likelihood ") and line.endswith("none: the loss is no bound") for line in lines)


def test_a_vae_has_all_figures_and_no_remark(measured: dict[str, Measured[ImageMeasures]]) -> None:
    lines = measured_lines("run", measured["vae"].figures, ())
    assert any(line.startswith("−ELBO") for line in lines)
    assert not any(line.startswith("!") for line in lines)


def test_stored_measures_read_back(
    opened: dict[str, TrainedImages], measured: dict[str, Measured[ImageMeasures]]
) -> None:
    found = load_measures(KIND, opened["gan"].run, "test")
    assert found is not None
    assert found.figures.as_dict() == measured["gan"].figures.as_dict()
    assert found.per_example["nll"].isnan().all()
    assert found.per_example["squared_error"].isfinite().all()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("vae", "gan"), "no likelihood against bernoulli"),
        (("gan", "vae"), "bernoulli against none"),
        (("gan", "other gan"), "neither has a likelihood"),
    ],
)
def test_figures_of_a_likelihood_are_withheld_and_others_compared(
    names: tuple[str, str],
    reason: str,
    opened: dict[str, TrainedImages],
    measured: dict[str, Measured[ImageMeasures]],
) -> None:
    found = compare_measured(runs(opened, measured, *names))
    [difference] = found.differences
    assert difference.reasons == ()
    assert difference.estimates.keys() == {"kl", "squared_error"}
    [flag] = flags(found)
    assert flag.startswith(f"the likelihood of {names[1]} may not be compared with that of {names[0]}: {reason}; ")
    lines = comparison_lines(found)
    assert not any("nan" in line for line in lines)
    assert any(line.startswith("NLL") and line.endswith("–") for line in lines)


def test_seeds_are_pooled(opened: dict[str, TrainedImages], measured: dict[str, Measured[ImageMeasures]]) -> None:
    found = compare_measured(runs(opened, measured, "gan", "seed"))
    [group] = found.groups
    assert group.figures["squared_error"].over_seeds is not None
    lines = comparison_lines(found)
    assert not any("nan" in line for line in lines)
    assert any(line.startswith("likelihood ") and line.endswith("none: the loss is no bound") for line in lines)


def test_the_page_says_it_too(
    opened: dict[str, TrainedImages], measured: dict[str, Measured[ImageMeasures]], tmp_path: Path
) -> None:
    paths = [opened[name].run.path for name in ("vae", "gan", "other gan")]
    assert textvae("compare", *paths, "--html", tmp_path / "report.html").returncode == 0
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "none: the loss is no bound" in page.text
    assert "no likelihood against bernoulli" in page.text
    assert "nan" not in page.text.lower().split()


def test_gaps_are_refused(opened: dict[str, TrainedImages]) -> None:
    done = textvae("gaps", opened["gan"].run.path, "--limit", "3")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("gaps are of the bound on log p(x) by a z, and this model has none")


def test_there_is_no_bound_to_refine_by(opened: dict[str, TrainedImages]) -> None:
    done = textvae("measure", opened["gan"].run.path, "--refine", "3")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("--refine: this model's loss is no likelihood, and it has no bound; leave --refine out")


def test_the_images_judged_are_those_that_the_loss_has_trained(opened: dict[str, TrainedImages]) -> None:
    """E[x|z] of a VAE/GAN, which its discriminator was shown; draws of p(x|z) of a VAE."""
    labels = torch.zeros(20, dtype=torch.int64)
    of_gan, of_vae = (draw_images(opened[name], labels) for name in ("gan", "vae"))
    assert ((of_gan > 0) & (of_gan < 1)).all()
    assert ((of_vae == 0) | (of_vae == 1)).all()
    found = measure(opened["gan"], num_samples=2, with_samples=True).figures
    assert found.samples is not None
    assert found.samples.pixels == "expected"
    assert "300 images E[x|z], z drawn, of the model under the corpus' classifier, 95 % intervals" in measured_lines(
        "run", found, ("0",) * 10
    )


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_it_is_trained_in_either_precision(precision: str, tmp_path: Path) -> None:
    run = start_image_run(tiny_image_recipe("digits_vaegan", f"train.precision={precision}"), tmp_path / "run")
    assert all(math.isfinite(row["loss"]) for row in rows(run) if "loss" in row)
