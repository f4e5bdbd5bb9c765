"""VaDE: its bound, its special cases, its first stage, and a resume that is exact before, at and after the switch."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_image_recipe

from corpora.images import ImageBatch, ImageBatches
from imagevae.cluster_starts import MixtureStart, SpectralStart
from imagevae.clusters import measure_clusters
from imagevae.form import ImageForm
from imagevae.models import Vade, VadeConfig
from imagevae.models.vae import VaeConfig
from imagevae.networks import MlpConfig
from imagevae.recipe import ImageRecipe
from imagevae.session import open_trained_images
from imagevae.side import IMAGE, read_material
from latent.bound import ElboObjective
from latent.distributions import diagonal_normal
from latent.measures import encode_split, importance_weighted, measure_split
from latent.training import Run, resume_run, start_run
from latent.training.checkpoints import MODEL, OPTIMIZER

NUM_CLUSTERS = 5
SWITCH = 20  # the step at which the first stage of these runs ends
LAST = 40
FORM = ImageForm(channels=1, height=8, width=8, class_names=tuple("0123456789"))
NETWORK = MlpConfig(hidden_sizes=(20, 12), activation="relu")


def tiny_vade(*overrides: str) -> ImageRecipe:
    settings = (
        f"update.steps={SWITCH}",
        f"train.steps={LAST}",
        "train.checkpoint_steps=10",
        "train.keep_checkpoints=9",
    )
    return tiny_image_recipe("digits_vade", *settings, *overrides)


@pytest.fixture(scope="module")
def batches() -> ImageBatches:
    return read_material(tiny_vade("corpus.binarisation=threshold", "model.likelihood=bernoulli"), None).batches


@pytest.fixture
def batch(batches: ImageBatches) -> ImageBatch:
    return batches[0].take(torch.arange(30))


def built(seed: int = 0, **settings: object) -> Vade:
    torch.manual_seed(seed)
    config = VadeConfig(latent_size=3, **{"num_clusters": NUM_CLUSTERS, "network": NETWORK} | settings)
    return config.build(FORM).double()


@pytest.fixture
def model(batches: ImageBatches) -> Vade:
    """Initialised on the digits."""
    model = built()
    model.initialise((batches[index] for index in range(batches.num_batches)), 0)
    return model


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start_run(IMAGE, tiny_vade(), tmp_path_factory.mktemp("finished") / "run")


def test_the_bound_is_below_that_of_the_importance_weights(model: Vade, batch: ImageBatch) -> None:
    """E_q log_weight is the mixture-prior ELBO; the bound with γ of one draw is at most that."""
    with torch.no_grad():
        terms = model(batch, 4000)
    log_ratio = terms.log_prior - terms.log_posterior
    error = 4 * log_ratio.std(0) / len(log_ratio) ** 0.5
    assert (-terms.kl <= log_ratio.mean(0) + error).all()
    assert terms.kl_per_dimension is None
    assert (terms.elbo <= terms.log_weight.mean(0) + error).all()


def test_one_standard_cluster_is_the_vae(batch: ImageBatch) -> None:
    vade = built(num_clusters=1)
    vae = VaeConfig(latent_size=3, network=NETWORK).build(FORM).double()
    vae.load_state_dict(vade.vae.state_dict())
    vade.mixture.start_at(torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3))
    found = []
    for model in (vade, vae):
        torch.manual_seed(1)
        found.append(model(batch, 2))
    for name in ("log_likelihood", "log_prior", "log_posterior", "kl", "z"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name))


def test_permuting_the_clusters_changes_nothing(model: Vade, batch: ImageBatch) -> None:
    other, order = built(seed=9), torch.tensor([3, 0, 4, 1, 2])
    state = model.state_dict()
    other.load_state_dict({key: value[order] if key.startswith("mixture") else value for key, value in state.items()})
    found = []
    for each in (model, other):
        torch.manual_seed(1)
        found.append(each(batch, 2))
    torch.testing.assert_close(found[0].kl, found[1].kl)
    torch.testing.assert_close(found[0].log_weight, found[1].log_weight)
    z = found[0].z[0]
    torch.testing.assert_close(model.cluster_log_probs(z)[:, order], other.cluster_log_probs(z))


def test_gradient_reaches_every_parameter_after_the_first_stage(model: Vade, batches: ImageBatches) -> None:
    ElboObjective()(model(batches[0]), 0).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_first_stage_reaches_the_autoencoder_alone(batches: ImageBatches) -> None:
    model = built()
    model.pretraining_loss(batches[0]).mean().backward()
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert untouched == {
        "vae.head.log_variance.weight",
        "vae.head.log_variance.bias",
        *(f"mixture.{name}" for name in ("logits", "means", "log_excess_variances")),
    }


def test_the_first_stages_noise_takes_pixels_away_from_what_is_read_alone(batch: ImageBatch) -> None:
    clean, noisy = built(dropped_pixels=0.0), built(dropped_pixels=0.9)
    expected = -clean.log_likelihood(clean.posterior(batch).mean.unsqueeze(0), batch)[0]
    torch.testing.assert_close(clean.pretraining_loss(batch), expected)
    torch.manual_seed(0)
    first = noisy.pretraining_loss(batch)
    torch.manual_seed(0)
    torch.testing.assert_close(noisy.pretraining_loss(batch), first)
    assert (first != expected).all()


def test_initialising_is_a_function_of_images_and_seed_and_leaves_the_networks_alone(
    model: Vade, batches: ImageBatches
) -> None:
    again, untouched = built(), built()
    again.initialise((batches[index] for index in range(batches.num_batches)), 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        started = name.startswith(("mixture", "vae.head.log_variance"))
        assert torch.equal(value, untouched.state_dict()[name]) != started, name
    q = model.posterior(batches[0])
    assert (q.stddev == q.stddev[0]).all()
    assert (q.variance < model.mixture.variances.mean(0)).all()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_mixture_that_begins_is_the_one_that_made_the_points(covariance: str) -> None:
    rng = np.random.default_rng(0)
    centres, deviations = np.array([[0, 0], [10, 0], [0, 20.0]]), np.array([[1, 2], [0.5, 0.5], [3, 1.0]])
    labels = rng.choice(3, size=20_000, p=[0.2, 0.3, 0.5])
    points = centres[labels] + deviations[labels] * rng.normal(size=(20_000, 2))
    found = MixtureStart(covariance=covariance, num_starts=3).find(points, 3, seed=1)
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], [0.2, 0.3, 0.5], atol=0.02)
    np.testing.assert_allclose(found.centres[order], centres, atol=0.2)
    np.testing.assert_allclose(found.variances[order], deviations**2, rtol=0.1)
    assert (np.argsort(order)[found.clusters] == labels).mean() > 0.98


def test_a_spectral_start_finds_clusters_that_no_mixture_of_normals_can_tell_apart() -> None:
    """Three rings about one centre."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 600, 900])
    angles, radii = rng.uniform(0, 2 * math.pi, len(labels)), 2.0 * (labels + 1) + 0.1 * rng.normal(size=len(labels))
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    found = SpectralStart(num_more=0).find(points, 3, seed=0)
    assert len({(a, b) for a, b in zip(found.clusters.tolist(), labels.tolist(), strict=True)}) == 3
    order = np.argsort(found.weights)
    np.testing.assert_allclose(found.weights[order], [1 / 6, 2 / 6, 3 / 6])
    for cluster, label in zip(order, range(3), strict=True):
        np.testing.assert_allclose(found.centres[cluster], points[labels == label].mean(0))
        np.testing.assert_allclose(found.variances[cluster], points[labels == label].var(0), rtol=1e-4)
    again = SpectralStart(num_more=0).find(points, 3, seed=0)
    assert (again.clusters == found.clusters).all()


@pytest.mark.parametrize("start", [MixtureStart(), SpectralStart()])
def test_what_is_held_is_each_images_own_cluster(batches: ImageBatches, start: MixtureStart | SpectralStart) -> None:
    model = built(start=start)
    clusters = model.initialise((batches[index] for index in reversed(range(batches.num_batches))), 0)
    batch = batches[0]
    terms = model.held_terms(batch, clusters[batch.indices], 3, path_gradient=False)
    q, p = model.posterior(batch), model.prior(batch)
    held = diagonal_normal(
        model.mixture.means[clusters[batch.indices]], model.mixture.variances[clusters[batch.indices]].sqrt()
    )
    log_weight = model.mixture.logits.log_softmax(0)[clusters[batch.indices]]
    torch.testing.assert_close(terms.kl, torch.distributions.kl_divergence(q, held) - log_weight)
    torch.testing.assert_close(terms.log_prior, held.log_prob(terms.z) + log_weight)
    assert (terms.log_prior <= p.log_prob(terms.z)).all()  # log p(z, c) ≤ log p(z)
    # the images are in the cluster that their posterior mean is likely to be of
    of_means = p.joint_log_prob(q.mean)
    own = of_means.gather(1, clusters[batch.indices].unsqueeze(1))[:, 0]
    assert (own >= of_means.median(1).values).double().mean() > 0.8


def test_more_clusters_than_images_are_refused(batch: ImageBatch) -> None:
    with pytest.raises(ValueError, match=r"model\.num_clusters: 5 clusters for 4 images"):
        built().initialise(iter([batch.take(torch.arange(4))]), 0)


def test_images_that_are_all_alike_give_a_mixture_nevertheless(batch: ImageBatch) -> None:
    model = built()
    model.initialise(iter([batch.take(torch.zeros(30, dtype=torch.int64))]), 0)
    assert torch.isfinite(model(batch).elbo).all()


def test_draws_of_a_cluster_are_its_own(model: Vade) -> None:
    torch.manual_seed(0)
    for cluster in range(NUM_CLUSTERS):
        z = model.sample_cluster(cluster, 5000)
        torch.testing.assert_close(z.mean(0), model.mixture.means[cluster], atol=0.5, rtol=0)
        torch.testing.assert_close(z.var(0), model.mixture.variances[cluster], rtol=0.2, atol=0)
    for cluster in (-1, NUM_CLUSTERS):
        with pytest.raises(ValueError, match="there are clusters 0 to 4"):
            model.sample_cluster(cluster, 1)


def test_a_batch_of_none_and_of_one(model: Vade, batch: ImageBatch) -> None:
    assert model(batch.take(torch.arange(0)), 2).log_weight.shape == (2, 0)
    assert torch.isfinite(model(batch.take(torch.arange(1)), 2).log_weight).all()


def test_the_measures_need_nothing_more_of_a_mixture(model: Vade, batches: ImageBatches) -> None:
    given = [batches[0].take(torch.arange(30))]
    given = [ImageBatch(pixels=given[0].pixels, indices=torch.arange(30))]
    device = torch.device("cpu")
    model.float()
    split = encode_split(model, given, device)
    weighted = importance_weighted(model, given, device, 200)
    assert (weighted.nll <= -split.elbo + 4).all()
    assert weighted.estimate.value < -split.elbo.mean().item()
    found = measure_split(model, given, device, 20, half_width=None, rows_at_once=500, seed=0)
    assert found.terms.kl_per_dimension is None


def weights_of(run: Run, step: int) -> dict[str, torch.Tensor]:
    folder = run.path / f"checkpoints/step-{step:06d}"
    moments = {f"optimizer {key}": value for key, value in load_file(folder / OPTIMIZER).items()}
    return load_file(folder / MODEL) | moments


@pytest.mark.parametrize("stopped_at", [SWITCH - 10, SWITCH, SWITCH + 10])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(stopped_at: int, finished: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.path, run.path)
    for step in range(stopped_at + 10, LAST + 1, 10):
        shutil.rmtree(run.path / f"checkpoints/step-{step:06d}")
    resume_run(IMAGE, run)
    whole, resumed = weights_of(finished, LAST), weights_of(run, LAST)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_the_stages_are_logged_and_the_clusters_measured(finished: Run) -> None:
    rows = {row["step"]: row for row in finished.metrics() if "loss" in row}
    assert rows[SWITCH - 5]["kl"] == rows[SWITCH - 5]["kl_weight"] == 0
    assert rows[LAST]["kl"] > 0
    assert rows[LAST]["kl_weight"] == 1
    trained = open_trained_images(finished, "last")
    found = measure_clusters(trained, "test")
    assert (found.num_images, found.num_clusters, found.num_classes) == (300, 10, 10)
    assert 0.1 < found.accuracy.value <= 1
    assert found.usage_entropy is not None
    assert 0 <= found.usage_entropy <= np.log(10)
    with pytest.raises(ValueError, match="no such split; there are train, valid, test"):
        measure_clusters(trained, "all")


def test_a_model_without_clusters_is_refused(tmp_path: Path) -> None:
    run = start_run(IMAGE, tiny_image_recipe("digits_vae", "train.steps=2"), tmp_path / "run")
    with pytest.raises(ValueError, match=r"model\.kind vae: has no clusters; train a vade"):
        measure_clusters(open_trained_images(run), "test")


def test_another_model_does_not_take_the_update(tmp_path: Path) -> None:
    recipe = tiny_image_recipe("digits_vae", "update={kind: pretrained, steps: 3}", "train.steps=2")
    with pytest.raises(ValueError, match=r"update\.kind: pretrained .* Vae has none"):
        start_run(IMAGE, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_clusters_that_die_are_seen_in_the_validation(model: Vade, finished: Run) -> None:
    means = model.mixture(model.num_clusters).components.loc[0].detach()
    one = model.validation_figures(diagonal_normal(means[:1].expand(50, -1), torch.ones(50, model.latent_size)))
    all_alike = model.validation_figures(diagonal_normal(means, torch.ones_like(means)))
    assert one["cluster_margin"] < all_alike["cluster_margin"]
    assert one["cluster_margin"] == pytest.approx(one["cluster_entropy"] - math.log(model.num_clusters) + 1)
    assert all("cluster_margin" in row for row in finished.metrics() if row.get("split") == "valid")
