"""The table of segmentation: every method is a recipe that fits, and what is stored already gives the same table."""

import argparse
from pathlib import Path

import pytest
from tiny import start_image_run, tiny_image_recipe

from benchmarks import segmentation
from imagevae.side import IMAGE


@pytest.mark.parametrize("corpus", ["horses", "cub"])
@pytest.mark.parametrize("name", segmentation.METHODS)
def test_a_method_is_a_recipe_that_fits(corpus: str, name: str) -> None:
    given = argparse.Namespace(corpus=corpus, data="nowhere", seed=3, overrides=[])
    recipe = segmentation.recipe_of(name, given)
    IMAGE.check(recipe)
    assert recipe.train.seed == 3
    if name == "hybrid":  # it keeps the schedule of the recipe
        assert recipe.objective.kl_weight == segmentation.recipe_of("CVAE", given).objective.kl_weight


def test_a_table_of_stored_measures_is_the_one_that_was_printed(tmp_path: Path) -> None:
    runs = {
        name: start_image_run(tiny_image_recipe(f"horses_{method}"), tmp_path / name)
        for name, method in (("baseline", "baseline"), ("CVAE", "cvae"))
    }
    first, again = (
        segmentation.table({name: segmentation.measured_in_full(run, 2, None) for name, run in runs.items()}, "horses")
        for _ in range(2)
    )
    assert again == first
    assert "CVAE better than the baseline, paired: foreground_iou_at_prior_mean" in first
    assert "nll_from_prior" in first
