"""Runs of continuous outputs: the space in the run, what is measured and what may be compared."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import resume_run, sentences, start_run, tiny_recipe, write_corpus

from corpora import evaluation_batches
from latent.measures import Measured
from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_tables import comparison_lines, csv_text, flags
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import load_measures, save_measures
from latent.training import Run, RunError
from latent.training.checkpoints import MODEL
from textvae.decoding import Beam, Greedy, Sampling
from textvae.generation import sample
from textvae.measuring import Measures, measure
from textvae.retrieval import retrieved_words
from textvae.run_kind import KIND
from textvae.session import Trained, open_trained
from textvae.side import GIVEN
from textvae.tables import measured_lines

VARIANTS = {
    "words": ("lstm",),
    "vmf": ("continuous",),
    "other space": ("continuous", "model.space.window=1"),
    "cosine": ("continuous", "model.loss={kind: cosine}"),
    "max_margin": ("continuous", "model.loss={kind: max_margin}"),
}


def vectors_file(folder: Path, size: int = 12) -> Path:
    words = sorted({word for text in sentences(120) for word in text.split()} - {"river"})
    rng = np.random.default_rng(0)
    rows = [" ".join([word, *(f"{x:.4f}" for x in rng.standard_normal(size))]) for word in words]
    path = folder / "tiny.vec"
    path.write_text("\n".join([f"{len(rows)} {size}", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def opened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: open_trained(start_run(tiny_recipe(corpus, *overrides, recipe=recipe), folder / name))
        for name, (recipe, *overrides) in VARIANTS.items()
    }


@pytest.fixture(scope="module")
def measured(opened: dict[str, Trained]) -> dict[str, Measured[Measures]]:
    return {name: measure(trained, "train", num_samples=4) for name, trained in opened.items()}


def runs(opened: dict[str, Trained], measured: dict[str, Measured[Measures]], *names: str) -> list[MeasuredRun]:
    return [MeasuredRun(KIND, name, opened[name].run, opened[name].recipe, measured[name]) for name in names]


def test_a_run_needs_no_other_file(corpus: Path, tmp_path: Path) -> None:
    """The vectors' file may be gone, when the run is opened and when it is begun again."""
    vectors = vectors_file(tmp_path)
    space = f"model.space={{kind: file, path: {vectors}}}"
    run = start_run(tiny_recipe(corpus, space, recipe="continuous"), tmp_path / "run")
    assert "1 are missing" in (run.path / "log.txt").read_text("utf-8")
    vectors.unlink()
    trained = open_trained(run)
    given = load_file(run.path / GIVEN)
    for name, tensor in given.items():
        assert (trained.model.state_dict()[name] == tensor).all(), name
    river = trained.tokenizer.encode("river")[0]
    assert not given["decoder.embedding.is_known"][river]
    texts = sample(trained, 50, Sampling())
    assert any(texts)
    assert not any("river" in text for text in texts)
    weights = load_file(run.path / "checkpoints/step-000030" / MODEL)
    shutil.rmtree(run.path / "checkpoints")
    resume_run(run)
    again = load_file(run.path / "checkpoints/step-000030" / MODEL)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_damaged_space_is_named(content: bytes | None, opened: dict[str, Trained], tmp_path: Path) -> None:
    shutil.copytree(opened["vmf"].run.path, tmp_path / "run")
    path = tmp_path / "run" / GIVEN
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{GIVEN}: what the model was given cannot be read"):
        resume_run(Run(tmp_path / "run"))


def test_the_space_of_another_model_is_named(opened: dict[str, Trained], tmp_path: Path) -> None:
    shutil.copytree(opened["vmf"].run.path, tmp_path / "run")
    shutil.copy(opened["vmf"].checkpoint.path / MODEL, tmp_path / "run" / GIVEN)
    with pytest.raises(RunError, match=rf"{GIVEN}: holds .*, not what this model is given"):
        resume_run(Run(tmp_path / "run"))


def test_every_way_of_decoding_writes_words(opened: dict[str, Trained]) -> None:
    for name in ("vmf", "cosine", "max_margin"):
        for decoding in (Greedy(), Sampling(), Beam(size=3)):
            assert len(sample(opened[name], 3, decoding)) == 3


def test_a_density_of_vectors_has_no_perplexity(measured: dict[str, Measured[Measures]]) -> None:
    found = measured["vmf"].figures
    assert found.likelihood == "vectors"
    assert math.isfinite(found.nll.value)
    assert math.isfinite(found.elbo.value)
    assert found.as_dict()["ppl"] == {"value": None, "low": None, "high": None}
    assert math.isnan(found.bits_per_character.value)
    lines = measured_lines("run", found)
    assert any(line.startswith("−ELBO") for line in lines)
    assert not any(line.startswith(("PPL", "bits per character")) for line in lines)
    assert any(line.startswith("! ") and "density of vectors, not of a probability of words" in line for line in lines)


@pytest.mark.parametrize("name", ["cosine", "max_margin"])
def test_a_loss_that_is_no_likelihood_has_no_bound(name: str, measured: dict[str, Measured[Measures]]) -> None:
    found = measured[name].figures
    assert found.likelihood == "none"
    for figure in ("nll", "elbo", "ppl", "bits_per_character"):
        assert found.as_dict()[figure]["value"] is None
    lines = measured_lines("run", found)
    assert not any(line.startswith(("NLL", "  at K", "−ELBO", "PPL", "bits per character")) for line in lines)
    assert any("the loss is no likelihood" in line for line in lines)
    assert any(line.startswith("retrieval accuracy") for line in lines)
    assert found.reconstruction.value >= 0


def test_words_have_all_figures_and_no_remark(measured: dict[str, Measured[Measures]]) -> None:
    lines = measured_lines("run", measured["words"].figures)
    assert any(line.startswith("PPL") for line in lines)
    assert not any(line.startswith("!") for line in lines)


@pytest.mark.parametrize("name", VARIANTS)
def test_retrieval_accuracy_is_the_share_of_words_found(
    name: str, opened: dict[str, Trained], measured: dict[str, Measured[Measures]]
) -> None:
    trained, found = opened[name], measured[name]
    share, columns = found.figures.retrieval_accuracy, found.per_example
    assert 0 <= share.low <= share.value <= share.high < 1
    assert share.value > 0 or name == "other space"  # in which 30 steps are too few to find a word
    assert columns["retrieval_accuracy"].mean().item() == pytest.approx(share.value)
    assert columns["exact_match"].mean().item() == pytest.approx(found.figures.exact_match.value)
    train = trained.splits.train
    q = trained.model.posterior(train.batch(np.arange(5)))
    hits = retrieved_words(
        trained.model, list(evaluation_batches(train.select(np.arange(5)), 60)), q.mean.detach(), trained.device
    )
    for number in range(5):
        one = train.batch([number])
        words = trained.model.next_words(q.mean[number : number + 1].detach(), one.tokens)[0]
        assert hits[number] == (words == one.targets[0]).sum()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("words", "vmf"), "a density of vectors against a probability of words"),
        (("cosine", "words"), "a probability of words against no likelihood at all"),
        (("vmf", "other space"), "densities of vectors in different spaces"),
        (("cosine", "max_margin"), "neither has a likelihood"),
    ],
)
def test_unlike_likelihoods_are_not_subtracted(
    names: tuple[str, str], reason: str, opened: dict[str, Trained], measured: dict[str, Measured[Measures]]
) -> None:
    found = compare_measured(runs(opened, measured, *names))
    (difference,) = found.differences
    assert difference.estimates.keys() == {"kl", "exact_match", "retrieval_accuracy"}
    expected = measured[names[1]].figures.retrieval_accuracy.value - measured[names[0]].figures.retrieval_accuracy.value
    assert difference.estimates["retrieval_accuracy"].value == pytest.approx(expected)
    (flag,) = flags(found)
    assert flag.startswith(f"the likelihood of {names[1]} may not be compared with that of {names[0]}: {reason}")
    assert "BLEU, exact matches and retrieval accuracy" in flag
    lines = comparison_lines(found)
    assert any(line.startswith("PPL ratio") and "–" in line for line in lines)
    assert not any("nan" in line for line in lines)
    rows = {line.split(",")[1]: line for line in csv_text(found).splitlines() if line.startswith(names[1])}
    assert reason in rows["nll"]
    assert reason not in rows["kl"]


def test_one_density_in_one_space_is_compared(
    opened: dict[str, Trained], measured: dict[str, Measured[Measures]]
) -> None:
    again = measure(opened["vmf"], "train", num_samples=4, seed=0)
    first, second = runs(opened, measured | {"vmf": again}, "vmf")[0], runs(opened, measured, "vmf")[0]
    (difference,) = compare_measured([first, second]).differences
    assert difference.withheld == difference.reasons == ()
    assert difference.estimates["nll"].value == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_stored_measures_read_back(
    name: str, opened: dict[str, Trained], measured: dict[str, Measured[Measures]]
) -> None:
    save_measures(opened[name].run, measured[name])
    found, expected = load_measures(KIND, opened[name].run, "train"), measured[name].figures.as_dict()
    assert found is not None
    assert found.figures.as_dict() == expected
    assert set(found.per_example) == set(KIND.columns)
