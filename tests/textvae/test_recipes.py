"""Recipes and their errors: every message names the file, the key and what would be right."""

from pathlib import Path

import pytest

from latent.training import ConfigError, read_tree
from textvae.recipe import dump_recipe, find_recipe, list_recipes, load_recipe

NAMES = [recipe.name for recipe in list_recipes()]


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_recipe_reads_back_as_itself(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe(name))
    (tmp_path / "config.yaml").write_text(dump_recipe(recipe), "utf-8")
    assert load_recipe(tmp_path / "config.yaml") == recipe


def test_every_recipe_says_what_it_is() -> None:
    assert all(len(recipe.summary) > 20 for recipe in list_recipes())
    assert {"lstm", "plain"} <= set(NAMES)


def test_a_recipe_is_found_by_the_unique_beginning_of_its_name() -> None:
    assert find_recipe("plai").stem == "plain"
    assert find_recipe("lstm").stem == "lstm"  # though others begin with it
    with pytest.raises(ConfigError, match="several recipes begin so"):
        find_recipe("quick")
    with pytest.raises(ConfigError, match=r"did you mean .*lstm"):
        find_recipe("ltsm")


def test_overrides_reach_their_key_and_numbers_are_numbers() -> None:
    recipe = load_recipe(
        find_recipe("lstm"),
        ["train.learning_rate=1e-3", "model.latent_size=8", "objective.kl_weight={kind: constant, value: 0.5}"],
    )
    assert (recipe.train.learning_rate, recipe.model.latent_size) == (0.001, 8)
    assert recipe.objective.kl_weight(10) == 0.5


def test_the_corpus_of_a_recipe_can_be_replaced_by_a_file() -> None:
    recipe = load_recipe(find_recipe("lstm"), ["corpus.kind=files", "corpus.path=my.txt"])
    assert (recipe.corpus.kind, recipe.corpus.path) == ("files", Path("my.txt"))


def test_epochs_replace_steps_and_steps_epochs() -> None:
    by_epochs = load_recipe(find_recipe("lstm"), ["train.epochs=2"]).train
    assert (by_epochs.steps, by_epochs.num_steps(batches_per_epoch=7)) == (None, 14)
    again = load_recipe(find_recipe("lstm"), ["train.epochs=2", "train.steps=5"]).train
    assert (again.epochs, again.num_steps(batches_per_epoch=7)) == (None, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.free_bit=0.5", r"lstm.yaml: objective.free_bit: unexpected key \(got 0.5\)"),
        ("model.latent_size=0", r"model.latent_size: Input should be greater than 0 \(got 0\)"),
        ("model.latent_size=true", r"model.latent_size: .*valid integer.*\(got true\)"),
        ("model.latent_size='3'", r'model.latent_size: .*valid integer.*\(got "3"\)'),
        ("model.word_dropout=1.5", r"model.word_dropout: .*less than or equal to 1"),
        ("corpus.kind=book", r"corpus: .*'book'.*'bbe', 'files', 'grammar', 'hub'"),
        ("corpus.kind=files", r"corpus.path: this key is needed"),
        ("objective.kl_weight={kind: linear}", r"objective.kl_weight.steps: this key is needed"),
        ("train.steps=null", r"train: set one of train.steps and train.epochs"),
        ("train.precision=half", r"train.precision: .*'auto', 'fp32', 'bf16' or 'fp16'"),
        ("nothing", r"--set nothing: write it as key.key=value"),
        ("=3", r"write it as key.key=value"),
        ("train.steps.more=3", r"train.steps is a value, it has no keys below it"),
        ("model.latent_size=[", r"not valid YAML"),
        ("model.latent_size=2026-01-01", r"lstm.yaml: "),
        ("model.latent_size=.nan", r"model.latent_size: "),
        ("model=&a [*a]", r"aliases are not allowed"),
    ],
)
def test_a_wrong_override_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(find_recipe("lstm"), [override])


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
        load_recipe(find_recipe(str(tmp_path / "nowhere.yaml")))
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"# " + b"x" * 1_100_000)
    with pytest.raises(ConfigError, match="larger than"):
        read_tree(path)
