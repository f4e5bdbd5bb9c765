"""The two-layer VAE: its parts, the paper's sizes, and that training and measuring take it."""

from pathlib import Path

import pytest
import torch
from test_image_models import MLP, built, images
from tiny import tiny_image_recipe

from imagevae.form import ImageForm
from imagevae.measuring import measure
from imagevae.models import TwoLayerVaeConfig, VaeConfig
from imagevae.session import open_trained_images
from imagevae.side import IMAGE
from latent.distributions import log_prob, standard_normal
from latent.measures import active_units
from latent.training import start_run

SMALL = TwoLayerVaeConfig(latent_sizes=(4, 3), top_hidden_sizes=(6, 5), network=MLP)


def test_the_weight_has_the_five_terms_of_the_paper() -> None:
    model, batch = built(SMALL), images(SMALL)
    terms = model(batch, 6)
    assert terms.z.shape == (6, 7, 7)
    z1, z2 = terms.z[..., :4], terms.z[..., 4:]
    bottom = model.bottom.posterior(batch)
    up, down = model.top_encoder(z1.flatten(0, 1)), model.top_decoder(z2.flatten(0, 1))
    expected = (
        model.bottom.log_likelihood(z1, batch)
        + log_prob(down, z1.flatten(0, 1)).view(6, 7)
        + log_prob(standard_normal(7, 3, z2), z2)
        - log_prob(bottom, z1)
        - log_prob(up, z2.flatten(0, 1)).view(6, 7)
    )
    torch.testing.assert_close(terms.log_weight, expected)
    torch.testing.assert_close(terms.kl, (terms.log_posterior - terms.log_prior).mean(0))
    assert not terms.kl_is_closed_form


def test_one_draw_s_bound_is_the_elbo() -> None:
    model, batch = built(SMALL), images(SMALL)
    terms = model(batch, 1)
    torch.testing.assert_close(terms.elbo, terms.importance_weighted_bound())


def test_pixels_see_the_lower_layer_alone() -> None:
    model, batch = built(SMALL), images(SMALL)
    z = torch.randn(2, 7, 7, dtype=torch.float64)
    lower, upper = z.clone(), z.clone()
    lower[..., 3] += 1.0
    upper[..., 4:] += 1.0
    torch.testing.assert_close(model.log_likelihood(upper, batch), model.log_likelihood(z, batch), atol=0, rtol=0)
    assert (model.log_likelihood(lower, batch) != model.log_likelihood(z, batch)).all()


def test_draws_go_from_the_top_down() -> None:
    """p(z₁) has the spread of z₂ in it: the prior's draws of z₁ follow their own z₂."""
    model, batch = built(SMALL), images(SMALL)
    with torch.no_grad():
        model.top_decoder.head.log_variance.weight.zero_()
        model.top_decoder.head.log_variance.bias.fill_(-12.0)
        z = model.prior(batch).sample((50,))
        expected = model.top_decoder(z[..., 4:].flatten(0, 1)).mean
    torch.testing.assert_close(z[..., :4].flatten(0, 1), expected, atol=0.02, rtol=0)
    assert z[..., 4:].std() == pytest.approx(1.0, abs=0.1)


def test_with_a_silent_top_it_is_the_one_layer_vae() -> None:
    """q(z₂|z₁) = p(z₂) and p(z₁|z₂) = N(0, I): the top layer's terms cancel."""
    model, plain = built(SMALL), built(VaeConfig(latent_size=4, network=MLP))
    for module in (model.top_encoder.head, model.top_decoder.head):
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)
    plain.load_state_dict(model.bottom.state_dict())
    batch = images(SMALL)
    terms = model(batch, 5)
    z1 = terms.z[..., :4]
    q = plain.posterior(batch)
    expected = plain.log_likelihood(z1, batch) + plain.prior(batch).log_prob(z1) - q.log_prob(z1)
    torch.testing.assert_close(terms.log_weight, expected)
    assert active_units(model.posterior(batch).mean.detach()).count.value <= 4


def test_the_defaults_are_the_sizes_of_the_paper() -> None:
    form = ImageForm(channels=1, height=28, width=28, class_names=())
    model = TwoLayerVaeConfig().build(form)
    assert model.latent_size == 150
    shapes = [tuple(weight.shape) for name, weight in model.named_parameters() if name.endswith("weight")]
    encoder = [(200, 784), (200, 200), (100, 200), (100, 200)]
    decoder = [(200, 100), (200, 200), (784, 200)]
    top_encoder = [(100, 100), (100, 100), (50, 100), (50, 100)]
    top_decoder = [(100, 50), (100, 100), (100, 100), (100, 100)]
    assert shapes == [*encoder, *decoder, *top_encoder, *top_decoder]


@pytest.mark.parametrize(
    ("name", "kind", "num_samples"),
    [("mnist_vae_2layer", "elbo", 1), ("mnist_iwae5_2layer", "iwae", 5), ("mnist_iwae50", "iwae", 50)],
)
def test_recipes_differ_from_the_one_layer_vae_s_in_model_and_objective_alone(
    name: str, kind: str, num_samples: int
) -> None:
    plain = IMAGE.load_recipe(IMAGE.folder / "mnist_vae.yaml")
    recipe = IMAGE.load_recipe(IMAGE.folder / f"{name}.yaml")
    assert (recipe.corpus, recipe.train, recipe.update) == (plain.corpus, plain.train, plain.update)
    assert recipe.model == (TwoLayerVaeConfig() if "2layer" in name else plain.model)
    assert (recipe.objective.kind, recipe.objective.num_samples) == (kind, num_samples)
    assert recipe.train.num_steps(2980) == 2980 * 121


@pytest.mark.parametrize(("name", "gradient"), [("mnist_vae_2layer", ()), ("mnist_iwae5_2layer", ("dreg",))])
def test_it_is_trained_and_measured(name: str, gradient: tuple[str, ...], tmp_path: Path) -> None:
    overrides = ["model.latent_sizes=[6, 3]", "model.top_hidden_sizes=[8]", "train.learning_rate=0.003"]
    recipe = tiny_image_recipe(name, *overrides, *(f"objective.gradient={each}" for each in gradient))
    trained = open_trained_images(start_run(IMAGE, recipe, tmp_path / "run"))
    figures = measure(trained, num_samples=50, limit=100).figures
    assert figures.kl_per_dimension == ()
    assert figures.nll.value < -figures.elbo.value
    assert figures.kl.value > 0
    assert 0 <= figures.active_units.value <= 9
    again = measure(trained, num_samples=50, limit=100).figures
    assert again == figures
    adaptive = measure(trained, num_samples=100, limit=100, half_width=2.0).figures
    assert adaptive.nll.value == pytest.approx(figures.nll.value, abs=1.0)


def test_what_is_encoded_without_gradients_has_none() -> None:
    model, batch = built(SMALL), images(SMALL)
    with torch.no_grad():
        q = model.posterior(batch)
    assert not q.log_prob(q.sample()).requires_grad
    assert not q.mean.requires_grad
    torch.testing.assert_close(q.mean[:, :4], model.bottom.posterior(batch).mean.detach())
