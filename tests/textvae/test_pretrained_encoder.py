"""An encoder that learns in an autoencoder and a decoder drawn anew: what is kept, what is not, and resuming."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny import resume_run, start_run, tiny_recipe, write_corpus

from cli import cli
from latent.bound import Constant, ElboObjective
from latent.training import ConfigError, JointUpdate, Run, RunError, TrainState, build_state, seed_everything
from latent.training.checkpoints import MODEL, OPTIMIZER
from latent.training.pretraining import PretrainedEncoderUpdate
from latent.training.seeding import Stream
from textvae.recipe import TextRecipe
from textvae.side import TEXT, TextMaterial

SWITCH = 3
ENCODER = ("encoder.", "head.")
UPDATE = PretrainedEncoderUpdate(steps=SWITCH)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def started(recipe: TextRecipe) -> tuple[TextMaterial, TrainState]:
    material = TEXT.read(recipe, None)
    return material, build_state(material, recipe.train)


def stepped(
    recipe: TextRecipe, update: PretrainedEncoderUpdate | JointUpdate, num_steps: int, objective: ElboObjective
) -> TrainState:
    material, state = started(recipe)
    for step in range(num_steps):
        seed_everything(recipe.train.seed, Stream.STEP, step)
        update(state, material.batches, objective)
        state.step += 1
    return state


def at_the_switch(recipe: TextRecipe) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], TrainState]:
    """The weights before it and after it, without the joint step that follows: its learning rate is 0."""
    state = stepped(recipe, UPDATE, SWITCH, ElboObjective())
    before = {name: weight.clone() for name, weight in state.model.named_parameters()}
    for group in state.optimizer.param_groups:
        group["lr"] = 0.0
    seed_everything(recipe.train.seed, Stream.STEP, SWITCH)
    UPDATE(state, TEXT.read(recipe, None).batches, ElboObjective())
    return before, dict(state.model.named_parameters()), state


def test_the_first_stage_is_an_autoencoder_s(corpus: Path) -> None:
    recipe = tiny_recipe(corpus, recipe="plain")
    staged = stepped(recipe, UPDATE, SWITCH, ElboObjective(free_bits=1.0))
    plain = stepped(recipe, JointUpdate(), SWITCH, ElboObjective(kl_weight=Constant(value=0.0)))
    bound = stepped(recipe, JointUpdate(), SWITCH, ElboObjective())
    pairs = list(zip(staged.model.parameters(), plain.model.parameters(), bound.model.parameters(), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs, _ in pairs)
    assert not all(torch.equal(ours, other) for ours, _, other in pairs)


@pytest.mark.parametrize(
    "part",
    ["model.skip=true", "model.posterior={kind: batch_norm}", "model.prior={kind: vamp, num_components: 3}"],
)
def test_the_encoder_is_kept_and_all_else_begins_again(part: str, corpus: Path) -> None:
    recipe = tiny_recipe(corpus, part, recipe="plain")
    before, after, state = at_the_switch(recipe)
    first = dict(started(recipe)[1].model.named_parameters())
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) is name.startswith(ENCODER), name
        if not name.startswith(ENCODER) and first[name].unique().numel() > 1:
            assert not torch.equal(weight, first[name]), name  # other noise than at the beginning
            assert weight.std().item() == pytest.approx(first[name].std().item(), rel=0.5), name
    assert {int(moments["step"]) for moments in state.optimizer.state.values()} == {1}


def test_what_is_drawn_anew_is_a_function_of_the_seed(corpus: Path) -> None:
    drawn = [
        at_the_switch(tiny_recipe(corpus, f"train.seed={seed}", recipe="plain"))[1]["decoder.embedding.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.fixture(scope="module", params=[10, 14, 20], ids=lambda steps: f"switch at {steps}")
def finished(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    at_once = "objective.kl_weight={kind: constant}"
    recipe = tiny_recipe(corpus, f"update.steps={request.param}", at_once, recipe="fbp2019")
    return start_run(recipe, tmp_path_factory.mktemp("finished") / "run")


@pytest.mark.parametrize("kept", [10, 20])
def test_resuming_before_at_and_after_the_switch_gives_the_same_weights(
    kept: int, finished: Run, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(finished.path, tmp_path / "copy")))
    for path in (run.path / "checkpoints").iterdir():
        if path.name > f"step-{kept:06d}":
            shutil.rmtree(path)
    resume_run(run)
    for file in (MODEL, OPTIMIZER):
        ours, theirs = (load_file(each.path / "checkpoints/step-000030" / file) for each in (run, finished))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_both_stages_are_logged(finished: Run) -> None:
    switch = TEXT.load_recipe(finished.config_path).update.steps
    rows = {row["step"]: row for row in finished.metrics() if "loss" in row}
    for step, row in rows.items():
        if step <= switch:
            assert row["loss"] == pytest.approx(row["reconstruction"])
            assert row["kl_weight"] == 0
        elif step > switch + 5:
            assert row["loss"] > row["reconstruction"] + 0.9  # free bits: 0.25 nats in each of 4 dimensions
            assert row["kl_weight"] == 1


@pytest.mark.parametrize(
    ("recipe", "update", "message"),
    [
        ("lstm_lm", "pretrained_encoder", r"needs a model with an encoder, and LanguageModel has none"),
        ("plain", "pretrained", r"needs a model with a first stage, and SentenceVae has none"),
    ],
)
def test_a_model_that_cannot_be_trained_so_leaves_no_run(
    recipe: str, update: str, message: str, corpus: Path, tmp_path: Path
) -> None:
    wanted = tiny_recipe(corpus, f"update={{kind: {update}, steps: 5}}", recipe=recipe)
    with pytest.raises(ValueError, match=rf"update\.kind: {update} {message}; set update\.kind=joint") as found:
        start_run(wanted, tmp_path / "run")
    assert len(str(found.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def autoencoder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = tiny_recipe(corpus, "objective={kind: elbo, kl_weight: {kind: constant, value: 0.0}}", "train.steps=10")
    return start_run(recipe, tmp_path_factory.mktemp("first") / "run")


def second_stage(corpus: Path, first: Path, *overrides: str) -> TextRecipe:
    return tiny_recipe(corpus, f"update={{kind: pretrained_encoder, encoder_from: {first}}}", *overrides)


def test_the_encoder_of_another_run_is_taken_over_and_the_rest_is_a_fresh_run_s(corpus: Path, autoencoder: Run) -> None:
    recipe = second_stage(corpus, autoencoder.path, "train.learning_rate=1e-30")  # a step that moves nothing
    material, state = started(recipe)
    fresh = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    stored = load_file(autoencoder.checkpoint("last")[0].path / MODEL)
    seed_everything(recipe.train.seed, Stream.STEP, 0)
    recipe.update(state, material.batches, recipe.objective)
    for name, tensor in state.model.state_dict().items():
        wanted = stored if name.startswith(ENCODER) else fresh
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-20)
    assert any(not torch.equal(stored[name], fresh[name]) for name in fresh if name.startswith(ENCODER))


def test_it_is_taken_over_once(corpus: Path, autoencoder: Run, tmp_path: Path) -> None:
    run = start_run(second_stage(corpus, autoencoder.path, "train.steps=4"), tmp_path / "run")
    resumed = resume_run(Run(run.path), "train.steps=6")
    whole = start_run(second_stage(corpus, autoencoder.path, "train.steps=6"), tmp_path / "whole")
    ours, theirs = (load_file(each.checkpoint("last")[0].path / MODEL) for each in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_first_stage_that_does_not_fit_is_refused_by_a_dry_run_too(
    corpus: Path, autoencoder: Run, tmp_path: Path
) -> None:
    unused = Run(Path(shutil.copytree(autoencoder.path, tmp_path / "unused")))
    shutil.rmtree(unused.path / "checkpoints")
    other = tmp_path / "other.txt"
    other.write_text(corpus.read_text("utf-8") + "one more\n", "utf-8")
    missing = tmp_path / "missing"
    for recipe, message in [
        (second_stage(corpus, missing), rf"{missing}: not a run folder"),
        (second_stage(corpus, unused.path), r"unused: no checkpoint to load"),
        (second_stage(corpus, autoencoder.path, "model.hidden_size=9"), r"model\.hidden_size \(\d+ there, 9 here\)"),
        (second_stage(corpus, autoencoder.path, "corpus.max_length=9"), r"corpus\.max_length \(\d+ there, 9 here\)"),
        (second_stage(other, autoencoder.path), r"these differ: the content of the corpus$"),
    ]:
        with pytest.raises(RunError, match=rf"^update\.encoder_from: .*{message}"):
            start_run(recipe, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        (tmp_path / "recipe.yaml").write_text(TEXT.schema.dump(recipe), "utf-8")
        shown = CliRunner().invoke(cli, ["train", str(tmp_path / "recipe.yaml"), "--dry-run"])
        assert isinstance(shown.exception, RunError)
        assert re.search(message, str(shown.exception))


@pytest.mark.parametrize(
    "update", ["{kind: pretrained_encoder}", "{kind: pretrained_encoder, steps: 5, encoder_from: runs}"]
)
def test_a_first_stage_is_either_here_or_there(corpus: Path, update: str) -> None:
    with pytest.raises(ConfigError, match=r"set one of update\.steps, a first stage's, and update\.encoder_from"):
        tiny_recipe(corpus, f"update={update}")
