"""Strips and animations of what is drawn in steps: each step in its cell and frame, and windows where they wrote."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_draw import BOTH, WINDOWS, wide
from test_image_models import images
from test_pixelvae import of_size
from tiny import start_image_run, tiny_image_recipe
from torch import Tensor

import cli
from imagevae import generation
from imagevae.attention import filters, placed
from imagevae.drawing import MOST_SHOWN, MOST_STEPS, Drawing
from imagevae.models import DrawConfig
from imagevae.pictures import PIXELS_PER_CELL, grid_png
from imagevae.session import open_trained_images
from imagevae.strips import FRAME_MS, LAST_FRAME_MS, animated_png, strip_png
from latent.training import Run

FORM = of_size(8, 8)


def rgb(png: bytes | Image.Image) -> np.ndarray:
    image = Image.open(io.BytesIO(png)) if isinstance(png, bytes) else png
    return np.asarray(image.convert("RGB")).astype(int)


def flat(levels: Tensor, windows: Tensor | None = None) -> Drawing:
    """Images of one grey each, T×N."""
    pixels = levels.unsqueeze(2).expand(-1, -1, 64)
    return Drawing(pixels, torch.zeros(*levels.shape, 0, 4) if windows is None else windows)


def middle(picture: np.ndarray, row: int, column: int, top: int = 25) -> float:
    """The level in the middle of a cell, 0 to 1."""
    y, x = (top if picture.shape[0] % PIXELS_PER_CELL else 0) + (row + 0.45) * PIXELS_PER_CELL, column + 0.45
    return picture[int(y), int(x * PIXELS_PER_CELL), 0] / 255


def is_red(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] - picture[..., 1:].max(-1) > 60


@BOTH
def test_the_last_step_is_what_is_shown(config: DrawConfig) -> None:
    model, batch = wide(config, FORM), images(config)
    with torch.no_grad():
        z = model.prior(batch).sample()
        found = model.drawing(z, batch)
        torch.testing.assert_close(found.pixels[-1], model.shown(z, batch))
        torch.testing.assert_close(found.pixels, torch.sigmoid(model.canvases(z)))
    assert found.pixels.shape == (3, 7, 64)
    assert found.windows.shape == (3, 7, 0 if config.attention is None else 1, 4)


def test_windows_are_those_that_the_step_wrote_to() -> None:
    """By the change of the canvas: moved by the step's own five numbers, it is within the frame."""
    model, batch = wide(WINDOWS, FORM), images(WINDOWS)
    writer = model.hand.decoder.writer
    with torch.no_grad():
        writer.place.weight.zero_()
        writer.place.bias.copy_(torch.tensor([0.4, -0.5, -3.0, -1.5, 0.0]))
        z = model.prior(batch).sample()
        found = model.drawing(z, batch)
        change = (found.pixels[0].logit() - model.hand.decoder.start).view(-1, 8, 8).abs()
    left, top, right, bottom = found.windows[0, 0, 0].tolist()
    ys, xs = np.nonzero((change.amax(0) > 1e-3).numpy())
    assert left - 1 < xs.min() + 1 <= xs.max() + 1 < right + 1
    assert top - 1 < ys.min() + 1 <= ys.max() + 1 < bottom + 1
    assert right - left < 5


@pytest.mark.parametrize("num_filters", [1, 4])
def test_edges_are_a_deviation_beyond_the_outer_filters(num_filters: int) -> None:
    """Against the filters' own mean places, at a window well within the image."""
    given = torch.tensor([[0.1, -0.2, 0.0, -2.0, 0.0]], dtype=torch.float64)
    found = filters(given, num_filters, 20, 28)
    edges = placed(given, num_filters, 20, 28).window(num_filters)[0].tolist()
    for bank, low, high in ((found.columns, edges[0], edges[2]), (found.rows, edges[1], edges[3])):
        places = (bank[0] * torch.arange(1, bank.shape[2] + 1)).sum(1)
        assert low == pytest.approx(places[0].item() - 1, abs=1e-4)
        assert high == pytest.approx(places[-1].item() + 1, abs=1e-4)


def test_a_strip_has_a_row_for_each_image_and_a_column_for_each_step() -> None:
    levels = torch.arange(6).view(3, 2) / 6
    picture = rgb(strip_png(flat(levels), FORM))
    assert picture.shape[:2] == (25 + 2 * PIXELS_PER_CELL, 3 * PIXELS_PER_CELL)
    for step in range(3):
        for image in range(2):
            assert middle(picture, image, step) == pytest.approx(levels[step, image].item(), abs=0.01)
    assert not is_red(picture).any()


def test_an_animation_has_a_frame_for_each_step() -> None:
    levels = torch.arange(15).view(3, 5) / 15
    animation = Image.open(io.BytesIO(animated_png(flat(levels), FORM)))
    assert (animation.format, animation.n_frames, animation.info["loop"]) == ("PNG", 3, 0)
    for step in range(3):
        animation.seek(step)
        assert animation.info["duration"] == (LAST_FRAME_MS if step == 2 else FRAME_MS)
        for image in range(5):
            found = middle(rgb(animation), *divmod(image, 3))
            assert found == pytest.approx(levels[step, image].item(), abs=0.01)
    single = Image.open(io.BytesIO(animated_png(flat(levels[:1]), FORM)))
    assert middle(rgb(single), 1, 0) == pytest.approx(levels[0, 3].item(), abs=0.01)


def test_of_many_images_and_steps_some_are_shown() -> None:
    shown, heads = flat(torch.arange(1000).float().view(1000, 1).expand(-1, 30)).thinned()
    assert shown.pixels.shape == (MOST_STEPS, MOST_SHOWN, 64)
    assert (heads[0], heads[-1]) == ("1", "1000")
    assert [float(head) - 1 for head in heads] == shown.pixels[:, 0, 0].tolist()


def test_a_frame_stands_where_its_window_is() -> None:
    """Of the second of two images: from the middle of pixel 3 to that of pixel 6, and no further than the image."""
    windows = torch.tensor([[[1.0, 1.0, 1.0, 1.0]], [[3.0, 2.0, 6.0, 40.0]]])
    picture = is_red(rgb(grid_png(torch.zeros(2, 1, 8, 8), 2, windows=windows)))
    ys, xs = np.nonzero(picture[:, PIXELS_PER_CELL:])
    scale = PIXELS_PER_CELL / 9  # a line between images
    assert xs.min() == pytest.approx(2.5 * scale, abs=1.5)
    assert xs.max() == pytest.approx(5.5 * scale, abs=1.5)
    assert ys.min() == pytest.approx(1.5 * scale, abs=1.5)
    assert ys.max() == pytest.approx(8 * scale, abs=1.5)


def sampled(run: Run, *arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(
        cli.cli, list(map(str, ("sample", run.path, *arguments, "--json"))), catch_exceptions=False
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("attention", ["{read_size: 3, write_size: 4}", "null"])
def test_sample_writes_the_steps_of_its_samples(attention: str, tmp_path: Path) -> None:
    recipe = tiny_image_recipe("digits_draw", f"model.attention={attention}", "train.epochs=2")
    run = start_image_run(recipe, tmp_path / "run")
    said = sampled(run, "-n", 12, "--seed", 3, "--out", tmp_path / "x.png")
    assert said["steps"] == str(tmp_path / "x-steps.png")
    assert said["animation"] == str(tmp_path / "x-animated.png")
    strip = rgb((tmp_path / "x-steps.png").read_bytes())
    assert is_red(strip).any() == (attention != "null")
    trained = open_trained_images(run)
    labels = torch.zeros(12, dtype=torch.int64)
    found = generation.drawing(trained, labels, seed=3)
    assert found is not None
    drawn = generation.draw(trained, labels, seed=3)
    torch.testing.assert_close(trained.form.images(found.pixels[-1]), drawn[:MOST_SHOWN])
    assert (tmp_path / "x-steps.png").read_bytes() == strip_png(found, trained.form)
    assert (tmp_path / "x-animated.png").read_bytes() == animated_png(found, trained.form)
    sampled(run)
    names = {"samples.png", "samples-steps.png", "samples-animated.png"}
    assert names == {path.name for path in (run.path / "samples").iterdir()}


@pytest.mark.parametrize("recipe", ["digits_vae", "digits_pixelvae"])
def test_what_is_made_at_once_has_no_steps(recipe: str, tmp_path: Path) -> None:
    run = start_image_run(tiny_image_recipe(recipe, "train.epochs=1"), tmp_path / "run")
    assert "steps" not in sampled(run, "-n", 2)
    assert [path.name for path in (run.path / "samples").iterdir()] == ["samples.png"]
