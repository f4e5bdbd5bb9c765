"""Losses of predicted word vectors against SciPy and by hand, and decoding to the nearest word."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import gammaln, ive
from torch import Tensor

from corpora import BOS, EOS, PAD, UNK, Sentences, Tokenizer
from textvae.models import ContinuousVaeConfig, SentenceVae
from textvae.vectors import CosineLoss, MaxMarginLoss, VectorLoss, VectorOutput, VonMisesFisherLoss, WordSpace

SIZES = {"latent_size": 4, "embedding_size": 8, "hidden_size": 8}
LOSSES = (VonMisesFisherLoss(), CosineLoss(), MaxMarginLoss())
EXACT = VonMisesFisherLoss(norm_penalty=0.0, dot_weight=1.0)
NUM_IDS = 30


def word_space(size: int, seed: int = 0) -> WordSpace:
    torch.manual_seed(seed)
    return WordSpace(NUM_IDS, size)


def log_normaliser(size: int, kappa: np.ndarray) -> np.ndarray:
    """ln C by SciPy; near 0, where its Bessel function underflows, by the first two terms of the power series."""
    order = size / 2 - 1
    scaled = ive(order, kappa)
    with np.errstate(divide="ignore"):
        by_scipy = np.log(scaled) + kappa
    series = order * np.log(kappa / 2) - gammaln(order + 1) + np.log1p(kappa**2 / 4 / (order + 1))
    log_bessel = np.where(scaled > 1e-290, by_scipy, series)
    return order * np.log(kappa) - size / 2 * math.log(2 * math.pi) - log_bessel


@pytest.mark.parametrize("size", [2, 16, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_loss_is_the_density_of_scipy(size: int, dtype: torch.dtype) -> None:
    space = word_space(size).to(dtype)
    kappa = torch.logspace(-3, 3, NUM_IDS - EOS, dtype=dtype)
    targets = torch.arange(EOS, NUM_IDS)
    predicted = F.normalize(torch.randn(len(targets), size, dtype=dtype), dim=-1) * kappa[:, None]
    expected = log_normaliser(size, kappa.double().numpy()) + (predicted * space(targets)).sum(-1).double().numpy()
    found = EXACT.log_score(predicted, targets, space, True)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=3e-6, atol=3e-4 if dtype == torch.float32 else 0)


@pytest.mark.parametrize("size", [16, 300])
def test_the_gradient_in_kappa_is_the_cosine_less_the_mean_length(size: int) -> None:
    """So the exact loss is smallest where \\(A_D(\\kappa)\\) is the cosine."""
    space = word_space(size).double()
    kappa = torch.logspace(0.5, 3, 20, dtype=torch.float64, requires_grad=True)
    direction = F.normalize(torch.randn(20, size, dtype=torch.float64), dim=-1)
    targets = torch.arange(EOS, EOS + 20)
    EXACT.log_score(direction * kappa[:, None], targets, space, False).sum().backward()
    values, order = kappa.detach().numpy(), size / 2 - 1
    is_known = ive(order + 1, values) > 1e-290
    mean_length = ive(order + 1, values)[is_known] / ive(order, values)[is_known]
    expected = (direction * space(targets)).sum(-1).numpy()[is_known] - mean_length
    assert is_known.sum() > 8
    np.testing.assert_allclose(kappa.grad.numpy()[is_known], expected, atol=1e-8)


def test_the_density_over_a_circle_integrates_to_one() -> None:
    angles = torch.arange(NUM_IDS - EOS, dtype=torch.float64) * (2 * math.pi / (NUM_IDS - EOS))
    space = word_space(2).double()
    space.vectors[EOS:] = torch.stack([angles.cos(), angles.sin()], 1)
    predicted = torch.tensor([[0.6, -1.9]], dtype=torch.float64).expand(len(angles), 2)
    density = EXACT.log_score(predicted, torch.arange(EOS, NUM_IDS), space, False).exp()
    torch.testing.assert_close(density.mean() * 2 * math.pi, torch.tensor(1.0, dtype=torch.float64))


def test_the_regularisers_are_those_of_the_training_alone() -> None:
    space, targets = word_space(8).double(), torch.arange(EOS, 12)
    predicted = 5 * torch.randn(len(targets), 8, dtype=torch.float64)
    loss = VonMisesFisherLoss(norm_penalty=0.3, dot_weight=0.4)
    density = EXACT.log_score(predicted, targets, space, True)
    torch.testing.assert_close(loss.log_score(predicted, targets, space, False), density)
    dot, kappa = (predicted * space(targets)).sum(-1), predicted.norm(dim=-1)
    constant = density - dot  # ln C
    torch.testing.assert_close(loss.log_score(predicted, targets, space, True), constant + 0.4 * dot - 0.3 * kappa)


def test_cosine_and_margin_are_those_by_hand() -> None:
    space = word_space(2).double()
    east, north, west = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    space.vectors[EOS:], space.vectors[5], space.vectors[6] = west, east, north
    predicted = torch.tensor([[3.0, 0.0], [4.0, 3.0]], dtype=torch.float64)
    targets = torch.tensor([5, 6])
    torch.testing.assert_close(
        CosineLoss().log_score(predicted, targets, space, True), torch.tensor([0.0, 0.6 - 1], dtype=torch.float64)
    )
    assert space.rivals(F.normalize(predicted, dim=-1), targets).tolist() == [6, 5]
    found = MaxMarginLoss(margin=0.5).log_score(predicted, targets, space, True)
    torch.testing.assert_close(found, torch.tensor([0.0, -(0.5 + 0.8 - 0.6)], dtype=torch.float64))


def test_rivals_are_neither_targets_nor_words_without_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    space = word_space(8)
    space.is_known[10:20] = False
    targets = torch.arange(EOS, NUM_IDS)
    whole = space.rivals(space(targets), targets)
    assert not (whole == targets).any()
    assert not set(whole.tolist()) & {PAD, BOS, *range(10, 20)}
    monkeypatch.setattr("textvae.vectors.SCORES_AT_ONCE", 3 * NUM_IDS)
    assert (space.rivals(space(targets), targets) == whole).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_decoding_finds_the_nearest_word_that_can_be_written(loss: VectorLoss) -> None:
    space = word_space(8)
    space.is_known[7] = False
    output = VectorOutput(space, 5, 8, loss)
    states = torch.randn(200, 5)
    logits = output.logits(states)
    cosine = F.normalize(output.prediction(states), dim=-1) @ space.vectors.t()
    cosine[:, [PAD, BOS, 7]] = -2
    assert (logits.argmax(1) == cosine.argmax(1)).all()
    assert (logits[:, [PAD, BOS, 7]] == -math.inf).all()
    assert torch.isfinite(logits[:, [EOS, *range(8, NUM_IDS)]]).all()


def test_logits_of_the_density_differ_as_its_logarithms() -> None:
    space = word_space(8).double()
    output = VectorOutput(space, 5, 8, VonMisesFisherLoss()).double().eval()
    states, targets = torch.randn(1, 5, dtype=torch.float64), torch.arange(EOS, NUM_IDS)
    log_prob = output.log_prob(states.expand(len(targets), 5), targets)
    difference = output.logits(states)[0, EOS:] - log_prob
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_teacher_forcing_scores_what_stepping_does(loss: VectorLoss, tokenizer: Tokenizer, split: Sentences) -> None:
    torch.manual_seed(0)
    model: SentenceVae = ContinuousVaeConfig(**SIZES, loss=loss).build(len(tokenizer)).double().eval()
    batch = split.batch(np.arange(6))
    z = torch.randn(6, 4, dtype=torch.float64)
    whole = model.token_log_likelihood(z.unsqueeze(0), batch)[0]
    state, steps, words = model.decoder.start(z), [], []
    for t in range(batch.mask.shape[1]):
        logits, state = model.decoder.step(batch.tokens[:, t], state)
        steps.append(model.decoder.output.log_prob(state.carried[0], batch.targets[:, t]))
        words.append(logits.argmax(1))
    torch.testing.assert_close(torch.stack(steps, 1) * batch.mask, whole)
    assert (model.next_words(z, batch.tokens) == torch.stack(words, 1)).all()


def test_the_space_does_not_learn(tokenizer: Tokenizer, split: Sentences) -> None:
    model = ContinuousVaeConfig(**SIZES).build(len(tokenizer))
    before: Tensor = model.decoder.embedding.vectors.clone()
    assert "decoder.embedding.vectors" not in dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    (-model(split.batch(np.arange(20))).log_likelihood.mean()).backward()
    optimizer.step()
    assert (model.decoder.embedding.vectors == before).all()


def test_a_missing_word_is_no_rival_of_itself() -> None:
    """It has the vector of `<unk>`, which is therefore not another word."""
    space = WordSpace(8, 4)
    space.vectors[5], space.is_known[5] = space.vectors[UNK], False
    directions = space.vectors[[UNK, UNK]]
    found = space.rivals(directions, torch.tensor([5, UNK]))
    assert found[0] == found[1] != UNK
