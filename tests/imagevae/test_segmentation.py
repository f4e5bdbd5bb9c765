"""Measures of predicted masks against hand-made ones and torchmetrics, and in runs of photographs."""

import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mask_files import write_pairs
from PIL import Image
from tiny import start_image_run
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error, binary_jaccard_index
from torchmetrics.functional.segmentation import mean_iou

import cli
from imagevae.measuring import measure
from imagevae.prediction import _mask, predict_folder
from imagevae.recipe import ImageRecipe
from imagevae.run_kind import KIND
from imagevae.segmentation import (
    MaskPredictions,
    calibration_error,
    compare_masks,
    diversity,
    measure_masks,
    overlap,
    reliability,
)
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import IMAGE
from imagevae.structured import draws, predict
from latent.measures import Estimate
from latent.reporting.comparison import compare_runs
from latent.reporting.comparison_report import write_comparison
from latent.training import Run

SIDE = 8


def noise(num_masks: int, seed: int = 0, share: float = 0.4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_masks, SIDE**2, generator=generator, dtype=torch.float64) < share


def masks(*rows: str) -> Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


def compared(averaged: Tensor, truth: Tensor, drawn: Tensor | None = None) -> MaskPredictions:
    return compare_masks(averaged, averaged, torch.stack([truth, truth]) if drawn is None else drawn, truth)


def test_three_definitions_that_differ() -> None:
    truth, ours = masks("##......", "####....", "........"), masks("#.......", "########", "........")
    found, _ = measure_masks([compared(ours.double(), truth)], 8, 0)
    assert found.foreground_iou_at_prior_mean.value == pytest.approx((1 / 2 + 4 / 8 + 0) / 3)
    assert found.jaccard_at_prior_mean.value == pytest.approx((1 + 4) / (2 + 8))
    assert found.mean_iou_at_prior_mean.value == pytest.approx(((1 / 2 + 6 / 7) / 2 + (4 / 8 + 0) / 2 + 1) / 3)


def test_the_overlaps_are_torchmetrics() -> None:
    truth, ours = noise(20), noise(20, seed=1, share=0.6)
    found, columns = measure_masks(
        [compared(each.double(), y) for each, y in zip(ours.split(7), truth.split(7), strict=True)], 64, 0
    )
    assert found.jaccard_of_averaged.value == pytest.approx(binary_jaccard_index(ours.long(), truth.long()).item())
    images = [each.long().unflatten(1, (SIDE, SIDE)) for each in (ours, truth)]
    expected = mean_iou(*images, num_classes=2, input_format="index")
    torch.testing.assert_close(columns["mean_iou_of_averaged"].float(), expected)
    each = [binary_jaccard_index(one.long(), y.long()) for one, y in zip(ours, truth, strict=True)]
    torch.testing.assert_close(columns["foreground_iou_of_averaged"].float(), torch.stack(each))


def test_an_interval_over_images_contains_the_truth() -> None:
    """The pooled index of many images lies within the interval of a few about as often as it says."""
    torch.manual_seed(0)
    share = torch.linspace(0.2, 0.9, 4000, dtype=torch.float64)[torch.randperm(4000)].unsqueeze(1)
    truth = torch.rand(4000, SIDE**2, dtype=torch.float64) < share
    ours = truth ^ (torch.rand(4000, SIDE**2) < 0.2)
    whole, _ = measure_masks([compared(ours.double(), truth)], 64, 0)
    parts = [
        measure_masks([compared(one.double(), y)], 64, 0)[0]
        for one, y in zip(ours.split(40), truth.split(40), strict=True)
    ]
    for name in ("jaccard_at_prior_mean", "foreground_iou_at_prior_mean", "mean_iou_at_prior_mean"):
        intervals: list[Estimate] = [getattr(part, name) for part in parts]
        hits = sum(each.low < getattr(whole, name).value < each.high for each in intervals)
        assert 86 <= hits <= 100, name  # of 100; 95 expected, standard error 2.2


def test_the_calibration_error_is_torchmetrics() -> None:
    torch.manual_seed(0)
    truth = noise(30)
    probabilities = (0.6 * truth + 0.4 * torch.rand(30, SIDE**2, dtype=torch.float64)).clamp(0, 1)
    sums = torch.cat([reliability(p, y) for p, y in zip(probabilities.split(9), truth.split(9), strict=True)])
    found = calibration_error(sums, SIDE**2)
    expected = binary_calibration_error(probabilities.flatten(), truth.flatten().long(), n_bins=15, norm="l1")
    assert found.value == pytest.approx(expected.item(), abs=1e-6)
    assert found.low < found.value < found.high


def test_a_certain_pixel_is_in_the_last_bin() -> None:
    sums = reliability(torch.tensor([[1.0, 0.99, 0.0]]), torch.tensor([[True, False, True]]))
    torch.testing.assert_close(sums[0, -1], torch.tensor([1.99, 1.0], dtype=torch.float64), atol=1e-6, rtol=0)
    assert sums[0, 0].tolist() == [0, 1]


def test_a_calibrated_prediction_has_no_error() -> None:
    torch.manual_seed(0)
    probabilities = torch.rand(400, SIDE**2, dtype=torch.float64)
    drawn = torch.rand(400, SIDE**2, dtype=torch.float64) < probabilities
    assert calibration_error(reliability(probabilities, drawn), SIDE**2).value < 0.02
    confident = calibration_error(reliability((probabilities > 0.5).double(), drawn), SIDE**2)
    assert confident.value == pytest.approx(0.25, abs=0.01)


@given(st.lists(st.integers(0, 15), min_size=2, max_size=6))
def test_diversity_is_the_mean_over_pairs(numbers: list[int]) -> None:
    drawn = torch.tensor([[bool(number >> bit & 1) for bit in range(4)] for number in numbers])
    pairs = [overlap(one, other).distance for one, other in combinations(drawn, 2)]
    torch.testing.assert_close(diversity(drawn), torch.stack(pairs).mean())


def test_the_energy_distance_is_least_for_draws_of_the_truth_s_own_distribution() -> None:
    """Its mean over truths: 0 for their own distribution, more for another one and for a single guess, however good."""
    possible = masks("##......", "..####..", "........")
    generator = torch.Generator().manual_seed(0)
    truth = possible[torch.randint(3, (300,), generator=generator)]
    own = possible[torch.randint(3, (60, 300), generator=generator)]
    found = {
        "own": compared(truth.double(), truth, own).energy_distance.mean(),
        "other": compared(truth.double(), truth, own.roll(1, -1)).energy_distance.mean(),
        "single": compared(truth.double(), truth, possible[0].expand(60, 300, 8)).energy_distance.mean(),
    }
    # E d(y, y') = 2/3: with one truth for each image that is what remains of 2 E d(s, y) − E d(s, s')
    assert found["own"] == pytest.approx(2 / 3, abs=0.06)
    assert found["single"] == pytest.approx(4 / 3, abs=0.12)
    assert found["other"] > found["own"] + 0.1


def test_masks_without_foreground() -> None:
    nothing, something = masks("....", "...."), masks("....", "..#.")
    found = compared(nothing.double(), something, torch.stack([nothing, nothing]))
    assert found.of_averaged.foreground_iou.tolist() == [0, 0]  # as the paper's code counts an empty truth
    assert found.distance_to_truth.tolist() == [0, 1]
    assert found.diversity.tolist() == [0, 0]
    assert found.iou_of_best.tolist() == [0, 0]


def recipe(folder: Path, *overrides: str) -> ImageRecipe:
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
corpus: {{kind: masks, path: {folder}, size: 8, num_valid: 4, num_test: 8}}
model: {{kind: structured_cvae, latent_size: 3, network: {{kind: conv, channels: [4], hidden_size: 12}}}}
objective: {{kind: elbo}}
train: {{steps: 60, images_per_batch: 8, precision: fp32, log_steps: 20, checkpoint_steps: 60}}
"""
    )
    return IMAGE.load_recipe(path, overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pairs")
    return start_image_run(recipe(write_pairs(folder, 40)), folder / "run")


@pytest.fixture
def trained(run: Run) -> TrainedImages:
    return open_trained_images(run)


def test_a_run_of_masks_is_measured(trained: TrainedImages) -> None:
    found = measure(trained, num_samples=20)
    conditional = found.figures.conditional
    assert conditional is not None
    figures = conditional.masks
    assert figures is not None
    assert (conditional.num_observed, conditional.num_scored, conditional.context_channels) == (0, 64, 3)
    assert found.figures.bits_per_dimension.value == pytest.approx(found.figures.nll.value / (64 * np.log(2)))
    assert conditional.accuracy_of_averaged.value > 0.7
    assert figures.foreground_iou_of_best.value >= figures.foreground_iou_of_averaged.value > 0.2
    assert 0 <= figures.diversity.value < figures.energy_distance.value
    for name in ("foreground_iou_of_averaged", "mean_iou_at_prior_mean", "energy_distance", "diversity"):
        assert getattr(figures, name).value == pytest.approx(found.per_example[name].mean().item())
        assert len(found.per_example[name]) == 8
    assert measure(trained, num_samples=20).figures == found.figures


def test_draws_and_figures_are_of_the_same_masks(trained: TrainedImages) -> None:
    batch = trained.splits.test.batch(range(8))
    found, drawn = predict(trained.model, batch, 7, seed=5), draws(trained.model, batch, 7, seed=5)
    truth = batch.pixels.flatten(1) > 0.5
    assert found.masks is not None
    expected = compare_masks(found.at_prior_mean, drawn.mean(0), drawn > 0.5, truth)
    torch.testing.assert_close(found.masks.energy_distance, expected.energy_distance)
    torch.testing.assert_close(found.masks.reliability, expected.reliability, atol=1e-4, rtol=1e-4)


def test_a_prediction_never_sees_the_mask(trained: TrainedImages) -> None:
    batch = trained.splits.test.batch(range(8))
    blind = replace(batch, pixels=torch.full_like(batch.pixels, torch.nan))
    for one, other in zip(draws(trained.model, blind, 3), draws(trained.model, batch, 3), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_baseline_draws_one_mask(run: Run, tmp_path: Path) -> None:
    overrides = ("model={kind: structured_baseline, network: {kind: conv, channels: [4], hidden_size: 12}}",)
    plain = open_trained_images(start_image_run(recipe(run.path.parent, *overrides), tmp_path / "run"))
    conditional = measure(plain, num_samples=2).figures.conditional
    assert conditional is not None
    assert conditional.masks is not None
    assert conditional.masks.diversity.value == pytest.approx(0, abs=1e-12)
    assert conditional.masks.foreground_iou_of_best == conditional.masks.foreground_iou_at_prior_mean


def invoked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.cli, list(map(str, arguments)))
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_measure_prints_and_keeps_every_figure(run: Run) -> None:
    printed = invoked("measure", run.path, "--samples", "3")
    for row in ("IoU of the foreground", "Jaccard index of all pixels", "(15 bins)", "generalised energy distance"):
        assert row in printed
    assert "another image of 3 channels" in printed
    said = json.loads(invoked("measure", run.path, "--samples", "3", "--json"))
    assert said["conditional"]["masks"].keys() >= {"calibration_error", "jaccard_of_averaged", "num_bins"}


def test_predictions_of_a_folder(run: Run, trained: TrainedImages, tmp_path: Path) -> None:
    """Each mask has its photograph's size, depends on it alone, and is what `measure` scores."""
    photographs, out = tmp_path / "photographs", tmp_path / "masks"
    (photographs / "more").mkdir(parents=True)
    source = run.path.parent / "images"
    Image.open(source / "p00.png").save(photographs / "small.png")
    Image.open(source / "p00.png").resize((301, 40), Image.Resampling.NEAREST).save(photographs / "more" / "wide.jpg")
    Image.open(source / "p01.png").convert("L").save(photographs / "grey.bmp")
    (photographs / "damaged.png").write_bytes((source / "p02.png").read_bytes()[:70])
    (photographs / "notes.txt").write_text("no image")
    said = json.loads(invoked("predict", run.path, "--images", photographs, "--out", out, "--json"))
    assert said["masks"] == [str(out / name) for name in ("grey.png", "more/wide.png", "small.png")]
    assert [reason.split(": ")[0] for reason in said["left_out"]] == [
        str(photographs / name) for name in ("notes.txt", "damaged.png")
    ]
    for name, size in (("grey", (20, 14)), ("more/wide", (301, 40)), ("small", (20, 14))):
        with Image.open(out / f"{name}.png") as mask:
            assert (mask.mode, mask.size) == ("L", size)
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
    (photographs / "grey.bmp").unlink()
    before = (out / "small.png").read_bytes()
    printed = invoked("predict", run.path, "--images", photographs, "--out", out)
    assert printed.startswith(f"2 masks in {out}\nleft out: ")
    assert (out / "small.png").read_bytes() == before


def test_a_predicted_mask_is_the_one_that_is_measured(run: Run, trained: TrainedImages, tmp_path: Path) -> None:
    """At the model's own size, where nothing is interpolated."""
    levels = trained.splits.test.context
    assert levels is not None
    (tmp_path / "images").mkdir()
    for number, photograph in enumerate(levels):
        Image.fromarray(photograph.transpose(1, 2, 0)).save(tmp_path / "images" / f"{number}.png")
    found = predict_folder(trained, tmp_path / "images", tmp_path / "out")
    ours = np.stack([np.asarray(Image.open(path)) for path in found.written]) > 0
    expected = predict(trained.model, trained.splits.test.batch(range(8)), 50).averaged.unflatten(1, (8, 8))
    sure = ((expected - 0.5).abs() > 0.1).numpy()  # beyond the noise of 50 draws
    assert sure.mean() > 0.5
    assert (ours == (expected > 0.5).numpy())[sure].all()


def test_a_mask_is_enlarged_by_its_probabilities() -> None:
    probability = torch.zeros(1, 4, 4)
    probability[0, :, :2] = 1.0
    found = np.asarray(Image.open(io.BytesIO(_mask(probability, (40, 20)))))
    assert (found == np.repeat([[255, 0]], 20, axis=1)).all()
    assert found.shape == (20, 40)


def test_what_cannot_be_predicted(run: Run, trained: TrainedImages, tmp_path: Path) -> None:
    def refused(message: str, images: Path, out: Path = tmp_path / "out", one: TrainedImages = trained) -> None:
        with pytest.raises(ValueError, match=message):
            predict_folder(one, images, out)

    refused("nowhere: there is no such folder; give a folder of photographs with --images", tmp_path / "nowhere")
    refused("no photograph that can be read$", tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    refused(r"no photograph that can be read; .*a\.png: no image that can be read", tmp_path)
    refused("the folder of the photographs, which masks would replace", tmp_path, tmp_path / ".")
    digits = replace(trained, form=replace(trained.form, context_channels=0, num_observed=16))
    refused("its model is given no photographs; train one with corpus.kind=masks or cub", tmp_path, one=digits)


def test_pictures_of_masks(run: Run, trained: TrainedImages, tmp_path: Path) -> None:
    said = json.loads(invoked("sample", run.path, "-n", "2", "--out", tmp_path / "y.png", "--json"))
    assert said["images"] == list(range(8))
    with Image.open(tmp_path / "y.png") as image:
        cells = np.asarray(image.convert("RGB")).astype(int)
    photographs, rest = cells[30:, :60], cells[30:, 64:]
    assert (np.ptp(photographs, axis=2) > 20).mean() > 0.1  # in colour
    assert np.ptp(rest, axis=2).max() == 0  # masks, predictions and doubt are grey
    for verb in (("reconstruct",), ("interpolate", "0", "5")):
        assert invoked(verb[0], run.path, *verb[1:], "--out", tmp_path / "z.png").strip().endswith("z.png")
    found = compare_runs(KIND, [run], num_samples=2, limit=8, say=lambda _: None)
    write_comparison(tmp_path / "report.html", found)
    assert (tmp_path / "report.html").read_text("utf-8").count("<img") == 3


def test_what_does_not_fit_is_found_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vae does not fit corpus\.kind masks; set model\.kind=structured_cvae"):
        IMAGE.check(recipe(tmp_path, "model={kind: vae}"))
