"""The language-model baseline: its NLL is that of another implementation, and every verb knows that there is no z."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus
from torch import Tensor, nn

from corpora import BOS, EOS, PAD, Sentences, TextBatch, Tokenizer, evaluation_batches
from latent.measures import importance_weighted
from latent.reporting.comparison import compare_runs
from latent.reporting.comparison_report import write_comparison
from latent.reporting.stored_measures import load_measures, save_measures
from textvae.decoding import Greedy, Sampling
from textvae.generation import encode_file, interpolate, reconstruct, sample
from textvae.measuring import measure
from textvae.models import LanguageModel, LanguageModelConfig, LstmVaeConfig
from textvae.run_kind import KIND
from textvae.session import Trained, open_trained
from textvae.tables import measured_lines

SIZES = {"embedding_size": 8, "hidden_size": 8}


@pytest.fixture
def batch(split: Sentences) -> TextBatch:
    return split.batch(np.arange(20))


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    found = LanguageModelConfig(**SIZES).build(len(tokenizer)).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_()
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("lm")
    corpus = write_corpus(folder)
    recipes = {name: tiny_recipe(corpus, recipe=name) for name in ("lstm_lm", "plain")}
    return {name: open_trained(start_run(recipe, folder / name)) for name, recipe in recipes.items()}


def plain_log_likelihood(model: LanguageModel, batch: TextBatch) -> Tensor:
    """log p(x) by an LSTM language model written anew, one sentence at a time and without padding."""
    state, num_ids = model.decoder.state_dict(), model.decoder.embedding.num_embeddings
    embedding, lstm, output = nn.Embedding(num_ids, 8), nn.LSTM(8, 8), nn.Linear(8, num_ids - EOS)
    embedding.load_state_dict({"weight": state["embedding.weight"]})
    lstm.load_state_dict({name.removeprefix("lstm."): state[name] for name in state if name.startswith("lstm.")})
    output.load_state_dict({"weight": state["output.own_weight"], "bias": state["output.bias"]})
    cell = state["initial_cell.bias"].reshape(1, 8)
    found = []
    for row in batch.tokens:
        words = row[row != PAD]
        assert (words[0], words[-1]) == (BOS, EOS)
        states, _ = lstm.double()(embedding.double()(words[:-1]), (cell.tanh(), cell))
        log_probs = output.double()(states).softmax(-1).log()
        found.append(sum(log_probs[t, word - EOS] for t, word in enumerate(words[1:])))
    return torch.stack(found)


def test_the_likelihood_is_that_of_a_plain_language_model(model: LanguageModel, batch: TextBatch) -> None:
    terms = model(batch, 3)
    for bound in (terms.log_weight[0], terms.log_weight[2], terms.elbo, terms.importance_weighted_bound()):
        torch.testing.assert_close(bound, plain_log_likelihood(model, batch))
    assert (terms.kl == 0).all()
    assert terms.z.shape == (3, 20, 0)
    assert terms.kl_is_closed_form


def test_it_is_the_vae_s_decoder_with_nothing_read_from_z(
    model: LanguageModel, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    vae = LstmVaeConfig(**SIZES, latent_size=4).build(len(tokenizer)).double().eval()
    state = dict(model.state_dict())
    state["decoder.initial_cell.weight"] = torch.zeros(8, 4, dtype=torch.float64)
    read = torch.zeros(32, 4, dtype=torch.float64)
    state["decoder.lstm.weight_ih_l0"] = torch.cat([state["decoder.lstm.weight_ih_l0"], read], 1)
    vae.load_state_dict(vae.state_dict() | state)
    z = torch.randn(1, len(batch), 4, dtype=torch.float64)
    torch.testing.assert_close(vae.log_likelihood(z, batch)[0], model(batch).elbo)


def test_its_weights_begin_as_the_vae_s_decoder_s(tokenizer: Tokenizer) -> None:
    sizes = {"embedding_size": 64, "hidden_size": 64}
    lm = dict(LanguageModelConfig(**sizes).build(len(tokenizer)).decoder.named_parameters())
    vae = dict(LstmVaeConfig(**sizes).build(len(tokenizer)).decoder.named_parameters())
    assert vae.keys() - lm.keys() == {"initial_cell.weight"}
    for name in lm.keys() - {"initial_cell.bias"}:
        largest = [one[name].abs().max().item() for one in (lm, vae)]
        assert largest[0] == pytest.approx(largest[1], rel=0.05, abs=1e-12), name


@pytest.mark.parametrize("num_samples", [1, 100])
def test_measures_are_exact_with_one_draw(trained: dict[str, Trained], num_samples: int) -> None:
    lm = trained["lstm_lm"]
    found = measure(lm, num_samples=num_samples, by_decoding=True)
    figures = found.figures
    assert figures.nll.value == -figures.elbo.value == figures.reconstruction.value
    batches = list(evaluation_batches(lm.splits.test, 500))
    drawn = importance_weighted(lm.model, batches, lm.device, 5)
    torch.testing.assert_close(found.per_example["nll"], drawn.nll, rtol=1e-5, atol=1e-5)
    assert figures.total_draws == figures.num_examples
    assert figures.num_samples == num_samples  # what was asked for: runs of one K are compared
    assert (figures.nll_bias, figures.nll_has_converged, figures.nll_precision) == (0.0, True, "fp32")
    assert list(figures.nll_ladder) == ["1"]
    tokens = figures.tokens_per_sentence.value
    assert figures.ppl.value == pytest.approx(math.exp(figures.nll.value / tokens))
    for name in ("kl", "mutual_information", "marginal_kl", "shuffled_gain", "prior_gain", "active_units"):
        assert getattr(figures, name).value == pytest.approx(0, abs=1e-5), name
    assert (figures.kl_per_dimension, figures.smoothness, figures.factors) == ((), None, None)
    assert figures.prior_samples is not None


def test_the_verdict_says_that_there_is_no_z(trained: dict[str, Trained]) -> None:
    found = measure(trained["lstm_lm"], num_samples=1).figures
    assert (found.verdict, found.verdict_advice) == ("absent", ())
    assert "no latent variable" in found.verdict_reasons[0]
    lines = measured_lines("lm", found)
    assert any("absent" in line for line in lines)
    assert not any("-0.0" in line for line in lines)


def test_training_raises_no_alarm_where_a_collapsed_vae_does(trained: dict[str, Trained]) -> None:
    alarms = {name: [row for row in one.run.metrics() if "alarm" in row] for name, one in trained.items()}
    assert alarms["lstm_lm"] == []
    assert alarms["plain"]


def test_it_is_compared_with_vaes_sentence_by_sentence(trained: dict[str, Trained], tmp_path: Path) -> None:
    measured = {name: measure(one, num_samples=20) for name, one in trained.items()}
    for name, one in trained.items():
        save_measures(one.run, measured[name])
        assert load_measures(KIND, one.run, "test").figures == measured[name].figures
    found = compare_runs(KIND, [one.run for one in trained.values()], say=pytest.fail)
    (difference,) = found.differences
    assert difference.reasons == ()
    pairs = measured["plain"].per_example["nll"].double() - measured["lstm_lm"].per_example["nll"]
    assert difference.estimates["nll"].value == pytest.approx(pairs.mean().item())
    assert difference.estimates["nll"].low < difference.estimates["nll"].high
    write_comparison(tmp_path / "report.html", found)
    assert "<b>absent</b>" in (tmp_path / "report.html").read_text("utf-8")


def test_what_needs_a_z_is_refused_and_sampling_is_not(trained: dict[str, Trained], tmp_path: Path) -> None:
    lm = trained["lstm_lm"]
    texts = sample(lm, 6, Sampling())
    assert len(set(texts)) > 1
    (tmp_path / "some.txt").write_text("the dog saw me .\n", "utf-8")
    verbs = {
        "reconstruct": lambda: reconstruct(lm, texts, Greedy()),
        "interpolate": lambda: interpolate(lm, texts[0], texts[1], 3, "linear", Greedy()),
        "encode": lambda: encode_file(lm, tmp_path / "some.txt", tmp_path / "out.parquet"),
    }
    for verb, call in verbs.items():
        with pytest.raises(ValueError, match=rf"{verb} needs a latent variable, and model\.kind lm has none") as found:
            call()
        assert len(str(found.value).splitlines()) == 1
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    "part",
    [
        "objective={kind: elbo, free_bits: 0.5}",
        "objective={kind: elbo, free_bits: 0.5, free_bits_on: total}",
        "objective={kind: elbo, free_bits: 0.5, free_bits_on: dimension_of_example}",
        "objective={kind: elbo, controller: {kind: pi, target: 3.0}}",
        "objective={kind: elbo, controller: {kind: mdr, target: 3.0}}",
        "objective={kind: elbo, mmd: {weight: 1.0}}",
        "objective={kind: target_rate, target: {kind: constant, value: 3.0}}",
        "objective={kind: iwae, num_samples: 3, gradient: dreg}",
        "update={kind: aggressive, max_inner_steps: 3, compare_every: 1}",
    ],
)
def test_every_objective_and_update_trains_the_same_language_model(
    part: str, trained: dict[str, Trained], tmp_path: Path
) -> None:
    """All that they add is about z: what is left is −log p(x)."""
    corpus = trained["lstm_lm"].recipe.corpus.path
    run = start_run(tiny_recipe(corpus, part, recipe="lstm_lm"), tmp_path / "run")
    losses = [row["elbo"] for row in run.metrics() if row.get("split") == "valid"]
    plain = [row["elbo"] for row in trained["lstm_lm"].run.metrics() if row.get("split") == "valid"]
    assert losses == pytest.approx(plain, rel=0.05)
