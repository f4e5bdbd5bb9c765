"""What a VAE/GAN cannot be trained with, and how that is said."""

from pathlib import Path

import pytest
from tiny import start_image_run, tiny_image_recipe, tiny_recipe, write_corpus

from imagevae.side import IMAGE
from latent.training import ConfigError, start_run
from textvae.side import TEXT


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["update.reconstruction_share=1.5"], r"update\.reconstruction_share: .*less than or equal to 1"),
        (["update.reconstruction_share=-0.1"], r"update\.reconstruction_share: .*greater than or equal to 0"),
        (["update.feature_layer=4"], r"update\.feature_layer: 4 of a discriminator with 3 layers; set it to 3"),
        (["update.feature_layer=0"], r"update\.feature_layer: .*greater than 0"),
        (["update.channels=[]"], r"update\.channels: "),
        (["update.margin=-1"], r"update\.margin: .*greater than 0"),
    ],
)
def test_values_out_of_range_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_image_recipe("digits_vaegan", *overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model={kind: cvae}"], r"model\.kind: .* does not train a cvae; set model\.kind=vae"),
        (["model={kind: draw}"], r"model\.kind: .* does not train a draw; set model\.kind=vae"),
        (["model={kind: pixelvae}"], r"model\.kind: .* does not train a pixelvae; "),
        (["objective={kind: iwae, num_samples: 5}"], r"objective\.kind: iwae is not for .* set objective\.kind=elbo"),
        (["objective={kind: hybrid}"], r"objective\.kind: hybrid is not for .* set objective\.kind=elbo"),
    ],
)
def test_models_and_objectives_that_do_not_fit_are_found_by_a_dry_run(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IMAGE.check(tiny_image_recipe("digits_vaegan", *overrides))


def test_a_discriminator_too_deep_for_the_images_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    deep = tiny_image_recipe("digits_vaegan", "update.channels=[4, 4, 4, 4]")
    with pytest.raises(ValueError, match=r"update\.channels: 4 convolutions of stride 2 leave nothing of .*8×8"):
        start_image_run(deep, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_sentences_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(write_corpus(tmp_path), "update={kind: vae_gan}")
    with pytest.raises(ValueError, match=r"update\.kind: vae_gan needs a model of images .*SentenceVae.* is none"):
        recipe.update.check(TEXT.read(recipe, None).build_model())
    with pytest.raises(ValueError, match=r"update\.kind: vae_gan trains models of images; "):
        start_run(TEXT, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
