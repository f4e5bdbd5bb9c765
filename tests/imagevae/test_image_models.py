"""What every image model must do, over every member of the union of models, its networks and likelihoods."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from noise_taken import noise_after_draws
from safetensors.torch import load_file, save_file
from tiny import tiny_image_recipe
from torch import Tensor

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.models import (
    CvaeConfig,
    DrawConfig,
    ImageModel,
    ImageModelConfig,
    LayeredVaeConfig,
    PixelCnnConfig,
    PixelVaeConfig,
    StructuredBaselineConfig,
    StructuredCvaeConfig,
    TwoLayerVaeConfig,
    VadeConfig,
    VaeConfig,
)
from imagevae.models.draw import AttentionConfig
from imagevae.networks import ConvConfig, MlpConfig
from imagevae.side import check_likelihood
from imagevae.unet import UnetConfig
from latent.bound import ElboObjective, IwaeObjective
from latent.distributions.flow_heads import IafHeadConfig, PlanarHeadConfig, RadialHeadConfig, SylvesterHeadConfig
from latent.distributions.priors import FlowPriorConfig, MixturePriorConfig
from latent.training.checkpoints import MODEL

MLP, CONV = MlpConfig(hidden_sizes=(14, 9)), ConvConfig(channels=(3, 5), hidden_size=11)
NETWORKS = {"mlp": MLP, "relu mlp": replace(MLP, activation="relu"), "conv": CONV}
OF_STRUCTURED = NETWORKS | {
    "unet": UnetConfig(channels=(4, 6)),
    "unet with z at every scale": UnetConfig(channels=(4, 6), latents_at="every"),
}
SMOOTH = replace(CONV, activation="tanh")  # no unit is silent
LIKELIHOODS = ("bernoulli", "discretised_logistic", "gaussian")
FLOWS: list[dict[str, Any]] = [
    {"posterior": PlanarHeadConfig(length=2), "prior": MixturePriorConfig(num_components=3)},
    {"posterior": RadialHeadConfig(length=2)},
    {"posterior": SylvesterHeadConfig(length=2, num_columns=3)},
    {"posterior": IafHeadConfig(length=2, hidden_size=8), "prior": FlowPriorConfig(hidden_size=8)},
    {"prior": FlowPriorConfig(transform="nsf", length=2, hidden_size=8)},
]
SMALL_DRAW = {"num_steps": 3, "latent_size": 2, "hidden_size": 9}
SMALL_PIXELCNN = {"kernel_sizes": (5, 3, 3), "num_maps": 4, "num_features": 3}
OPTIONS: dict[str, tuple[type, list[dict[str, Any]]]] = {  # of each kind: a new member of the union needs a line here
    "vae": (VaeConfig, [{"latent_size": 4}, *({"latent_size": 4} | parts for parts in FLOWS)]),
    "cvae": (CvaeConfig, [{"latent_size": 4, "prior": prior} for prior in ("standard", "learned")]),
    "draw": (DrawConfig, [SMALL_DRAW, SMALL_DRAW | {"attention": AttentionConfig(read_size=3, write_size=4)}]),
    "pixelcnn": (PixelCnnConfig, [SMALL_PIXELCNN, SMALL_PIXELCNN | {"kernel_sizes": (3,)}]),
    "pixelvae": (PixelVaeConfig, [{"latent_size": 4} | SMALL_PIXELCNN]),
    "layered_vae": (
        LayeredVaeConfig,
        [{"background_size": 3, "foreground_size": 2, "mask_size": 2}, {"background_waves": 9, "foreground_waves": 2}],
    ),
    "structured_baseline": (StructuredBaselineConfig, [{}]),
    "structured_cvae": (StructuredCvaeConfig, [{"latent_size": 4}]),
    "two_layer_vae": (TwoLayerVaeConfig, [{"latent_sizes": (4, 3), "top_hidden_sizes": (6, 5)}]),
    "vade": (VadeConfig, [{"latent_size": 4, "num_clusters": 3}]),
}
BINARY = ("draw", "pixelcnn", "pixelvae", "structured_baseline", "structured_cvae")
OWN_LIKELIHOOD = {"layered_vae": "layers"} | dict.fromkeys(BINARY, "bernoulli")
WITHOUT_NETWORK = ("draw", "pixelcnn")
WITHOUT_Z = ("pixelcnn", "structured_baseline")


def networks_of(kind: str) -> list[tuple[str, dict[str, Any]]]:
    """By name the settings of each network that a kind of model can have."""
    if kind in WITHOUT_NETWORK:
        return [("", {})]
    networks = OF_STRUCTURED if kind.startswith("structured") else NETWORKS
    return [(name, {"network": network}) for name, network in networks.items()]


CASES = [
    pytest.param(config(**options, **network, likelihood=likelihood), id=f"{kind}-{number}-{name}-{likelihood}")
    for kind, (config, choices) in OPTIONS.items()
    for number, options in enumerate(choices)
    for name, network in networks_of(kind)
    for likelihood in ((OWN_LIKELIHOOD[kind],) if kind in OWN_LIKELIHOOD else LIKELIHOODS)
]
SCALED = pytest.param(
    StructuredCvaeConfig(latent_size=4, network=OF_STRUCTURED["unet"], coarser_scales=2),
    id="structured_cvae-unet-coarser scales",
)
FORM = ImageForm(channels=1, height=8, width=8, class_names=("a", "b", "c"))
EVERY_MODEL = pytest.mark.parametrize("config", [*CASES, SCALED])
OF_WHOLE_IMAGES = [case for case in CASES if case.values[0].kind != "layered_vae"]  # decoded as one
WITH_Z = pytest.mark.parametrize("config", [case for case in CASES if case.values[0].kind not in WITHOUT_Z])


def images(config: Any, num_images: int = 7, form: ImageForm = FORM) -> ImageBatch:
    """Grey levels, or bits for a Bernoulli, with every class among the labels."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (num_images, *form.shape), generator=generator) / 255
    pixels = (pixels > 0.5).float() if config.likelihood == "bernoulli" else pixels
    is_given = torch.zeros(form.shape, dtype=torch.bool)
    is_given[:, : form.height // 2] = config.kind.startswith("structured")
    return ImageBatch(
        pixels=pixels,
        indices=torch.arange(num_images),
        labels=torch.arange(num_images) % max(1, form.num_classes),
        context=pixels * is_given if is_given.any() else None,
        scored=~is_given if is_given.any() else None,
    )


def of_kind(config: Any, form: ImageForm) -> ImageForm:
    """The upper half is given to those that read it."""
    return replace(form, num_observed=form.num_pixels // 2) if config.kind.startswith("structured") else form


def built(config: Any, form: ImageForm = FORM) -> ImageModel:
    torch.manual_seed(0)
    model = config.build(of_kind(config, form))
    model.start_at(np.linspace(0, 1, form.num_pixels).reshape(form.shape))
    return model.double()


def log_likelihood_at_the_mean(model: ImageModel, batch: ImageBatch) -> Tensor:
    return model.log_likelihood(model.posterior(batch).mean.unsqueeze(0), batch)[0]


def test_every_model_of_the_union_has_cases() -> None:
    members = get_args(get_args(ImageModelConfig)[0])
    assert {member.kind: member for member in members} == {kind: config for kind, (config, _) in OPTIONS.items()}


@EVERY_MODEL
def test_a_config_knows_of_the_latent_variable_what_its_model_will(config: Any) -> None:
    model = built(config)
    assert config.posterior_is_free == (model.latent_size > 0 and model.posterior_is_free)
    assert config.has_kl_per_dimension == (model(images(config)).kl_per_dimension is not None)
    assert config.has_layers == bool(model.layers)


OBJECTIVES = (ElboObjective(), IwaeObjective(num_samples=3), IwaeObjective(num_samples=3, gradient="dreg"))


@pytest.mark.parametrize(
    ("config", "objective"),
    [
        *((case.values[0], objective) for case in CASES for objective in OBJECTIVES),
        (SCALED.values[0], OBJECTIVES[0]),  # the others have no weight for what is no part of the bound
    ],
)
def test_gradient_reaches_every_parameter(config: Any, objective: ElboObjective | IwaeObjective) -> None:
    model = built(config).train()
    terms = model(images(config, 40), objective.num_samples, path_gradient=objective.path_gradient)
    objective(terms, 0).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@EVERY_MODEL
def test_the_encoder_is_found_and_the_prior_can_be_drawn_from(config: Any) -> None:
    model, batch = built(config), images(config)
    found = {id(parameter) for parameter in model.encoder_parameters(batch)}
    for name, parameter in model.named_parameters():
        is_generative = any(part in name for part in ("decoder", "likelihood", "prior", "mixture", "baseline"))
        assert (id(parameter) in found) is not is_generative, name
    terms = model(batch, 2)
    assert terms.prior.sample((2,)).shape == terms.z.shape
    assert not terms.prior.sample((2,)).requires_grad


@EVERY_MODEL
def test_draws_take_as_much_noise_whether_or_not_they_are_decoded(config: Any) -> None:
    """By which a process passes over the draws that another weighs."""
    assert torch.equal(*noise_after_draws(built(config), images(config)))


@EVERY_MODEL
def test_evaluation_is_deterministic(config: Any) -> None:
    model, batch = built(config).eval(), images(config)
    first = log_likelihood_at_the_mean(model, batch)
    torch.testing.assert_close(log_likelihood_at_the_mean(model, batch), first, atol=0, rtol=0)


@EVERY_MODEL
def test_permuting_a_batch_permutes_every_output(config: Any) -> None:
    model, batch, order = built(config).eval(), images(config), torch.tensor([4, 0, 6, 2, 5, 1, 3])
    permuted = batch.take(order)
    torch.testing.assert_close(model.posterior(permuted).mean, model.posterior(batch).mean[order])
    torch.testing.assert_close(model.posterior(permuted).stddev, model.posterior(batch).stddev[order])
    torch.testing.assert_close(
        log_likelihood_at_the_mean(model, permuted), log_likelihood_at_the_mean(model, batch)[order]
    )
    z = torch.randn(2, 7, model.latent_size, dtype=torch.float64)
    torch.testing.assert_close(model.outputs(z[:, order], permuted), model.outputs(z, batch)[:, order])
    torch.testing.assert_close(model.prior(permuted).log_prob(z[:, order]), model.prior(batch).log_prob(z)[:, order])


@WITH_Z
def test_draws_are_a_leading_dimension(config: Any) -> None:
    model, batch = built(config).eval(), images(config)
    z = torch.randn(3, len(batch), model.latent_size, dtype=torch.float64)
    one_by_one = torch.stack([model.log_likelihood(one.unsqueeze(0), batch)[0] for one in z])
    torch.testing.assert_close(model.log_likelihood(z, batch), one_by_one)
    assert (one_by_one[0] != one_by_one[1]).all()  # and the decoder heeds z
    same = model.log_likelihood(z[:1].expand(3, -1, -1), batch)
    torch.testing.assert_close(same, same[:1].expand(3, -1), atol=1e-12, rtol=0)  # one binarisation


@WITH_Z
def test_log_weight_is_of_the_very_draw(config: Any) -> None:
    """log p(x|z) + log p(z) − log q(z|x) by the model's three parts, with no closed-form KL in it."""
    model, batch = built(config).eval(), images(config)
    terms = model(batch, 4)
    q, p, z = model.posterior(batch), model.prior(batch), terms.z
    expected = model.log_likelihood(z, batch) + p.log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(terms.log_weight, expected)
    assert (terms.log_weight.std(0) > 1e-3).all()


@EVERY_MODEL
def test_batches_of_none_and_of_one(config: Any) -> None:
    model = built(config).eval()
    for num_samples in (1, 2):
        terms = model(images(config, 0), num_samples)
        assert terms.log_weight.shape == (num_samples, 0)
        assert terms.elbo.shape == (0,)
        assert torch.isfinite(model(images(config, 1), num_samples).log_weight).all()
    outputs = model.outputs(torch.zeros(1, 0, model.latent_size, dtype=torch.float64), images(config, 0))
    assert outputs.shape == (1, 0, 3 * 64 + 2 if config.kind == "layered_vae" else 64)  # two layers and a mask
    assert model.likelihood.mean(outputs[0]).shape == (0, 64)
    one = images(config).take(torch.tensor([0]))
    expected = log_likelihood_at_the_mean(model, images(config))[:1]
    torch.testing.assert_close(log_likelihood_at_the_mean(model, one), expected)


@EVERY_MODEL
def test_save_and_load_are_equal(config: Any, tmp_path: Path) -> None:
    model, batch = built(config).eval(), images(config)
    save_file(model.state_dict(), tmp_path / MODEL)
    torch.manual_seed(99)
    other = config.build(of_kind(config, FORM)).double().eval()
    assert (log_likelihood_at_the_mean(other, batch) != log_likelihood_at_the_mean(model, batch)).all()
    other.load_state_dict(load_file(tmp_path / MODEL))
    found = []
    for each in (model, other):
        torch.manual_seed(0)
        found.append(each(batch, 2).log_weight)
    torch.testing.assert_close(*found, atol=0, rtol=0)


@pytest.mark.parametrize("config", OF_WHOLE_IMAGES)
def test_the_decoder_begins_at_the_mean_image(config: Any) -> None:
    """With its last layer's weights at 0 that is all it says."""
    model = built(config)
    for name, parameter in model.named_parameters():
        if name.endswith(
            (
                "decoder.output.weight",
                "baseline.output.weight",
                "output.convolution.weight",
                f"decoder.convolutions.{2 * len(CONV.channels) - 2}.weight",
            )
        ):
            torch.nn.init.zeros_(parameter)
    batch = images(config)
    outputs = model.outputs(torch.randn(1, 7, model.latent_size, dtype=torch.float64), batch)[0]
    expected = torch.linspace(0, 1, 64, dtype=torch.float64).expand(7, -1)
    torch.testing.assert_close(model.likelihood.mean(outputs), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 7, 5), (3, 28, 28), (3, 9, 4)])
@pytest.mark.parametrize("network", [MLP, SMOOTH, replace(SMOOTH, channels=(3,))])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_images_of_any_size(shape: tuple[int, int, int], network: MlpConfig | ConvConfig, likelihood: str) -> None:
    channels, height, width = shape
    form = ImageForm(channels=channels, height=height, width=width, class_names=())
    config = VaeConfig(latent_size=4, network=network, likelihood=likelihood)
    model, batch = built(config, form), images(config, 3, form)
    outputs = model.outputs(torch.randn(2, 3, 4, dtype=torch.float64), batch)
    assert outputs.shape == (2, 3, channels * height * width)
    assert form.images(model.likelihood.mean(outputs[0])).shape == (3, *shape)
    assert (outputs[0] != outputs[1]).all()  # no value that z does not reach
    assert torch.isfinite(model(batch).log_weight).all()


@pytest.mark.parametrize(("height", "width", "most"), [(8, 8, 3), (28, 28, 4), (7, 5, 2), (28, 4, 2)])
def test_too_many_convolutions_are_refused_with_the_most_that_fit(height: int, width: int, most: int) -> None:
    form = ImageForm(channels=1, height=height, width=width, class_names=())
    VaeConfig(latent_size=4, network=ConvConfig(channels=(2,) * most)).build(form)
    with pytest.raises(ValueError, match=f"{most + 1} convolutions .* {height}×{width}; give at most {most} numbers"):
        VaeConfig(latent_size=4, network=ConvConfig(channels=(2,) * (most + 1))).build(form)


def with_constant_class(vae: ImageModel, cvae: ImageModel) -> None:
    """Give a CVAE of one class the VAE's weights: the class' column is a bias, taken off the bias that it has."""
    own, columns = vae.state_dict(), {}
    given = dict(cvae.state_dict())
    for name, tensor in own.items():
        if given[name].shape == tensor.shape:
            given[name] = tensor.clone()
        else:
            column = torch.randn(len(tensor), 1, dtype=tensor.dtype)
            columns[name.removesuffix("weight") + "bias"] = column[:, 0]
            given[name] = torch.cat([tensor, column], 1)
    assert len(columns) == 2  # of the encoder and of the decoder
    for name, column in columns.items():
        given[name] = own[name] - column
    cvae.load_state_dict(given)


@pytest.mark.parametrize("network", [MLP, CONV])
def test_a_cvae_of_a_single_class_is_the_vae(network: MlpConfig | ConvConfig) -> None:
    form = replace(FORM, class_names=("all",))
    plain = VaeConfig(latent_size=4, network=network)
    vae, cvae = built(plain, form), built(CvaeConfig(latent_size=4, network=network), form)
    with_constant_class(vae, cvae)
    batch, found = images(plain, form=form), []
    for model in (vae, cvae):
        torch.manual_seed(7)
        found.append(model(batch, 3))
    for field in ("log_likelihood", "log_prior", "log_posterior", "kl", "z"):
        torch.testing.assert_close(getattr(found[0], field), getattr(found[1], field))


@pytest.mark.parametrize("network", [MLP, CONV])
@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_a_cvae_heeds_the_class_in_encoder_and_decoder(network: MlpConfig | ConvConfig, prior: str) -> None:
    config = CvaeConfig(latent_size=4, network=network, prior=prior)
    model, batch = built(config).eval(), images(config)
    assert batch.labels is not None
    other = replace(batch, labels=(batch.labels + 1) % 3)
    z = torch.randn(1, 7, 4, dtype=torch.float64)
    assert (model.log_likelihood(z, other) != model.log_likelihood(z, batch)).all()
    assert (model.posterior(other).mean != model.posterior(batch).mean).all()
    torch.manual_seed(0)
    nll = -model(batch, 50).importance_weighted_bound()
    torch.manual_seed(0)
    assert ((nll + model(other, 50).importance_weighted_bound()).abs() > 1e-4).all()


def test_a_learned_prior_begins_at_the_standard_one_and_is_the_class_s_own() -> None:
    config = CvaeConfig(latent_size=4, network=MLP, prior="learned")
    model, batch = built(config), images(config)
    z = torch.randn(2, 7, 4, dtype=torch.float64)
    standard = built(replace(config, prior="standard")).prior(batch)
    torch.testing.assert_close(model.prior(batch).log_prob(z), standard.log_prob(z))
    with torch.no_grad():
        model.prior_head.mean.weight.copy_(torch.randn(4, 3))
    means = model.prior(batch).mean
    torch.testing.assert_close(means[0], means[3])  # both of class a
    assert (means[0] != means[1]).all()


def test_a_cvae_needs_labels() -> None:
    with pytest.raises(ValueError, match="the corpus has no labels; use vae"):
        CvaeConfig(latent_size=4, network=MLP).build(replace(FORM, class_names=()))


@pytest.mark.parametrize(
    ("binarisation", "likelihood", "fits"),
    [
        ("dynamic", "bernoulli", True),
        ("threshold", "bernoulli", True),
        ("grey", "bernoulli", False),
        ("grey", "gaussian", True),
        ("grey", "discretised_logistic", True),
        ("dynamic", "gaussian", False),
        ("threshold", "discretised_logistic", False),
    ],
)
def test_binarisation_and_likelihood_must_fit(binarisation: str, likelihood: str, fits: bool) -> None:
    recipe = tiny_image_recipe("digits_vae", f"corpus.binarisation={binarisation}", f"model.likelihood={likelihood}")
    if fits:
        check_likelihood(recipe)
        return
    with pytest.raises(ValueError, match=rf"model.likelihood: {likelihood} does not fit .*{binarisation}; set it to"):
        check_likelihood(recipe)


def test_bits_per_value_are_what_a_uniform_guess_costs() -> None:
    """A Bernoulli of logit 0 gives ln 2 for each pixel, whatever the image."""
    config = VaeConfig(latent_size=4, network=MLP)
    model = built(config)
    torch.nn.init.zeros_(model.decoder.output.weight)
    torch.nn.init.zeros_(model.decoder.output.bias)
    found = model.log_likelihood(torch.zeros(1, 7, 4, dtype=torch.float64), images(config))
    torch.testing.assert_close(found, torch.full((1, 7), -64 * math.log(2), dtype=torch.float64))
