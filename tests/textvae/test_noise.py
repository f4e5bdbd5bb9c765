"""Noise on words: what it leaves alone, its shares, its schedule, and that evaluation knows nothing of it."""

import pytest
import torch
from torch import Tensor

from corpora import BOS, EOS, PAD, UNK, Sentences, Tokenizer
from latent.bound import Constant, Linear
from latent.training import ConfigError
from textvae.models import LstmVaeConfig
from textvae.noise import WordDropout, WordNoise, WordNoiseConfig
from textvae.side import TEXT

SIZES = {"latent_size": 4, "embedding_size": 8, "hidden_size": 8}


def sentences(num: int, length: int) -> tuple[Tensor, Tensor]:
    """Sentences of up to `length` distinct words in rising order."""
    lengths = torch.randint(2, length + 3, (num,))
    positions = torch.arange(length + 2)
    tokens = torch.where(positions < lengths[:, None] - 1, positions + UNK, PAD)
    tokens[:, 0] = BOS
    return torch.where(positions == lengths[:, None] - 1, EOS, tokens), lengths


def test_deletion_keeps_the_order_the_ends_and_the_lengths_right() -> None:
    torch.manual_seed(0)
    tokens, lengths = sentences(300, 20)
    found, new_lengths = WordNoise(deletion=0.3, masking=0.0).train()(tokens, lengths)
    for row, length, old, old_length in zip(found, new_lengths, tokens, lengths, strict=True):
        words = row[1 : length - 1].tolist()
        assert (row[0], row[length - 1]) == (BOS, EOS)
        assert words == sorted(words)
        assert set(words) <= set(old[1 : old_length - 1].tolist())
        assert (row[length:] == PAD).all()
    num_words = int((lengths - 2).sum())
    assert int((lengths - new_lengths).sum()) / num_words == pytest.approx(0.3, abs=0.03)


def test_masking_replaces_its_share_of_the_words_and_moves_none() -> None:
    torch.manual_seed(0)
    tokens, lengths = sentences(300, 20)
    tokens[tokens == UNK] = UNK + 100
    found, new_lengths = WordNoise(deletion=0.0, masking=0.4).train()(tokens, lengths)
    assert torch.equal(new_lengths, lengths)
    masked = found == UNK
    assert torch.equal(found[~masked], tokens[~masked])
    assert not (masked & ((tokens == BOS) | (tokens == EOS) | (tokens == PAD))).any()
    assert int(masked.sum()) / int((lengths - 2).sum()) == pytest.approx(0.4, abs=0.03)


def test_deletion_of_nearly_all_leaves_the_ends() -> None:
    tokens, lengths = sentences(50, 5)
    found, new_lengths = WordNoise(deletion=1 - 1e-9, masking=0.0).train()(tokens, lengths)
    assert torch.equal(found[:, :2], torch.tensor([BOS, EOS]).expand(50, 2))
    assert (new_lengths == 2).all()


def test_evaluation_reads_the_words_as_they_are(tokenizer: Tokenizer, split: Sentences) -> None:
    batch = split.batch(range(20))
    noisy = LstmVaeConfig(**SIZES, encoder_noise=WordNoiseConfig(deletion=0.5, masking=0.5)).build(len(tokenizer))
    plain = LstmVaeConfig(**SIZES).build(len(tokenizer))
    plain.load_state_dict(noisy.state_dict())
    assert torch.equal(noisy.eval().posterior(batch).mean, plain.eval().posterior(batch).mean)
    assert not torch.equal(noisy.train().posterior(batch).mean, plain.train().posterior(batch).mean)


def test_noise_on_the_encoder_s_words_leaves_the_targets_alone(tokenizer: Tokenizer, split: Sentences) -> None:
    batch = split.batch(range(20))
    config = LstmVaeConfig(**SIZES, encoder_noise=WordNoiseConfig(deletion=0.9), dropout_in=0.0, dropout_out=0.0)
    model = config.build(len(tokenizer)).train()
    z = torch.randn(1, 20, 4)
    found = model.log_likelihood(z, batch)
    assert torch.equal(found, model.eval().log_likelihood(z, batch))


def test_word_dropout_follows_its_schedule_and_spares_the_start() -> None:
    dropout = WordDropout(0.8, Linear(start=1.0, end=0.25, steps=100)).train()
    tokens = torch.full((200, 50), UNK + 5)
    tokens[:, 0] = BOS
    for step, share in ((0, 0.8), (50, 0.5), (100, 0.2), (10_000, 0.2)):
        dropout.at_step(step)
        torch.manual_seed(step)
        found = dropout(tokens)
        assert (found[:, 0] == BOS).all()
        assert (found[:, 1:] == UNK).double().mean().item() == pytest.approx(share, abs=0.02)
    assert torch.equal(dropout.eval()(tokens), tokens)


def test_the_share_is_in_no_checkpoint(tokenizer: Tokenizer) -> None:
    """It is a function of the step, so that a run from before there was a schedule still opens."""
    assert not WordDropout(0.5, Constant()).state_dict()
    model = LstmVaeConfig(**SIZES, word_dropout=0.5).build(len(tokenizer))
    assert not [name for name in model.state_dict() if "word_dropout" in name]


def test_a_model_passes_the_step_on_and_names_its_schedule(tokenizer: Tokenizer) -> None:
    schedule = Linear(steps=10)
    model = LstmVaeConfig(**SIZES, word_dropout=0.5, word_dropout_schedule=schedule).build(len(tokenizer))
    assert model.schedules == {"word_dropout_schedule": schedule}
    model.at_step(4)
    assert model.decoder.word_dropout.share_now.item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.word_dropout=0.8", "model.word_dropout_schedule={kind: linear, start: 1.0, end: 2.0, steps: 5}"],
            "word_dropout times word_dropout_schedule has to stay within 0 … 1, and goes from 0.8 to 1.6",
        ),
        (
            ["model.word_dropout=0.8", "model.word_dropout_schedule={kind: constant, value: -1.0}"],
            "within 0 … 1, and goes from -0.8",
        ),
        (["model.history=false", "model.word_dropout=0.4"], "history=false leaves no words to read: it needs word_dr"),
        (["model.history=false", "model.input_noise=0.4"], "needs word_dropout=0, expected_inputs=0, input_noise=0"),
        (["model.history=false", "model.tie_weights=true"], "tie_weights=false"),
        (["model.input_noise=-0.1"], "model.input_noise: .*greater than or equal to 0"),
        (["model.encoder_noise={deletion: 1.0}"], "model.encoder_noise.deletion: .*less than 1"),
        (["model.cell=rnn"], "model.cell: .*'lstm' or 'gru'"),
        (["model.pooling=min"], "model.pooling: .*'last', 'mean' or 'max'"),
        (["objective.auxiliary_weight=-1.0"], "objective.auxiliary_weight: .*greater than or equal to 0"),
        (["objective.information={weight: 0.0}"], "objective.information.weight: .*greater than 0"),
        (["update={kind: adversarial, weight: 0.0}"], "update.weight: .*greater than 0"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        TEXT.load_recipe(TEXT.folder / "plain.yaml", overrides)
    assert len(str(found.value).splitlines()) == 1
