"""Structured prediction against enumerations and integrals, and that a prediction never sees what it predicts."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pages import Page
from tiny import start_image_run, tiny_image_recipe
from torch import Tensor

import cli
from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.measuring import measure
from imagevae.models import StructuredBaseline, StructuredBaselineConfig, StructuredCvae, StructuredCvaeConfig
from imagevae.networks import ConvConfig, MlpConfig
from imagevae.run_kind import KIND
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import IMAGE
from imagevae.structured import draws, predict, shown
from latent.bound import HybridObjective
from latent.measures import FromPrior, importance_weighted
from latent.reporting.comparison import compare_runs
from latent.reporting.comparison_report import write_comparison
from latent.training import Run
from latent.training.checkpoints import load_model

CPU = torch.device("cpu")
FORM = ImageForm(channels=1, height=2, width=3, class_names=(), num_observed=2)
SCORED = torch.tensor([[[True, False, True], [True, False, True]]])
NETWORK = MlpConfig(hidden_sizes=(12, 9), activation="relu")


def every_output(x: tuple[int, int] = (0, 1)) -> ImageBatch:
    """The 2⁴ images with a given middle column."""
    pixels = torch.zeros(16, 1, 2, 3, dtype=torch.float64)
    pixels[:, SCORED] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    pixels[:, ~SCORED] = torch.tensor(x, dtype=torch.float64)
    return ImageBatch(pixels=pixels, indices=torch.arange(16), context=pixels * ~SCORED, scored=SCORED)


def cvae(latent_size: int = 1, seed: int = 0, **settings: bool) -> StructuredCvae:
    """With weights large enough that z is worth something."""
    torch.manual_seed(seed)
    model = StructuredCvaeConfig(latent_size=latent_size, network=NETWORK, **settings).build(FORM).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.1 * torch.randn_like(parameter))
    return model


def baseline() -> StructuredBaseline:
    torch.manual_seed(0)
    return StructuredBaselineConfig(network=NETWORK).build(FORM).double().eval()


def integrated(model: StructuredCvae, batch: ImageBatch) -> Tensor:
    """log p(y|x) of a model with one latent dimension, by the trapezoidal rule over p(z|x)."""
    nodes = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    p = model.prior(batch)
    z = (p.mean + p.stddev * nodes).T.unsqueeze(-1)  # nodes, images, one dimension
    weight = -0.5 * nodes.square() - 0.5 * math.log(2 * math.pi) + math.log(nodes[1] - nodes[0])
    return torch.logsumexp(model.log_likelihood(z, batch) + weight.unsqueeze(-1), 0).detach()


@pytest.mark.parametrize("x", [(0, 0), (1, 0), (1, 1)])
def test_every_output_together_has_probability_one(x: tuple[int, int]) -> None:
    batch, one = every_output(x), torch.zeros(3, dtype=torch.float64)
    model = cvae(latent_size=4)
    z = torch.randn(3, 1, 4, dtype=torch.float64).expand(-1, 16, -1)
    torch.testing.assert_close(model.log_likelihood(z, batch).logsumexp(1), one)
    nothing = torch.zeros(3, 16, 0, dtype=torch.float64)
    torch.testing.assert_close(baseline().log_likelihood(nothing, batch).logsumexp(1), one)
    torch.testing.assert_close(integrated(cvae(), batch).logsumexp(0), one[0])


def test_the_baseline_is_a_product_of_pixels_and_its_nll_exact() -> None:
    model, batch = baseline(), every_output()
    logits = model.baseline(batch.context).logits
    of_pixels = torch.distributions.Bernoulli(logits=logits).log_prob(batch.pixels.flatten(1))
    expected = of_pixels[:, SCORED.flatten()].sum(1)
    terms = model(batch, 3)
    torch.testing.assert_close(terms.log_weight, expected.expand(3, -1))
    torch.testing.assert_close(terms.elbo, expected)


def test_both_estimators_converge_to_the_integral() -> None:
    model, batch = cvae(), every_output()
    truth = -integrated(model, batch)
    errors = {}
    for name, each in {"posterior": model, "prior": FromPrior(model)}.items():
        found = importance_weighted(each, [batch], CPU, 20_000, seed=2)
        errors[name] = (found.nll - truth).abs()
        assert (errors[name] < 6 * found.standard_error + 1e-3).all(), name
    assert (truth.exp().mean() > 1) & (truth.std() > 0.1)
    assert (-model(batch, 2000).elbo > truth).all()  # the bound is a bound, and no likelihood


def test_without_a_recognition_network_the_bound_is_the_gsnn_s() -> None:
    """E_p(z|x)[log p(y|x, z)], so that all of it, none of it and a part of it are the same in expectation."""
    model, batch = cvae(recognition=False), every_output()
    assert not [name for name, _ in model.named_parameters() if "recognition" in name]
    with torch.no_grad():
        terms = model(batch, 20_000, from_prior=True)
    assert not terms.kl.any()
    torch.testing.assert_close(terms.log_weight, terms.log_likelihood)
    error = 5 * terms.log_likelihood.std(0) * (2 / 20_000) ** 0.5
    assert ((terms.log_likelihood.mean(0) - terms.log_likelihood_from_prior.mean(0)).abs() < error).all()


def poisoned(model: StructuredCvae) -> StructuredCvae:
    """With a recognition network that says nothing but NaN."""
    assert model.recognition is not None
    with torch.no_grad():
        for parameter in model.recognition.parameters():
            parameter.fill_(math.nan)
    return model


def test_predictions_and_their_likelihood_never_use_the_recognition_network() -> None:
    model, batch = poisoned(cvae(latent_size=3)), every_output()
    assert model.posterior(batch).mean.isnan().all()
    found = predict(model, batch, 4)
    for part in (found.at_prior_mean, found.averaged, found.accuracy_of_best):
        assert torch.isfinite(part).all()
    assert torch.isfinite(draws(model, batch, 3)).all()
    assert torch.isfinite(importance_weighted(FromPrior(model), [batch], CPU, 5).nll).all()


def test_a_prediction_never_sees_what_it_predicts() -> None:
    model, batch = cvae(latent_size=3), every_output()
    blind = replace(batch, pixels=torch.full_like(batch.pixels, math.nan))
    for found, expected in zip(
        (*draws(model, blind, 3), predict(model, blind, 5).at_prior_mean, predict(model, blind, 5).averaged),
        (*draws(model, batch, 3), predict(model, batch, 5).at_prior_mean, predict(model, batch, 5).averaged),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_the_pixels_of_x_are_no_targets() -> None:
    """Whatever stands in their place in y: they are read from the context alone."""
    batch = every_output()
    other = replace(batch, pixels=torch.where(SCORED, batch.pixels, math.nan))
    for model in (cvae(), baseline()):
        found = []
        for each in (batch, other):
            torch.manual_seed(0)
            found.append(model(each, 2).log_weight)
        torch.testing.assert_close(*found, atol=0, rtol=0)


def test_x_and_y_are_both_read() -> None:
    model, batch, other = cvae(latent_size=3), every_output(), every_output((1, 1))
    z = torch.randn(1, 16, 3, dtype=torch.float64)
    assert (model.outputs(z, batch) != model.outputs(z, other)).all()
    assert (model.prior(batch).mean != model.prior(other).mean).all()
    assert (model.posterior(batch).mean != model.posterior(other).mean).all()
    assert len(model.prior(batch).mean.unique(dim=0)) == 1  # of y the prior knows nothing
    assert len(model.posterior(batch).mean.unique(dim=0)) == 16


def test_predictions_by_name() -> None:
    model, batch = cvae(latent_size=3), every_output()
    found, drawn = predict(model, batch, 6, seed=3), draws(model, batch, 6, seed=3)
    torch.testing.assert_close(found.averaged, drawn.mean(0))
    is_right = (drawn > 0.5) == (batch.pixels.flatten(1) > 0.5)
    of_each = is_right[..., SCORED.flatten()].double().mean(-1)
    torch.testing.assert_close(found.accuracy_of_best, of_each.max(0).values)
    assert (found.accuracy_of_best > of_each.min(0).values).any()
    at_mean = torch.sigmoid(model.outputs(model.prior(batch).mean.unsqueeze(0), batch)[0]).detach()
    torch.testing.assert_close(found.at_prior_mean, at_mean)
    averaged = torch.tensor([0.0, 0.5, 1.0, 0.25, 0.75, 0.5]).expand(16, -1)
    expected = torch.tensor([0.0, 1.0, 0.0, 0.75, 0.75, 1.0]).expand(16, -1)
    torch.testing.assert_close(replace(found, averaged=averaged).uncertainty, expected)


def test_what_is_shown_is_x_and_a_prediction() -> None:
    batch = every_output()
    grey = shown(batch, None)
    assert (grey[:, SCORED] == 0.5).all()
    assert (grey[:, ~SCORED] == batch.pixels[:, ~SCORED]).all()
    torch.testing.assert_close(shown(batch, batch.pixels.flatten(1)), batch.pixels)


def test_the_first_stage_trains_the_baseline_alone_and_a_frozen_one_stays() -> None:
    model, batch = cvae(freeze_baseline=True).train(), every_output()
    model.pretraining_loss(batch).mean().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("baseline.")}
    model.zero_grad(set_to_none=True)
    HybridObjective()(model(batch, from_prior=True), 0).value.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith("baseline.")}


def test_a_run_keeps_the_baseline_of_its_first_stage(run: Run) -> None:
    recipe = IMAGE.load_recipe(run.config_path)
    assert recipe.update.steps == 10
    trained = open_trained_images(run, "last").model
    after = {name: weight.clone() for name, weight in trained.state_dict().items()}
    load_model(run.checkpoint("step-000013")[0], trained)
    before = trained.state_dict()
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) == name.startswith("baseline."), name


@pytest.mark.parametrize("config", [StructuredCvaeConfig(), StructuredBaselineConfig()])
def test_a_part_of_the_image_is_needed(config: StructuredCvaeConfig | StructuredBaselineConfig) -> None:
    with pytest.raises(
        ValueError, match=r"is given a part of each image or another.*gives neither.*corpus\.kind=mnist_quadrants"
    ):
        config.build(replace(FORM, num_observed=0))


@pytest.mark.parametrize("num_observed", [-1, 6])
def test_a_form_with_an_impossible_part_is_refused(num_observed: int) -> None:
    with pytest.raises(ValueError, match="of 6 values given cannot be"):
        replace(FORM, num_observed=num_observed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("corpus={kind: digits}",), "structured_cvae does not fit corpus.kind digits; set corpus.kind=mnist_quad"),
        (("model={kind: vae}",), "vae does not fit corpus.kind digits_quadrants; set model.kind=structured_cvae"),
        (("update={kind: joint}",), "model.freeze_baseline: nothing would train the baseline; set update.kind=pre"),
        (("objective={kind: hybrid, bound_share: 0.0}",), "nothing would train the recognition network; set model.rec"),
        (("corpus.binarisation=grey",), "bernoulli does not fit corpus.binarisation grey"),
    ],
)
def test_what_does_not_fit_is_found_before_a_run(overrides: tuple[str, ...], message: str) -> None:
    command = ["train", "digits_quadrant1", "--dry-run", *(f"--set={each}" for each in overrides)]
    done = CliRunner().invoke(cli.cli, command)
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    "overrides",
    [
        ("objective={kind: hybrid, bound_share: 0.0}", "model.recognition=false"),
        ("model.freeze_baseline=false", "update={kind: joint}", "objective={kind: hybrid}"),
    ],
)
def test_what_fits_is_accepted(overrides: tuple[str, ...]) -> None:
    IMAGE.check(tiny_image_recipe("digits_quadrant1", *overrides))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = tiny_image_recipe("digits_quadrant1", "train.keep_checkpoints=9", "objective={kind: hybrid}")
    return start_image_run(recipe, tmp_path_factory.mktemp("cvae") / "run")


@pytest.fixture
def trained(run: Run) -> TrainedImages:
    return open_trained_images(run)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainedImages:
    model = "model={kind: structured_baseline, network: {kind: mlp, hidden_sizes: [20]}}"
    recipe = tiny_image_recipe("digits_quadrant1", model, "update={kind: joint}")
    return open_trained_images(start_image_run(recipe, tmp_path_factory.mktemp("baseline") / "run"))


def test_a_run_is_measured_by_every_estimator(trained: TrainedImages) -> None:
    found = measure(trained, num_samples=30, limit=60)
    figures, conditional = found.figures, found.figures.conditional
    assert conditional is not None
    assert (conditional.num_observed, conditional.num_scored) == (16, 48)
    assert figures.bits_per_dimension.value == pytest.approx(figures.nll.value / (48 * math.log(2)))
    assert set(conditional.nll_from_prior_ladder) == {"1", "10", "30"}
    assert conditional.nll_from_prior.value == pytest.approx(found.per_example["nll_from_prior"].mean().item())
    assert conditional.accuracy_of_best.value > conditional.accuracy_of_averaged.value
    assert 0.5 < conditional.accuracy_at_prior_mean.value < 1
    assert measure(trained, num_samples=30, limit=60).figures == figures


def test_a_baseline_has_one_exact_likelihood(plain: TrainedImages) -> None:
    found = measure(plain, num_samples=7)
    conditional = found.figures.conditional
    assert found.figures.verdict == "absent"
    assert conditional is not None
    assert conditional.nll_from_prior == found.figures.nll
    assert found.figures.nll.value == pytest.approx(-found.figures.elbo.value)
    exact = -plain.model(plain.splits.test.batch(range(300))).elbo
    torch.testing.assert_close(found.per_example["nll"].float(), exact.detach(), atol=1e-4, rtol=1e-5)
    same = {conditional.accuracy_at_prior_mean, conditional.accuracy_of_averaged, conditional.accuracy_of_best}
    assert len(same) == 1


def test_runs_with_other_parts_given_are_of_other_images(trained: TrainedImages, tmp_path: Path) -> None:
    other = start_image_run(tiny_image_recipe("digits_quadrant1", "corpus.num_quadrants=2"), tmp_path / "two")
    found = compare_runs(KIND, [trained.run, other], num_samples=2, limit=20, say=lambda _: None)
    assert not found.differences[0].estimates


def invoked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.cli, list(map(str, arguments)))
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_the_verbs_draw_and_print(run: Run, plain: TrainedImages, tmp_path: Path) -> None:
    for each in (run, plain.run):
        said = json.loads(invoked("sample", each.path, "-n", "3", "--out", tmp_path / "y.png", "--json"))
        assert said["images"] == list(range(8))
        assert (tmp_path / "y.png").read_bytes().startswith(b"\x89PNG")
        for verb in (("reconstruct",), ("interpolate", "0", "5")):
            assert invoked(verb[0], each.path, *verb[1:], "--out", tmp_path / "z.png").strip().endswith("z.png")
    printed = invoked("measure", run.path, "--samples", "4", "--limit", "20")
    for row in ("NLL (importance weighted)", "NLL (draws of the prior)", "−ELBO", "16 of 64 values", "chosen by truth"):
        assert row in printed
    assert "given to the model" not in invoked("recipes")
    with pytest.raises(ValueError, match="leave --full out"):
        invoked("measure", run.path, "--full")
    with pytest.raises(ValueError, match="--label 1: the model is not conditional"):
        invoked("sample", run.path, "--label", "1")


@pytest.mark.parametrize("name", ["cvae", "baseline"])
def test_both_have_a_page(name: str, trained: TrainedImages, plain: TrainedImages, tmp_path: Path) -> None:
    chosen = {"cvae": trained, "baseline": plain}[name]
    found = compare_runs(KIND, [chosen.run], num_samples=2, limit=20, say=lambda _: None)
    write_comparison(tmp_path / "report.html", found)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.tags.count("img") == {"cvae": 3, "baseline": 2}[name]


def test_a_mean_image_is_where_the_baseline_begins() -> None:
    model = StructuredCvaeConfig(latent_size=2, network=NETWORK).build(FORM)
    mean = np.linspace(0.1, 0.9, 6).reshape(1, 2, 3)
    model.start_at(mean)
    torch.testing.assert_close(model.baseline.output.bias.sigmoid(), torch.from_numpy(mean).float().flatten())


OF_PHOTOGRAPHS = ImageForm(channels=1, height=2, width=2, class_names=(), context_channels=3)


def every_mask() -> ImageBatch:
    """The 2⁴ masks of one photograph."""
    pixels = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64).reshape(16, 1, 2, 2)
    photograph = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    return ImageBatch(pixels=pixels, indices=torch.arange(16), context=photograph.expand(16, -1, -1, -1))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_another_image_as_the_context(kind: str) -> None:
    """Every mask together has probability one given a photograph; x and y are both read, and q alone reads y."""
    batch = every_mask()
    smooth = {
        "mlp": MlpConfig(hidden_sizes=(12, 9)),
        "conv": ConvConfig(channels=(4,), hidden_size=6, activation="tanh"),
    }
    network = smooth[kind]
    torch.manual_seed(0)
    plain = StructuredBaselineConfig(network=network).build(OF_PHOTOGRAPHS).double()
    deep = StructuredCvaeConfig(latent_size=2, network=network).build(OF_PHOTOGRAPHS).double()
    one = torch.zeros(3, dtype=torch.float64)
    for model in (plain, deep):
        z = torch.randn(3, 1, model.latent_size, dtype=torch.float64).expand(-1, 16, -1)
        torch.testing.assert_close(model.log_likelihood(z, batch).logsumexp(1), one)
    other = replace(batch, context=1 - batch.context)
    z = torch.randn(1, 16, 2, dtype=torch.float64)
    assert (deep.outputs(z, batch) != deep.outputs(z, other)).all()
    assert (deep.prior(batch).mean != deep.prior(other).mean).all()
    assert len(deep.prior(batch).mean.unique(dim=0)) == 1
    assert len(deep.posterior(batch).mean.unique(dim=0)) == 16


@pytest.mark.parametrize("channels", [-1, 3_000_000])
def test_a_form_with_an_impossible_context_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match="channels cannot be"):
        replace(OF_PHOTOGRAPHS, context_channels=channels)
    with pytest.raises(ValueError, match="in part, with another image beside them, cannot be"):
        replace(OF_PHOTOGRAPHS, num_observed=1)
