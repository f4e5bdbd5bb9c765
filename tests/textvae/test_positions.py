"""The gain by position: made-up gains by hand, and a model's against its own likelihoods."""

import math
from pathlib import Path

import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus

from corpora import PAD, Sentences, TextBatch, Tokenizer, evaluation_batches
from latent.measures import encode_split, mean_estimate, shuffled_gain
from textvae.models import LstmVaeConfig, SentenceVae
from textvae.positions import gain_by_position, summarise_gains
from textvae.session import open_trained

CPU = torch.device("cpu")


@pytest.fixture
def model(tokenizer: Tokenizer) -> SentenceVae:
    torch.manual_seed(0)
    found = LstmVaeConfig(latent_size=4, embedding_size=8, hidden_size=8).build(len(tokenizer)).double()
    with torch.no_grad():
        found.head.mean.weight *= 30  # so that sentences differ in z, and z in what is written
        found.decoder.lstm.weight_ih_l0 *= 5
    return found


def batches(split: Sentences) -> list[TextBatch]:
    found = list(evaluation_batches(split, 100))
    assert len({batch.tokens.shape[1] for batch in found}) > 2
    return found


def test_token_scores_are_the_steps_and_sum_to_the_likelihood(model: SentenceVae, split: Sentences) -> None:
    model.eval()
    batch = split.batch(torch.arange(7).numpy())
    z = torch.randn(3, 7, 4, dtype=torch.float64)
    with torch.no_grad():
        found = model.token_log_likelihood(z, batch)
        assert found.shape == (3, 7, batch.tokens.shape[1] - 1)
        torch.testing.assert_close(found.sum(-1), model.log_likelihood(z, batch))
        for draw, scores in zip(z, found, strict=True):
            state = model.decoder.start(draw)
            for t in range(scores.shape[1]):
                logits, state = model.decoder.step(batch.tokens[:, t], state)
                expected = logits.log_softmax(-1).gather(1, batch.targets[:, t : t + 1])[:, 0]
                torch.testing.assert_close(scores[:, t], torch.where(batch.mask[:, t], expected, 0.0))
    assert (batch.targets == PAD).any()
    assert (found[:, batch.targets == PAD] == 0).all()
    assert (found[:, batch.targets != PAD] < 0).all()


def test_token_scores_of_no_sentence(model: SentenceVae, split: Sentences) -> None:
    nothing = split.batch(torch.arange(0).numpy())
    assert model.token_log_likelihood(torch.zeros(2, 0, 4, dtype=torch.float64), nothing).shape == (2, 0, 1)


def test_the_positions_sum_to_the_shuffled_gain(model: SentenceVae, split: Sentences) -> None:
    terms = encode_split(model, batches(split), CPU)
    found = gain_by_position(model, batches(split), terms, CPU, seed=3)
    whole = shuffled_gain(model, batches(split), terms, CPU, seed=3).estimate
    assert found.shuffled.value == pytest.approx(whole.value)
    assert found.shuffled.high == pytest.approx(whole.high)
    assert abs(whole.value) > 1e-3
    tokens = torch.as_tensor(split.lengths) - 1
    by_place = sum(
        place.shuffled.value * (tokens.clamp(max=place.last) - place.first + 1).clamp(min=0).sum().item()
        for place in found.positions
    )
    assert by_place / len(split) == pytest.approx(whole.value)
    assert found.positions[-1].last == tokens.max()
    assert [place.num_sentences for place in found.positions] == [
        int((tokens >= place.first).sum()) for place in found.positions
    ]


def test_the_prior_s_gain_is_over_draws_of_the_prior(model: SentenceVae, split: Sentences) -> None:
    terms = encode_split(model, batches(split), CPU)
    found = [gain_by_position(model, batches(split), terms, CPU, seed).prior.value for seed in range(20)]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(9)
        everything = split.batch(torch.arange(60).numpy())
        drawn = model.eval().log_likelihood(torch.randn(200, 60, 4, dtype=torch.float64), everything)
    expected = mean_estimate(-terms.reconstruction - drawn.mean(0)).value
    error = torch.tensor(found).std().item() / math.sqrt(20)
    assert sum(found) / 20 == pytest.approx(expected, abs=4 * error)
    assert error < 0.2 * abs(expected)


def test_a_decoder_that_ignores_z_gains_nothing_and_has_no_share(model: SentenceVae, split: Sentences) -> None:
    with torch.no_grad():
        model.decoder.initial_cell.weight.zero_()
        model.decoder.lstm.weight_ih_l0[:, -4:] = 0
    terms = encode_split(model, batches(split), CPU)
    found = gain_by_position(model, batches(split), terms, CPU)
    for place in found.positions:
        assert place.shuffled.value == pytest.approx(0, abs=1e-12)
        assert place.prior.value == pytest.approx(0, abs=1e-12)
    assert found.first_share is None


def test_means_shares_and_pools_by_hand() -> None:
    # 30 sentences of 4 tokens, 5 more of 7: positions 5 to 7 have too few and join the fourth
    num_tokens = torch.tensor([4] * 30 + [7] * 5)
    gains = torch.zeros(35, 7)
    gains[:, 0], gains[:, 1], gains[:, 3] = 2.0, 1.0, 0.5
    gains[30:, 4:] = 0.1
    gains[::2, 0] = 4.0
    found = summarise_gains(gains, -gains, num_tokens, torch.arange(len(gains)))
    assert [(place.first, place.last, place.num_sentences) for place in found.positions] == [
        (1, 1, 35),
        (2, 2, 35),
        (3, 3, 35),
        (4, 7, 35),
    ]
    first = gains[:, 0].double()
    expected = [first.mean().item(), 1.0, 0.0, (35 * 0.5 + 15 * 0.1) / (35 + 15)]
    assert [place.shuffled.value for place in found.positions] == pytest.approx(expected, rel=1e-6)
    assert [place.prior.value for place in found.positions] == pytest.approx([-x for x in expected], rel=1e-6)
    assert found.positions[0].shuffled.high == pytest.approx(mean_estimate(first).high)
    assert found.first_share is not None
    assert found.first_share.value == pytest.approx(gains[:, :3].sum().item() / gains.sum().item())
    assert found.first_share.low < found.first_share.value < found.first_share.high < 1
    assert found.first_share_of_tokens == pytest.approx(3 * 35 / (30 * 4 + 5 * 7))


def test_the_last_position_that_has_enough_stands_alone_where_none_follows() -> None:
    found = summarise_gains(torch.ones(20, 2), torch.ones(20, 2), torch.full((20,), 2), torch.arange(20))
    assert [(place.first, place.last) for place in found.positions] == [(1, 1), (2, 2)]
    few = summarise_gains(torch.ones(19, 5), torch.ones(19, 5), torch.full((19,), 5), torch.arange(19))
    assert [(place.first, place.last, place.num_sentences) for place in few.positions] == [(1, 5, 19)]
    assert few.positions[0].shuffled.value == 1.0


@pytest.mark.parametrize(("noise", "is_defined"), [(0.5, True), (40.0, False)])
def test_a_share_of_a_gain_that_may_be_nothing_is_not_given(noise: float, is_defined: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    gains = 0.5 + noise * torch.randn(400, 6, generator=generator)
    found = summarise_gains(gains, gains, torch.full((400,), 6), torch.arange(400))
    assert (found.first_share is not None) == is_defined
    if found.first_share is not None:
        assert found.first_share.low < 0.5 < found.first_share.high


def test_one_sentence_has_no_other_z(model: SentenceVae, split: Sentences) -> None:
    one = [split.select(torch.arange(1).numpy()).batch([0])]
    with pytest.raises(ValueError, match="at least two examples"):
        gain_by_position(model, one, encode_split(model, one, CPU), CPU)


def test_of_a_trained_run(tmp_path: Path) -> None:
    trained = open_trained(start_run(tiny_recipe(write_corpus(tmp_path)), tmp_path / "run"))
    parts = list(evaluation_batches(trained.splits.train, 512))
    terms = encode_split(trained.model, parts, trained.device)
    found = gain_by_position(trained.model, parts, terms, trained.device)
    assert found.positions[0].num_sentences == len(terms)
    assert all(math.isfinite(place.prior.high) for place in found.positions)
