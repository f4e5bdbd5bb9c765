"""Every posterior and prior of the LSTM VAE from recipe to figures, and the skip to the output layer."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from corpora import Sentences, TextBatch, Tokenizer
from latent.bound import ElboObjective
from latent.distributions.posteriors import VonMisesFisherHeadConfig
from latent.training import ConfigError, Run
from latent.training.checkpoints import MODEL, OPTIMIZER
from textvae.decoding import Greedy
from textvae.generation import encode_file, interpolate, reconstruct, sample
from textvae.measuring import measure
from textvae.models import LstmVaeConfig, SentenceVae
from textvae.session import Trained, open_trained
from textvae.side import TEXT

SIZES = {"latent_size": 4, "embedding_size": 8, "hidden_size": 8}
OPTIONS = {
    "batch_norm": ("model.posterior={kind: batch_norm}",),
    "delta": ("model.posterior={kind: delta}",),
    "fixed_scale": ("model.posterior={kind: fixed_scale, scale: 0.3}",),
    "fixed": ("model.posterior={kind: von_mises_fisher, concentration: 8.0}",),
    "learned": ("model.posterior={kind: von_mises_fisher, concentration: 8.0, learned_concentration: true}",),
    "mixture": ("model.prior={kind: mixture, num_components: 3}",),
    "vamp": ("model.prior={kind: vamp, num_components: 3, length: 4}",),
    "skip": ("model.skip=true",),
}
LEAST_KL = {"batch_norm": 0.3, "delta": 0.4, "fixed_scale": 2.99, "fixed": 1.0, "learned": 1.0}
SAMPLED_KL = -0.1  # a Monte Carlo estimate of a small KL may be below 0


@pytest.fixture(scope="module", params=OPTIONS)
def option(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(option: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny_recipe(write_corpus(folder), *OPTIONS[option], "train.steps=20", recipe="plain")
    return start_run(recipe, folder / "run")


@pytest.fixture(scope="module")
def trained(run: Run) -> Trained:
    return open_trained(run)


def test_a_resumed_run_is_the_run(run: Run, tmp_path: Path) -> None:
    """Buffers too, such as running statistics; with a step that has not been seen before."""
    shutil.copytree(run.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/checkpoints/step-000020")
    resumed = resume_run(Run(tmp_path / "copy"))
    for name in (MODEL, OPTIMIZER):
        first, second = (load_file(each.path / "checkpoints/step-000020" / name) for each in (run, resumed))
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), key


def test_every_measure_runs_on_it(trained: Trained, option: str) -> None:
    measured = measure(trained, "valid", 50)
    figures = measured.figures
    assert figures.nll.value <= -figures.elbo.value + 0.5  # one draw of z each in the latter
    assert figures.mutual_information.value <= figures.mutual_information_ceiling
    assert figures.kl.value >= LEAST_KL.get(option, SAMPLED_KL)
    assert figures.active_units.value >= 0
    total = figures.mutual_information.value + figures.marginal_kl.value
    assert total == pytest.approx(figures.kl.value, abs=1.5)  # one draw of z each
    assert all(math.isfinite(value) for name in measured.per_example for value in measured.per_example[name].tolist())


def test_every_use_of_it_works(trained: Trained, tmp_path: Path) -> None:
    assert len(sample(trained, 5, Greedy())) == 5
    known = ["the dog saw the river .", "a cat liked me ."]
    assert len(reconstruct(trained, known, Greedy(), from_sample=True)) == 2
    steps = interpolate(trained, *known, 5, "linear", Greedy())
    ends = reconstruct(trained, known, Greedy())
    assert [steps[0].text, steps[-1].text] == ends
    source = tmp_path / "some.txt"
    source.write_text("\n".join(known) + "\n", "utf-8")
    assert len(encode_file(trained, source, tmp_path / "latents.parquet").sentences) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.posterior={kind: delta}", "model.prior={kind: vamp}"],
            "posterior delta goes with prior standard_normal",
        ),
        (["model.prior={kind: uniform_sphere}"], "posterior normal goes with prior standard_normal or mixture or vamp"),
        (
            ["model.posterior={kind: von_mises_fisher}", "model.prior={kind: mixture}"],
            "posterior von_mises_fisher goes with prior uniform_sphere, not with mixture",
        ),
        (["model.posterior={kind: von_mises_fisher}", "model.latent_size=1"], "needs latent_size 2 or more"),
        (
            ["model.posterior={kind: gamma}"],
            r"model\.posterior\.kind: 'gamma' is none of: batch_norm, .*iaf, .*normal, von_mises_fisher",
        ),
        (["model.posterior={kind: batch_norm, gama: 0.5}"], r"model.posterior.gama: unexpected key"),
        (["model.posterior={kind: batch_norm, gamma: 0.0}"], r"model.posterior.gamma: .*greater than 0"),
        (["model.posterior={kind: delta, least_kl: -0.1}"], r"model.posterior.least_kl: .*greater than 0"),
        (["model.posterior={kind: von_mises_fisher, concentration: 1e9}"], "model.posterior.concentration: .*10000"),
        (
            ["model.posterior={kind: fixed_scale, scale: 0.0}"],
            "model.posterior.scale: .*greater than or equal to 0.001",
        ),
        (["model.prior={kind: mixture, num_components: 0}"], "model.prior.num_components: .*greater than 0"),
        (["model.skip=true", "model.tie_weights=true"], "tie_weights needs skip=false"),
        *(
            (
                ["objective.free_bits=0.1", f"model.{part}"],
                r"set objective\.free_bits=0 or objective\.free_bits_on=total",
            )
            for part in (
                "posterior={kind: planar}",
                "posterior={kind: iaf}",
                "posterior={kind: von_mises_fisher}",
                "prior={kind: mixture}",
                "prior={kind: vamp}",
                "prior={kind: flow}",
            )
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        TEXT.load_recipe(TEXT.folder / "plain.yaml", overrides)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("part", ["posterior={kind: planar}", "prior={kind: mixture}", "prior={kind: standard_normal}"])
def test_free_bits_of_all_dimensions_together_go_with_any_pair(part: str) -> None:
    overrides = (f"model.{part}", "objective.free_bits=0.1", "objective.free_bits_on=total")
    assert TEXT.load_recipe(TEXT.folder / "plain.yaml", overrides)


def test_free_bits_on_a_kl_without_dimensions_are_refused(tokenizer: Tokenizer, split: Sentences) -> None:
    model = LstmVaeConfig(**SIZES, posterior=VonMisesFisherHeadConfig()).build(len(tokenizer))
    with pytest.raises(ValueError, match=r"set objective\.free_bits=0"):
        ElboObjective(free_bits=0.1)(model(split.batch(np.arange(3))), 0)


def test_a_z_off_the_sphere_is_decoded_from_the_nearest_on_it(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = LstmVaeConfig(**SIZES, posterior=VonMisesFisherHeadConfig()).build(len(tokenizer)).double().eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter *= 8  # so that z is in what is written
    z = torch.nn.functional.normalize(torch.randn(20, 4, dtype=torch.float64), dim=-1)
    on_it = model.decode(z, Greedy(), max_length=8)
    assert torch.equal(model.decode(0.3 * z, Greedy(), max_length=8), on_it)
    assert len({tuple(row.tolist()) for row in on_it}) > 5
    plain = LstmVaeConfig(**SIZES).build(len(tokenizer)).double().eval()
    plain.load_state_dict(
        model.state_dict() | {"head.log_variance.weight": torch.zeros(4, 8), "head.log_variance.bias": torch.zeros(4)}
    )
    assert not torch.equal(plain.decode(0.3 * z, Greedy(), max_length=8), plain.decode(z, Greedy(), max_length=8))


@pytest.fixture
def skipping(tokenizer: Tokenizer) -> SentenceVae:
    torch.manual_seed(0)
    return LstmVaeConfig(**SIZES, skip=True).build(len(tokenizer)).double().eval()


def test_without_its_recurrent_part_a_skipping_decoder_still_reads_z(skipping: SentenceVae, split: Sentences) -> None:
    batch: TextBatch = split.batch(np.arange(5))
    z = torch.randn(2, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in skipping.decoder.lstm.parameters():
            parameter.zero_()
        found = skipping.token_log_likelihood(z, batch)
    assert (found[0] != found[1])[batch.mask].all()


def test_without_its_skip_a_skipping_decoder_is_the_plain_one(
    skipping: SentenceVae, tokenizer: Tokenizer, split: Sentences
) -> None:
    batch = split.batch(np.arange(5))
    z = torch.randn(2, 5, 4, dtype=torch.float64)
    state = skipping.state_dict()
    with torch.no_grad():
        state["decoder.output.own_weight"][:, 8:] = 0.0
    plain = LstmVaeConfig(**SIZES).build(len(tokenizer)).double().eval()
    plain.load_state_dict(state | {"decoder.output.own_weight": state["decoder.output.own_weight"][:, :8]})
    torch.testing.assert_close(skipping.log_likelihood(z, batch), plain.log_likelihood(z, batch))


def test_there_is_no_dropout_on_the_z_that_skips(tokenizer: Tokenizer, split: Sentences) -> None:
    """With every state dropped the output layer has z alone: nothing is random."""
    config = replace(LstmVaeConfig(**SIZES, skip=True), dropout_in=0.0, dropout_out=0.999999)
    model = config.build(len(tokenizer)).double().train()
    z, batch = torch.randn(1, 5, 4, dtype=torch.float64), split.batch(np.arange(5))
    torch.testing.assert_close(model.log_likelihood(z, batch), model.log_likelihood(z, batch), atol=0, rtol=0)
