"""What every text model must do, over every member of the union of models and its options."""

from dataclasses import fields, replace
from typing import get_args

import pytest
import torch
from noise_taken import noise_after_draws
from safetensors.torch import load_file, save_file
from torch import Tensor

from corpora import PAD, Sentences, TextBatch, Tokenizer
from latent.bound import ElboObjective
from latent.distributions import kl_divergence, log_prob
from latent.distributions.batch_norm import BatchNormHeadConfig
from latent.distributions.flow_heads import IafHeadConfig, PlanarHeadConfig, RadialHeadConfig, SylvesterHeadConfig
from latent.distributions.posteriors import (
    DeltaHeadConfig,
    FixedScaleHeadConfig,
    VonMisesFisherHeadConfig,
)
from latent.distributions.priors import FlowPriorConfig, MixturePriorConfig, VampPriorConfig
from latent.training.checkpoints import MODEL
from textvae.decoding import Greedy
from textvae.models import ContinuousVaeConfig, LanguageModelConfig, LstmVaeConfig, Model, TransformerVaeConfig
from textvae.noise import WordNoiseConfig
from textvae.transformer import LearnedPositionsConfig
from textvae.vectors import CosineLoss, MaxMarginLoss, VonMisesFisherLoss

SIZES = {
    ContinuousVaeConfig: {"latent_size": 4, "embedding_size": 8, "hidden_size": 8},
    LanguageModelConfig: {"embedding_size": 8, "hidden_size": 8},
    LstmVaeConfig: {"latent_size": 4, "embedding_size": 8, "hidden_size": 8},
    TransformerVaeConfig: {"latent_size": 4, "hidden_size": 8, "num_layers": 2, "num_heads": 2},
}
DROPOUTS = ("word_dropout", "dropout", "dropout_in", "dropout_out", "encoder_dropout")
PARTS_OF_A_VAE = {
    "plain": {},
    "noise": {"encoder_noise": WordNoiseConfig(deletion=0.3, masking=0.2)},
    "bag of words": {"bag_of_words": True},
    "fixed_scale": {"posterior": FixedScaleHeadConfig()},
    "batch_norm": {"posterior": BatchNormHeadConfig()},
    "delta": {"posterior": DeltaHeadConfig()},
    "von_mises_fisher": {"posterior": VonMisesFisherHeadConfig(concentration=5.0)},
    "learned concentration": {"posterior": VonMisesFisherHeadConfig(concentration=5.0, learned_concentration=True)},
    "mixture": {"prior": MixturePriorConfig(num_components=3)},
    "vamp": {"prior": VampPriorConfig(num_components=3, length=4)},
    "planar": {"posterior": PlanarHeadConfig(length=2)},
    "radial": {"posterior": RadialHeadConfig(length=2)},
    "sylvester": {"posterior": SylvesterHeadConfig(length=2, num_columns=3)},
    "iaf, flow": {"posterior": IafHeadConfig(length=2, hidden_size=8), "prior": FlowPriorConfig(hidden_size=8)},
    "splines": {"prior": FlowPriorConfig(transform="nsf", length=2, hidden_size=8)},
}
OPTIONS = {
    ContinuousVaeConfig: {
        "plain": {},
        "all dropouts": {"word_dropout": 0.5, "dropout_in": 0.4, "dropout_out": 0.4, "encoder_dropout": 0.4},
        "skip": {"skip": True},
        "gru, input noise": {"cell": "gru", "input_noise": 0.3},
        "expected inputs, skip": {"expected_inputs": 0.3, "skip": True},
        "vamp, bidirectional": {"prior": VampPriorConfig(num_components=3, length=4), "bidirectional": True},
        "exact": {"loss": VonMisesFisherLoss(norm_penalty=0.0, dot_weight=1.0)},
        "cosine": {"loss": CosineLoss()},
        "max_margin": {"loss": MaxMarginLoss()},
    },
    LanguageModelConfig: {
        "plain": {},
        "tied": {"tie_weights": True},
        "all dropouts": {"word_dropout": 0.5, "dropout_in": 0.4, "dropout_out": 0.4},
        "gru": {"cell": "gru", "input_noise": 0.3, "expected_inputs": 0.3},
    },
    LstmVaeConfig: PARTS_OF_A_VAE
    | {
        "bidirectional": {"bidirectional": True},
        "tied": {"tie_weights": True},
        "all dropouts": {"word_dropout": 0.5, "dropout_in": 0.4, "dropout_out": 0.4, "encoder_dropout": 0.4},
        "skip": {"skip": True},
        "gru": {"cell": "gru", "skip": True, "bidirectional": True},
        "mean": {"pooling": "mean", "bidirectional": True},
        "max": {"pooling": "max"},
        "historyless": {"history": False},
        "historyless gru": {"history": False, "cell": "gru"},
        "input noise": {"input_noise": 0.3},
        "expected inputs": {"expected_inputs": 0.3},
        "vamp, bidirectional": {"prior": VampPriorConfig(num_components=3, length=4), "bidirectional": True},
    },
    TransformerVaeConfig: PARTS_OF_A_VAE
    | {
        "untied": {"tie_weights": False},
        "all dropouts": {"word_dropout": 0.5, "dropout": 0.4, "encoder_dropout": 0.4},
        "prefix": {"injection": "prefix"},
        "layers": {"injection": "layers"},
        "learned": {"positions": LearnedPositionsConfig(max_length=40)},
        "learned, prefix": {"positions": LearnedPositionsConfig(max_length=40), "injection": "prefix"},
        "learned, layers": {"positions": LearnedPositionsConfig(max_length=40), "injection": "layers"},
        "one layer, one head": {"num_layers": 1, "num_heads": 1},
    },
}
KINDS = get_args(get_args(Model)[0])
CONFIGS = {
    f"{kind.__name__}-{name}": kind(**(SIZES[kind] | options))
    for kind in KINDS
    for name, options in OPTIONS[kind].items()
}
CASES = [pytest.param(config, id=name) for name, config in CONFIGS.items()]
OF_WORDS = [pytest.param(config, id=name) for name, config in CONFIGS.items() if config.likelihood == "words"]
WITH_Z = [pytest.param(config, id=name) for name, config in CONFIGS.items() if config.kind != "lm"]
READERS = [pytest.param(config, id=name) for name, config in CONFIGS.items() if "historyless" not in name]  # of words


@pytest.fixture
def batch(split: Sentences) -> TextBatch:
    return split.batch(torch.arange(7).numpy())


def built(config: Model, tokenizer: Tokenizer) -> torch.nn.Module:
    torch.manual_seed(0)
    return config.build(len(tokenizer)).double()


def without_dropout(config: Model) -> Model:
    return replace(config, **{field.name: 0.0 for field in fields(config) if field.name in DROPOUTS})


def padded(batch: TextBatch, columns: int) -> TextBatch:
    extra = batch.tokens.new_full((len(batch), columns), PAD)
    rows, width = batch.scored // batch.targets.shape[1], extra.shape[1]
    return replace(batch, tokens=torch.cat([batch.tokens, extra], 1), scored=batch.scored + rows * width)


def deterministic_elbo(model: torch.nn.Module, batch: TextBatch) -> Tensor:
    """The bound at the posterior mean."""
    q = model.posterior(batch)
    return model.log_likelihood(q.mean.unsqueeze(0), batch)[0]


def kl_at(model: torch.nn.Module, batch: TextBatch, z: Tensor) -> Tensor:
    """The KL as the bound has it, in closed form or by the given draws."""
    q, p = model.posterior(batch), model.prior(batch)
    return kl_divergence(q, p, log_prob(q, z) - log_prob(p, z)).total


@pytest.mark.parametrize("config", CASES)
def test_gradient_reaches_every_parameter(config: Model, tokenizer: Tokenizer, split: Sentences) -> None:
    model = built(config, tokenizer).train()
    ElboObjective()(model(split.batch(torch.arange(60).numpy())), 0).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", CASES)
def test_the_encoder_is_found_and_the_prior_can_be_drawn_from(
    config: Model, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    model = built(config, tokenizer)
    found = {id(parameter) for parameter in model.encoder_parameters(batch)}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in found) is not name.startswith(("decoder.", "latent_prior.", "bag_of_words.")), name
    terms = model(batch, 2)
    assert terms.prior.sample((2,)).shape == terms.z.shape


@pytest.mark.parametrize("config", CASES)
def test_a_config_knows_of_the_latent_variable_what_its_model_will(
    config: Model, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    model = built(config, tokenizer)
    assert config.posterior_is_free == (model.latent_size > 0 and model.posterior_is_free)
    assert config.has_kl_per_dimension == (model(batch).kl_per_dimension is not None)
    assert config.has_layers == bool(model.layers)


@pytest.mark.parametrize("config", CASES)
def test_evaluation_is_deterministic_and_training_is_not(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    model = built(config, tokenizer).eval()
    torch.testing.assert_close(deterministic_elbo(model, batch), deterministic_elbo(model, batch), atol=0, rtol=0)
    model.train()
    assert (deterministic_elbo(model, batch) != deterministic_elbo(model, batch)).all()


@pytest.mark.parametrize("config", READERS)
def test_word_dropout_changes_nothing_in_evaluation(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    plain = built(without_dropout(config), tokenizer)
    dropping = built(replace(config, word_dropout=1.0), tokenizer)
    dropping.load_state_dict(plain.state_dict())
    a, b = deterministic_elbo(plain.eval(), batch), deterministic_elbo(dropping.eval(), batch)
    torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("config", CASES)
def test_permuting_a_batch_permutes_every_output(config: Model, tokenizer: Tokenizer, split: Sentences) -> None:
    model = built(config, tokenizer).eval()
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    batch, permuted = split.batch(torch.arange(7).numpy()), split.batch(order.numpy())
    torch.testing.assert_close(model.posterior(permuted).mean, model.posterior(batch).mean[order])
    torch.testing.assert_close(deterministic_elbo(model, permuted), deterministic_elbo(model, batch)[order])
    terms = model(batch, 2)
    torch.testing.assert_close(kl_at(model, permuted, terms.z[:, order]), kl_at(model, batch, terms.z)[order])
    torch.testing.assert_close(kl_at(model, batch, terms.z), terms.kl)


@pytest.mark.parametrize("config", CASES)
def test_padding_changes_nothing(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    model = built(config, tokenizer).eval()
    more = padded(batch, 3)
    torch.testing.assert_close(model.posterior(more).mean, model.posterior(batch).mean)
    torch.testing.assert_close(model.posterior(more).stddev, model.posterior(batch).stddev)
    torch.testing.assert_close(deterministic_elbo(model, more), deterministic_elbo(model, batch))


@pytest.mark.parametrize("config", READERS)
def test_a_token_changes_no_score_at_or_before_it(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    """Teacher forcing, a step at a time: scores up to t see the tokens before t alone."""
    model = built(config, tokenizer).eval()
    z = torch.randn(len(batch), model.latent_size, dtype=torch.float64)

    def scores(tokens: Tensor) -> Tensor:
        state, rows = model.decoder.start(z), []
        for column in tokens[:, :-1].T:
            logits, state = model.decoder.step(column, state)
            rows.append(logits)
        return torch.stack(rows, 1)

    before = scores(batch.tokens)
    changed = batch.tokens.clone()
    changed[:, 3] = torch.where(changed[:, 3] == 5, 6, 5)
    after = scores(changed)
    torch.testing.assert_close(after[:, :3], before[:, :3], atol=0, rtol=0)  # they predict tokens 1, 2 and 3
    assert (after[:, 3] != before[:, 3]).any(1).all()


@pytest.mark.parametrize("config", OF_WORDS)
def test_stepwise_scores_sum_to_the_likelihood_and_to_one(
    config: Model, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    model = built(config, tokenizer).eval()
    z = torch.randn(len(batch), model.latent_size, dtype=torch.float64)
    state, total = model.decoder.start(z), torch.zeros(len(batch), dtype=torch.float64)
    for t in range(batch.tokens.shape[1] - 1):
        logits, state = model.decoder.step(batch.tokens[:, t], state)
        log_probs = logits.log_softmax(-1)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(len(batch), dtype=torch.float64))
        target = batch.targets[:, t : t + 1]
        total += torch.where(batch.mask[:, t], log_probs.gather(1, target)[:, 0], 0.0)
    torch.testing.assert_close(model.log_likelihood(z.unsqueeze(0), batch)[0], total)


@pytest.mark.parametrize("config", CASES)
def test_samples_are_a_leading_dimension(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    model = built(config, tokenizer).eval()
    z = torch.randn(3, len(batch), model.latent_size, dtype=torch.float64)
    together = model.log_likelihood(z, batch)
    one_by_one = torch.stack([model.log_likelihood(one.unsqueeze(0), batch)[0] for one in z])
    torch.testing.assert_close(together, one_by_one)


@pytest.mark.parametrize("config", WITH_Z)
def test_draws_take_as_much_noise_whether_or_not_they_are_decoded(
    config: Model, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    """By which a process passes over the draws that another weighs."""
    assert torch.equal(*noise_after_draws(built(config, tokenizer), batch))


@pytest.mark.parametrize("config", CASES)
def test_save_and_load_are_equal(config: Model, tokenizer: Tokenizer, batch: TextBatch, tmp_path: object) -> None:
    model = built(config, tokenizer).eval()
    save_file(model.state_dict(), f"{tmp_path}/{MODEL}")
    torch.manual_seed(99)
    other = config.build(len(tokenizer)).double().eval()
    other.load_state_dict(load_file(f"{tmp_path}/{MODEL}"))
    torch.testing.assert_close(deterministic_elbo(other, batch), deterministic_elbo(model, batch), atol=0, rtol=0)


@pytest.mark.parametrize("config", CASES)
def test_batches_of_none_and_of_one(config: Model, tokenizer: Tokenizer, split: Sentences) -> None:
    model = built(config, tokenizer).eval()
    nothing, one = split.batch(torch.arange(0).numpy()), split.batch(torch.arange(1).numpy())
    assert model(nothing, 2).log_weight.shape == (2, 0)
    assert torch.isfinite(model(one, 2).log_weight).all()
    z = torch.zeros(0, model.latent_size, dtype=torch.float64)
    assert len(model.decode(z, Greedy(), max_length=5)) == 0


@pytest.mark.parametrize("config", WITH_Z)
def test_the_likelihood_depends_on_z_at_every_position(config: Model, tokenizer: Tokenizer, batch: TextBatch) -> None:
    model = built(config, tokenizer).eval()
    a, b = torch.zeros(2, model.latent_size, dtype=torch.float64)[:, None].expand(-1, len(batch), -1)
    b = b + 1.0
    state_a, state_b = model.decoder.start(a.contiguous()), model.decoder.start(b)
    for t in range(batch.tokens.shape[1] - 1):
        scores_a, state_a = model.decoder.step(batch.tokens[:, t], state_a)
        scores_b, state_b = model.decoder.step(batch.tokens[:, t], state_b)
        assert (scores_a != scores_b)[:, 2:].any(1).all(), t


@pytest.mark.parametrize("kind", [LstmVaeConfig, TransformerVaeConfig])
def test_the_last_word_of_the_vocabulary_learns(kind: type, tokenizer: Tokenizer, split: Sentences) -> None:
    """`padding_idx=-1` froze it in a copied code base."""
    model = built(kind(**SIZES[kind]), tokenizer).train()
    ElboObjective()(model(split.batch(torch.arange(60).numpy())), 0).value.backward()
    assert model.decoder.embedding.weight.grad[-1].abs().sum() > 0
    assert model.encoder.embedding.weight.grad[-1].abs().sum() > 0


def test_an_unequal_tie_is_refused() -> None:
    for kind in (LanguageModelConfig, LstmVaeConfig):
        with pytest.raises(ValueError, match="tie_weights needs"):
            kind(embedding_size=8, hidden_size=12, tie_weights=True)
