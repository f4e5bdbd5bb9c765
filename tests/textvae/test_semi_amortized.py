"""Semi-amortised training of sentence models: the gradient of a tiny one in float64, and what is refused."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_recipe, write_corpus
from typed import textvae

from corpora import TextBatch
from imagevae.side import IMAGE
from latent.training import ConfigError, Recipe, TrainState, build_state
from latent.training.semi_amortized import SemiAmortizedUpdate
from textvae.recipe import TextRecipe
from textvae.side import TEXT

UPDATE = SemiAmortizedUpdate(inner_steps=3, inner_learning_rate=0.1, max_inner_gradient_norm=0.5)
MODELS = {
    "lstm": ("plain", ("model.bidirectional=false",)),
    "gru": ("gru", ()),
    "transformer": ("transformer_vae", ()),
    "iaf": ("iaf2016", ()),
}


def prepared(recipe: TextRecipe) -> tuple[TrainState, TextBatch]:
    material = TEXT.read(recipe, None)
    state = build_state(material, recipe.train)
    state.model.double()
    return state, material.training_data().batches[0]


def loss_of(state: TrainState, batch: TextBatch, recipe: Recipe) -> torch.Tensor:
    torch.manual_seed(3)
    return UPDATE._loss(state, batch, recipe.objective).value


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_of_a_sentence_model_is_that_of_finite_differences(name: str, tmp_path: Path) -> None:
    """Along a random direction of each part's weights, dropout and ε of every step held."""
    recipe_name, overrides = MODELS[name]
    recipe = tiny_recipe(write_corpus(tmp_path), *overrides, recipe=recipe_name)
    state, batch = prepared(recipe)
    loss_of(state, batch, recipe).backward()
    parts = {part: list(module.parameters()) for part, module in state.model.named_children()}
    for part in ("encoder", "head", "decoder"):
        ways = [torch.randn_like(each) for each in parts[part]]
        slope = sum((way * each.grad).sum().item() for way, each in zip(ways, parts[part], strict=True))
        values = []
        for change in (1e-6, -2e-6):
            with torch.no_grad():
                for way, each in zip(ways, parts[part], strict=True):
                    each += change * way
            values.append(loss_of(state, batch, recipe).item())
        with torch.no_grad():
            for way, each in zip(ways, parts[part], strict=True):
                each += 1e-6 * way
        assert abs(slope) > 1e-4, part
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-6), part


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gradient_in_training_s_precisions_is_near_that_of_float64(precision: str, tmp_path: Path) -> None:
    """The kernels there are others: oneDNN's LSTM, products in bfloat16."""
    found = []
    for is_double in (True, False):
        recipe = tiny_recipe(
            write_corpus(tmp_path),
            f"train.precision={'fp32' if is_double else precision}",
            "model+={dropout_in: 0.0, dropout_out: 0.0, bidirectional: false}",
            recipe="plain",
        )
        state, batch = prepared(recipe)
        if not is_double:
            state.model.float()
        # the draws of two types differ: q's mean takes their place
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributions.Normal, "rsample", lambda q, shape=(): q.loc.expand(*shape, *q.loc.shape))
            loss_of(state, batch, recipe).backward()
        found.append(torch.cat([each.grad.flatten().double() for each in state.model.parameters()]))
    error = (found[0] - found[1]).norm() / found[0].norm()
    assert error < {"fp32": 1e-4, "bf16": 0.05}[precision]


@pytest.mark.parametrize("name", ["vmf2018", "deltavae", "lstm_lm"])
def test_a_model_that_cannot_be_refined_is_refused_by_a_dry_run(name: str) -> None:
    done = textvae("train", name, "--set", "update={kind: semi_amortized}", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "update.kind: semi_amortized refines a q that may become any of its family" in done.stderr
    assert "use joint, or model.posterior.kind=normal" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["mnist_vae_2layer", "digits_draw", "digits_pixelcnn"])
def test_so_is_one_of_images(name: str) -> None:
    with pytest.raises(ConfigError, match=r"update\.kind: semi_amortized .* this recipe's model has none"):
        IMAGE.load_recipe(IMAGE.folder / f"{name}.yaml", ("update={kind: semi_amortized}",))


def test_free_bits_of_dimensions_are_refused_where_the_kl_of_images_has_none() -> None:
    for name, part in (("digits_vae", "model.posterior={kind: planar}"), ("digits_vade", "model.latent_size=10")):
        with pytest.raises(ConfigError, match=r"objective\.free_bits: .* no KL per dimension"):
            IMAGE.load_recipe(IMAGE.folder / f"{name}.yaml", (part, "objective={kind: elbo, free_bits: 0.1}"))
