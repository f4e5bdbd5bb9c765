"""Overlaps of predicted masks, image by image, in a comparison of runs."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from mask_files import write_pairs
from test_segmentation import invoked, recipe
from tiny import start_image_run, tiny_image_recipe

from imagevae.run_kind import KIND
from latent.measures import Measured
from latent.reporting.comparison import compare_measured, compare_runs
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import StoredMeasuresError, load_measures, save_measures
from latent.training import Run

NAMES = ("foreground_iou_at_prior_mean", "foreground_iou_of_averaged")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = write_pairs(tmp_path_factory.mktemp("pairs"), 40)
    plain = "model={kind: structured_baseline, network: {kind: conv, channels: [4], hidden_size: 12}}"
    runs = [start_image_run(recipe(folder, *one), folder / name) for name, one in (("base", [plain]), ("cvae", []))]
    compare_runs(KIND, runs, num_samples=3, say=lambda _: None)
    return runs


def test_overlaps_are_paired_over_the_images(runs: list[Run]) -> None:
    found = json.loads(invoked("compare", *(run.path for run in runs), "--json"))
    [difference] = found["differences"]
    columns = [pq.read_table(run.path / "measures/test.parquet").to_pydict() for run in runs]
    for name in NAMES:
        values = np.subtract(columns[1][name], columns[0][name])
        estimate = difference["estimates"][name]
        half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        assert estimate["value"] == pytest.approx(values.mean(), abs=1e-9)
        assert estimate["high"] - estimate["value"] == pytest.approx(half, rel=1e-9)
        measured = found["groups"][1]["runs"][0]["measures"]["conditional"]["masks"][name]
        assert found["groups"][1]["figures"][name]["value"] == pytest.approx(measured["value"])


def test_the_tables_show_them(runs: list[Run]) -> None:
    printed = invoked("compare", *(run.path for run in runs))
    figures, differences = printed.split("differences from")
    for part in (figures, differences):
        assert part.count("IoU of the foreground, mean over images") == part.count("IoU of averaged probabilities") == 1
    rows = csv.DictReader(io.StringIO(invoked("compare", *(run.path for run in runs), "--csv")))
    assert [row["figure"] for row in rows if row["figure"] in NAMES and row["difference"]] == list(NAMES)


def test_seeds_of_them_are_pooled(runs: list[Run]) -> None:
    found = load_measures(KIND, runs[0], "test")
    assert found is not None
    loaded = KIND.side.load_recipe(runs[0].config_path)
    others = [replace(loaded, train=replace(loaded.train, seed=seed)) for seed in (1, 2)]
    [group] = compare_measured([MeasuredRun(KIND, "a", runs[0], one, found) for one in others]).groups
    spread = group.figures[NAMES[0]].over_seeds
    assert spread is not None
    assert (spread.num_seeds, spread.sd) == (2, 0)


def test_runs_without_masks_have_none_of_it(runs: list[Run], tmp_path: Path) -> None:
    """By themselves, and beside runs that have them."""
    digits = start_image_run(tiny_image_recipe("digits_vae", "train.epochs=1"), tmp_path / "digits")
    invoked("compare", digits.path, "--samples", "2", "--limit", "8")
    assert "IoU" not in invoked("compare", digits.path)
    both = invoked("compare", digits.path, runs[0].path, "--samples", "2", "--limit", "8")
    [row] = [line for line in both.splitlines() if line.startswith("IoU of the foreground, mean")]
    assert row.split("images")[1].split()[0] == "–"
    assert "differences from" not in both


def test_overlaps_that_are_not_those_of_the_figures_are_refused(runs: list[Run]) -> None:
    found = load_measures(KIND, runs[0], "test")
    assert found is not None
    try:
        wrong = {**found.per_example, NAMES[0]: torch.ones(8, dtype=torch.float64)}
        save_measures(runs[0], Measured(found.figures, wrong))
        with pytest.raises(StoredMeasuresError, match=f"its mean {NAMES[0]}, 1, is not that of test.json"):
            load_measures(KIND, runs[0], "test")
        lacking = {name: column for name, column in found.per_example.items() if name != NAMES[1]}
        save_measures(runs[0], Measured(found.figures, lacking))
        with pytest.raises(StoredMeasuresError, match=f"no column {NAMES[1]}"):
            load_measures(KIND, runs[0], "test")
        path = runs[0].path / "measures/test.json"
        figures = json.loads(path.read_text())
        figures["conditional"]["masks"][NAMES[1]]["value"] = 1e200
        path.write_text(json.dumps(figures))
        with pytest.raises(StoredMeasuresError, match=f"{NAMES[1]}: 1e\\+200 cannot be"):
            load_measures(KIND, runs[0], "test")
    finally:
        save_measures(runs[0], found)
