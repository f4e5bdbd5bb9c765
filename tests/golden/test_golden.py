"""Twenty float64 steps of every recipe on a tiny corpus: the losses are those in this folder.

A change that moves them must say why and by how much; `python tests/golden/test_golden.py [RECIPE…]` writes them anew.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import tiny_image_recipe, tiny_recipe, write_corpus

from imagevae.side import IMAGE
from latent.training import Material, build_state, list_recipes, seed_everything
from latent.training.loop import set_learning_rate
from latent.training.seeding import Stream
from textvae.side import TEXT

FOLDER = Path(__file__).parent
TEXTS = [recipe.name for recipe in list_recipes([TEXT.folder])]
IMAGES = [recipe.name for recipe in list_recipes([IMAGE.folder])]
NAMES = TEXTS + IMAGES
NUM_STEPS = 20


def losses(name: str, folder: Path) -> list[float]:
    """The losses of the recipe's own objective, update, optimizer and learning rates, in float64."""
    if name in TEXTS:
        recipe = tiny_recipe(write_corpus(folder), recipe=name)
        material: Material = TEXT.read(recipe, None)
    else:
        recipe = tiny_image_recipe(name)
        material = IMAGE.read(recipe, None)
    batches = material.training_data().batches
    state = build_state(material, recipe.train)
    state.model.double()
    recipe.update.prepare(state)
    found = []
    for step in range(NUM_STEPS):
        seed_everything(recipe.train.seed, Stream.STEP, step)
        set_learning_rate(state, recipe.train.learning_rate * recipe.train.learning_rate_schedule(step))
        found.append(float(recipe.update(state, batches, recipe.objective)["loss"]))
        state.step += 1
    return found


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    golden = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert len(golden) == NUM_STEPS
    assert losses(name, tmp_path) == pytest.approx(golden, rel=1e-9)


def test_every_golden_file_has_its_recipe() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            (FOLDER / f"{each}.json").write_text(json.dumps(losses(each, Path(temporary)), indent=1) + "\n", "utf-8")
