"""Recipes and their errors: every message names the file, the key and what would be right."""

from pathlib import Path

import pytest

from imagevae.side import IMAGE
from latent.bound import ElboObjective
from latent.training import ConfigError, JointUpdate, Side, find_recipe, list_recipes, read_tree, side_of
from textvae.recipe import TextRecipe
from textvae.side import TEXT

SIDES = (TEXT, IMAGE)
FOLDERS = [side.folder for side in SIDES]
CASES = [pytest.param(side, recipe.path, id=recipe.name) for side in SIDES for recipe in list_recipes([side.folder])]


def lstm(*overrides: str) -> TextRecipe:
    return TEXT.load_recipe(TEXT.folder / "lstm.yaml", overrides)


@pytest.mark.parametrize(("side", "path"), CASES)
def test_a_resolved_recipe_reads_back_as_itself(side: Side, path: Path, tmp_path: Path) -> None:
    recipe = side.load_recipe(path)
    (tmp_path / "config.yaml").write_text(side.schema.dump(recipe), "utf-8")
    assert side.load_recipe(tmp_path / "config.yaml") == recipe
    assert side_of(path, SIDES) is side


def test_every_recipe_says_what_it_is_and_has_a_name_of_its_own() -> None:
    recipes = list_recipes(FOLDERS)
    assert all(len(recipe.summary) > 20 for recipe in recipes)
    assert {"lstm", "plain", "digits_vae"} <= {recipe.name for recipe in recipes}
    assert len({recipe.name for recipe in recipes}) == len(recipes)


def test_a_recipe_of_no_side_lists_the_corpora() -> None:
    for override in ("corpus.kind=book", "corpus=3", "corpus.kind=[]"):
        with pytest.raises(ConfigError, match=r"lstm.yaml: corpus.kind: .* is none of: .*bbe, .*mnist"):
            side_of(TEXT.folder / "lstm.yaml", SIDES, [override])


def test_a_recipe_is_found_by_the_unique_beginning_of_its_name() -> None:
    assert find_recipe("plai", FOLDERS).stem == "plain"
    assert find_recipe("lstm", FOLDERS).stem == "lstm"  # though others begin with it
    with pytest.raises(ConfigError, match="several recipes begin so"):
        find_recipe("quick", FOLDERS)
    with pytest.raises(ConfigError, match=r"did you mean .*lstm"):
        find_recipe("ltsm", FOLDERS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.kind=foo", r"lstm.yaml: model.kind: 'foo' is none of: .*lstm, .*transformer"),
        ("objective.kl_weight={kind: bent}", r"lstm.yaml: objective.kl_weight.kind: 'bent' is none of: constant, "),
        ("model={latent_size: 3}", r"lstm.yaml: model.kind: this key is needed"),
        ("update.kind=joints", r"lstm.yaml: update.kind: 'joints' is none of: joint, "),
    ],
)
def test_a_wrong_kind_lists_the_right_ones(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lstm(override)


def test_overrides_reach_their_key_and_numbers_are_numbers() -> None:
    recipe = lstm("train.learning_rate=1e-3", "model.latent_size=8", "objective.kl_weight={kind: constant, value: 0.5}")
    assert (recipe.train.learning_rate, recipe.model.latent_size) == (0.001, 8)
    assert recipe.objective.kl_weight(10) == 0.5


def test_a_part_without_a_kind_is_of_the_default_s() -> None:
    assert lstm("update.max_gradient_norm=2.0").update == JointUpdate(max_gradient_norm=2.0)
    assert lstm("objective={free_bits: 0.5}").objective == ElboObjective(free_bits=0.5)


def test_the_corpus_of_a_recipe_can_be_replaced_by_a_file() -> None:
    recipe = lstm("corpus.kind=files", "corpus.path=my.txt")
    assert (recipe.corpus.kind, recipe.corpus.path) == ("files", Path("my.txt"))


def test_epochs_replace_steps_and_steps_epochs() -> None:
    by_epochs = lstm("train.epochs=2").train
    assert (by_epochs.steps, by_epochs.num_steps(batches_per_epoch=7)) == (None, 14)
    again = lstm("train.epochs=2", "train.steps=5").train
    assert (again.epochs, again.num_steps(batches_per_epoch=7)) == (None, 5)
    assert lstm("train.steps=5", "train.epochs=null").train.steps == 5  # in either order, null replaces nothing


def test_several_keys_of_a_part_are_set_at_once_and_the_others_stay() -> None:
    one_by_one = lstm("model.hidden_size=512", "model.latent_size=16", "model.posterior.kind=batch_norm")
    at_once = lstm("model+={hidden_size: 512, latent_size: 16, posterior: {kind: batch_norm}}")
    assert at_once == one_by_one != lstm()
    assert at_once.model.word_dropout == lstm().model.word_dropout > 0
    assert lstm("train+={epochs: 2}").train.steps is None  # steps and epochs exclude one another here too


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.free_bit=0.5", r"lstm.yaml: objective.free_bit: unexpected key \(got 0.5\)"),
        ("model.latent_size=0", r"model.latent_size: Input should be greater than 0 \(got 0\)"),
        ("model.latent_size=true", r"model.latent_size: .*valid integer.*\(got true\)"),
        ("model.latent_size='3'", r'model.latent_size: .*valid integer.*\(got "3"\)'),
        ("model.word_dropout=1.5", r"model.word_dropout: .*less than or equal to 1"),
        ("corpus.kind=book", r"corpus.kind: 'book' is none of: bbe, files, grammar, hub"),
        ("corpus.kind=files", r"corpus.path: this key is needed"),
        ("objective.kl_weight={kind: linear}", r"objective.kl_weight.steps: this key is needed"),
        ("train.steps=null", r"train: set one of train.steps and train.epochs"),
        ("train.precision=half", r"train.precision: .*'auto', 'fp32', 'bf16' or 'fp16'"),
        (
            "model.posterior={kind: planar, length: 0}",
            r"model.posterior.*length: .*greater than or equal to 1 \(got 0\)",
        ),
        ("model.posterior={kind: iaf, hidden_size: 0}", r"model.posterior.*hidden_size: .*greater than 0 \(got 0\)"),
        ("model.posterior={kind: sylvester, num_columns: 33}", r"posterior sylvester needs latent_size 33 or more"),
        (
            "model+={posterior: {kind: iaf}, prior: {kind: vamp}}",
            r"posterior iaf goes with prior .*flow, not with vamp",
        ),
        ("nothing", r"--set nothing: write it as key.key=value"),
        ("=3", r"write it as key.key=value"),
        ("model+=3", r"--set model\+=3: \+= takes keys and values"),
        ("model+={3: 4}", r"\+= takes keys and values"),
        ("model+={latent_size: 0}", r"model.latent_size: Input should be greater than 0"),
        ("+={latent_size: 3}", r"write it as key.key=value"),
        ("train.steps.more=3", r"train.steps is a value, it has no keys below it"),
        ("model.latent_size=[", r"not valid YAML"),
        ("model.latent_size=2026-01-01", r"lstm.yaml: "),
        ("model.latent_size=.nan", r"model.latent_size: "),
        ("model=&a [*a]", r"aliases are not allowed"),
    ],
)
def test_a_wrong_override_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lstm(override)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1\n- 2", "a mapping of keys is needed"),
        (b"", "a mapping of keys is needed"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"[" * 100_000, "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"mine.yaml: .*{message}"):
        read_tree(path)


def test_a_missing_recipe_and_a_huge_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read"):
        TEXT.load_recipe(tmp_path / "nowhere.yaml")
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"# " + b"x" * 1_100_000)
    with pytest.raises(ConfigError, match="larger than"):
        read_tree(path)
