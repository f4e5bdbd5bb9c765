"""Comparing runs of images: paired differences, what may not be compared, and the page with its pictures."""

import base64
import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from click.testing import CliRunner
from pages import Page, browsed
from tiny import start_image_run, tiny_image_recipe, tiny_recipe, write_corpus

import cli
from imagevae.measuring import measure
from imagevae.pictures import grid_png
from imagevae.run_kind import KIND
from imagevae.session import open_trained_images
from imagevae.side import IMAGE
from latent.measures import Estimate
from latent.reporting.comparability import reasons_against
from latent.reporting.comparison import compare_measured, compare_runs
from latent.reporting.comparison_report import write_comparison
from latent.reporting.comparison_tables import comparison_lines, flags
from latent.reporting.report import write_report
from latent.reporting.run_kind import MeasuredRun
from latent.reporting.stored_measures import StoredMeasuresError, load_measures, save_measures
from latent.training import Run
from textvae.side import TEXT

HOSTILE = "<script>document.title='taken'</script> & <img src=http://x.test/a.png onerror=alert(1)> $\\frac{"
NAMES = ("vae", "<b>cvae")
K = 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A VAE with two latent dimensions and a conditional one with four, both measured."""
    folder = tmp_path_factory.mktemp("images") / "made"
    settings = {"vae": ("model.latent_size=2",), "<b>cvae": ("model.kind=cvae", "model.latent_size=4")}
    for name in NAMES:
        run = start_image_run(tiny_image_recipe("digits_vae", *settings[name]), folder / name)
        save_measures(run, measure(open_trained_images(run), num_samples=K))
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """Copies, which a test may damage."""
    shutil.copytree(trained, tmp_path / "made")
    return [Run.open(tmp_path / "made" / name) for name in NAMES]


def a_run(name: str = "a", *overrides: str, run: Run, **settings: object) -> MeasuredRun:
    """The run under another name, with other settings of the recipe and of the measures."""
    found = load_measures(KIND, run, "test")
    recipe = IMAGE.load_recipe(run.config_path, overrides)
    return MeasuredRun(KIND, name, run, recipe, replace(found, figures=replace(found.figures, **settings)))


def compared(*arguments: object) -> str:
    """What `textvae compare` prints."""
    done = CliRunner().invoke(cli.cli, ["compare", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_differences_are_paired_over_the_images(runs):
    found = json.loads(compared(*(run.path for run in runs), "--json"))
    [difference] = found["differences"]
    assert difference["comparable"]
    columns = [pq.read_table(run.path / "measures/test.parquet").to_pydict() for run in runs]
    assert set(difference["estimates"]) == set(columns[0])
    for name, estimate in difference["estimates"].items():
        values = np.subtract(columns[1][name], columns[0][name])
        half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        assert estimate["value"] == pytest.approx(values.mean(), rel=1e-6)
        assert estimate["high"] - estimate["value"] == pytest.approx(half, rel=1e-9)
    assert [group["name"] for group in found["groups"]] == ["made/vae", "made/<b>cvae"]
    figures = found["groups"][0]["figures"]
    assert figures["bits_per_dimension"]["value"] == pytest.approx(figures["nll"]["value"] / (64 * math.log(2)))
    assert found["groups"][1]["runs"][0]["measures"]["num_classes"] == 10
    assert "ppl" not in json.dumps(found)


def test_the_table_speaks_of_images(runs):
    lines = compared(*(run.path for run in runs)).splitlines()
    assert "nats per image; 95 % intervals over the images" in lines
    assert "differences from made/vae, paired over the same 300 images" in lines
    text = "\n".join(lines)
    assert not re.search("sentence|token|PPL", text)
    for row in ("bits per dimension", "squared error of a pixel", "told the class +no +one of 10", "binarisation +dyn"):
        assert re.search(row, text)
    assert "excludes no difference (0)." in text


def test_csv_has_a_row_for_each_figure(runs):
    rows = list(csv.DictReader(io.StringIO(compared(*(run.path for run in runs), "--csv"))))
    assert [row["figure"] for row in rows] == 2 * [*KIND.by_example, *KIND.of_the_whole]
    assert {row["group"] for row in rows if row["difference"]} == {"made/<b>cvae"}


def test_a_run_without_measures_is_measured_like_the_first(runs):
    shutil.rmtree(runs[1].path / "measures")
    said = []
    found = compare_runs(KIND, runs, say=said.append)
    assert said == ["measuring made/<b>cvae: it has no measures yet"]
    assert {run.figures.num_samples for run in found.runs} == {K}
    assert load_measures(KIND, runs[1], "test").figures == found.runs[1].figures
    compare_runs(KIND, runs, limit=10_000, say=pytest.fail)


def test_another_binarisation_may_not_be_compared(runs, tmp_path):
    other = start_image_run(tiny_image_recipe("digits_vae", "corpus.binarisation=threshold"), tmp_path / "threshold")
    found = compare_runs(KIND, [runs[0], other], say=lambda _: None)
    [flag] = flags(found)
    assert flag.endswith("may not be compared with made/vae: other binarisation: threshold against dynamic")
    assert f"! {flag}" in comparison_lines(found)
    assert not found.differences[0].estimates


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({}, []),
        ({"binarisation_seed": 3}, []),  # the pixels are the same all the same
        ({"binarisation_seed": 3, "examples_digest": "d2"}, ["other binarisation: dynamic by seed 3 against seed 0"]),
        ({"likelihood": "gaussian"}, ["other likelihood: gaussian against bernoulli"]),
        ({"num_samples": 7}, ["other number of importance samples: K = 7 against 3; --samples measures both alike"]),
        ({"split": "valid"}, ["other split: valid against test"]),
        (
            {"examples_digest": "d2"},
            ["other images: the pixels differ, though the recipes name one corpus; it has changed"],
        ),
        (
            {"examples_digest": "d2", "num_examples": 9},
            ["other images: 9 against 300 of them; --limit measures both alike"],
        ),
        (
            {"examples_digest": "d2", "likelihood": "gaussian", "binarisation": "grey", "split": "valid"},
            [
                "other split: valid against test",
                "other binarisation: grey against dynamic",
                "other likelihood: gaussian against bernoulli",
            ],
        ),
    ],
)
def test_why_runs_may_not_be_compared(runs, settings, reasons):
    other = a_run("b", run=runs[0], **settings)
    assert list(reasons_against(other, a_run(run=runs[0]))) == reasons


def test_seeds_are_pooled(runs):
    pair = [a_run("a", run=runs[0]), a_run("b", "train.seed=1", run=runs[0])]
    [group] = compare_measured(pair).groups
    assert group.name == "a (seeds 0, 1)"
    assert group.figures["squared_error"].over_seeds.num_seeds == 2


def test_runs_of_both_sides_are_refused_and_nothing_is_written(runs, tmp_path, monkeypatch, capsys):
    text = Run.create(tmp_path / "text", TEXT.schema.dump(tiny_recipe(write_corpus(tmp_path))), {})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    command = ["textvae", "compare", str(runs[0].path), str(text.path), "--html", str(tmp_path / "report.html")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    [line] = said.err.splitlines()
    assert f"{runs[0].path} is a run of the image side and {text.path} one of the text side" in line
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"binarisation": "\x1b[2J"}, "binarisation"),
        ({"likelihood": "<script>"}, "likelihood"),
        ({"num_classes": "10"}, "num_classes"),
        ({"bits_per_dimension": None}, "bits_per_dimension"),
    ],
)
def test_stored_figures_of_another_shape_are_refused(runs, changes, word):
    path = runs[0].path / "measures/test.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(StoredMeasuresError, match=word) as caught:
        load_measures(KIND, runs[0], "test")
    assert str(caught.value).isprintable()


def test_stored_columns_that_do_not_belong_together_are_refused(runs):
    found = load_measures(KIND, runs[0], "test")
    shuffled = {**found.per_example, "bits_per_dimension": found.per_example["bits_per_dimension"].flip(0)}
    save_measures(runs[0], replace(found, per_example=shuffled))
    with pytest.raises(StoredMeasuresError, match="not in proportion"):
        load_measures(KIND, runs[0], "test")
    negative = {**found.per_example, "squared_error": -found.per_example["squared_error"]}
    figure = found.figures.squared_error
    figures = replace(found.figures, squared_error=Estimate(-figure.value, -figure.high, -figure.low))
    save_measures(runs[0], replace(found, figures=figures, per_example=negative))
    with pytest.raises(StoredMeasuresError, match="a square is not below 0"):
        load_measures(KIND, runs[0], "test")


def test_the_page_is_one_closed_file_with_its_pictures(runs, tmp_path):
    compared(*(run.path for run in runs), "--html", tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text("utf-8")
    page = Page(source)
    assert {"Differences", "Latent means", "Decoded manifold", "Samples from the prior", "Interpolation"} <= set(
        page.headings
    )
    pictures = page.all("src")
    assert len(pictures) == page.tags.count("img") == 2 * 3 + 1  # one model has two latent dimensions
    for picture in pictures:
        kind, _, content = picture.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content, validate=True).startswith(b"\x89PNG")
    assert all(page.all("alt"))
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "action", "srcset")]
    assert not re.search(r"url\((?!#)|@import", source)
    namespaces = {value for name, value in page.attributes if name.startswith("xmlns")}
    assert {value for _, value in page.attributes if re.search("https?:", value)} <= namespaces
    assert "made/<b>cvae" in page.text
    assert not re.search("sentence|token", page.text.partition("Is z used?")[2])
    assert "The class that the decoder is told stays" in page.text


def test_names_of_classes_are_shown_as_text(runs, tmp_path):
    found = compare_runs(KIND, runs[1:], say=pytest.fail)
    described = KIND.describe(KIND.open_run(runs[1]), found.runs[0].name, found.runs[0].figures)
    described = replace(
        described,
        content=replace(described.content, classes=(HOSTILE, "1")),
        latent_map=replace(described.latent_map, categories=(HOSTILE, *described.latent_map.categories[1:])),
    )
    write_report(tmp_path / "report.html", "title", [described], found)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.text.count(HOSTILE) == 2
    assert f"A column for each class: 0 {HOSTILE}" in page.text
    dom = browsed(tmp_path / "report.html")
    assert "taken" not in dom.partition("</title>")[0]
    assert "script" not in Page(dom).tags
    assert Page(dom).tags.count("img") == page.tags.count("img") == 3


def test_a_page_of_one_run_is_the_same_twice(runs, tmp_path):
    found = compare_runs(KIND, runs[:1], say=pytest.fail)
    for name in ("one.html", "two.html"):
        write_comparison(tmp_path / name, found)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("mnist_vae_2layer", ("model.latent_sizes=[1, 1]",)),
        ("mnist_vade", ("model.latent_size=2", "model.num_clusters=4", "update={kind: joint}")),
        ("digits_vae", ("corpus.binarisation=grey", "model.likelihood=gaussian")),
    ],
    ids=["two layers", "a mixture prior", "grey"],
)
def test_every_kind_of_model_has_a_page(recipe, overrides, tmp_path):
    run = start_image_run(tiny_image_recipe(recipe, "train.epochs=1", *overrides), tmp_path / "run")
    found = compare_runs(KIND, [run], num_samples=2, limit=40, say=lambda _: None)
    write_comparison(tmp_path / "report.html", found)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    has_manifold = recipe.startswith("mnist")
    assert page.tags.count("img") == 3 + has_manifold
    assert ("no KL per dimension" in page.text) == has_manifold
    assert "in 0 dimensions" not in page.text


def test_a_formula_in_a_name_is_drawn_as_text():
    assert grid_png(torch.zeros(1, 1, 8, 8), 1, column_labels=["$\\frac{"]).startswith(b"\x89PNG")
