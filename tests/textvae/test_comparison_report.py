"""Comparing trained runs: what is measured and what is taken as stored, and the page in a real browser."""

import random
import shutil

import pytest
from pages import Page, browsed
from tiny import sentences, start_run, tiny_recipe

from latent.reporting.comparison import compare_runs
from latent.reporting.comparison_report import run_comparison, write_comparison
from latent.reporting.comparison_tables import flags
from latent.reporting.stored_measures import load_measures, save_measures
from latent.training import Run
from textvae.measuring import measure
from textvae.run_kind import KIND
from textvae.session import open_trained

HOSTILE = (
    "<script>document.title='taken'</script>",
    "<img src=x onerror=document.title='taken'>",
    "a & b &amp; &lt;b&gt;",
    "\u202eוַיֹּאמֶר\u200f",
    "🐈 👩‍🚀 $x^2$ ${lead}",
    "</style></svg></table>",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of a recipe and another recipe, on a hostile corpus with hostile labels; only the first is measured."""
    folder = tmp_path_factory.mktemp("compare")
    rng = random.Random(0)
    rows = [f"{text} {rng.choice(HOSTILE)}" for text in sentences(240)]
    (folder / "hostile.txt").write_text("\n".join(rows) + "\n", "utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTVAE_CACHE", str(folder / "cache"))
        recipes = {
            "seed0": tiny_recipe(folder / "hostile.txt", "train.steps=10"),
            "seed1": tiny_recipe(folder / "hostile.txt", "train.steps=10", "train.seed=1"),
            "<b>plain": tiny_recipe(folder / "hostile.txt", "train.steps=10", recipe="plain"),
        }
        runs = {name: start_run(recipe, folder / "made" / name) for name, recipe in recipes.items()}
        save_measures(runs["seed0"], measure(open_trained(runs["seed0"]), num_samples=3))
    return folder / "made"


@pytest.fixture
def runs(trained, tmp_path):
    """Copies, which a test may damage."""
    shutil.copytree(trained, tmp_path / "made")
    return [Run.open(tmp_path / "made" / name) for name in ("seed0", "seed1", "<b>plain")]


def written_at(run: Run) -> int:
    return (run.path / "measures/test.json").stat().st_mtime_ns


def test_runs_without_measures_are_measured_like_the_first(runs):
    before, said = written_at(runs[0]), []
    found = compare_runs(KIND, runs, say=said.append)
    assert said == ["measuring made/seed1: it has no measures yet", "measuring made/<b>plain: it has no measures yet"]
    assert written_at(runs[0]) == before
    assert [group.name for group in found.groups] == ["made/seed0 (seeds 0, 1)", "made/<b>plain"]
    assert {run.figures.num_samples for run in found.runs} == {3}
    assert not flags(found)
    assert load_measures(KIND, runs[1], "test").figures == found.runs[1].figures
    said.clear()
    compare_runs(KIND, runs, say=said.append)
    assert not said


def test_what_is_asked_for_is_measured(runs):
    said, before = [], written_at(runs[0])
    found = compare_runs(KIND, runs[:2], num_samples=2, limit=5, seed=4, say=said.append)
    others = "measuring made/seed0: it keeps those that it has, and others were asked for"
    assert said == [others, "measuring made/seed1: it has no measures yet"]
    assert {(run.figures.num_samples, run.figures.num_examples, run.figures.seed) for run in found.runs} == {(2, 5, 4)}
    assert written_at(runs[0]) == before
    said.clear()
    compare_runs(KIND, runs[:2], num_samples=2, limit=5, say=said.append)
    assert said == [others]


def test_a_limit_beyond_the_split_is_the_whole_of_it(runs):
    said = []
    found = compare_runs(KIND, runs[:1], limit=10_000, say=said.append)
    assert not said
    assert found.runs[0].figures.num_examples == len(open_trained(runs[0]).splits.test)
    compare_runs(KIND, runs[:1], limit=5, say=said.append)
    compare_runs(KIND, runs[:1], limit=6, say=said.append)
    assert len(said) == 2


def test_stored_measures_of_another_k_are_flagged_not_overwritten(runs):
    save_measures(runs[1], measure(open_trained(runs[1]), num_samples=2))
    found = compare_runs(KIND, runs[:2], say=pytest.fail)
    assert "K = 2 against 3" in flags(found)[0]
    assert len(found.groups) == 2


@pytest.mark.parametrize("damaged", ["test.json", "test.parquet"])
def test_damaged_measures_are_named(runs, damaged):
    (runs[0].path / "measures" / damaged).write_text("{")
    with pytest.raises(ValueError, match=damaged) as caught:
        compare_runs(KIND, runs, say=pytest.fail)
    assert "\n" not in str(caught.value)
    assert not (runs[1].path / "measures").exists()


def test_runs_are_named_and_named_once(runs):
    with pytest.raises(ValueError, match="name one run or more"):
        compare_runs(KIND, [], say=pytest.fail)
    with pytest.raises(ValueError, match="given more than once"):
        compare_runs(KIND, [runs[0], Run(runs[0].path / ".." / "seed0")], say=pytest.fail)
    with pytest.raises(ValueError, match="no such split"):
        compare_runs(KIND, runs[:1], split="tset", say=lambda _: None)


def test_runs_of_one_name_are_told_apart_by_their_paths(runs, tmp_path):
    shutil.copytree(tmp_path / "made", tmp_path / "other" / "made")
    twin = Run(tmp_path / "other" / "made" / "seed0")
    found = compare_runs(KIND, [runs[0], twin], say=pytest.fail)
    assert [run.name for run in found.runs] == [str(runs[0].path), str(twin.path)]
    assert len(found.groups) == 2


@pytest.mark.parametrize("path", [".", "none/report.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(runs, tmp_path, path):
    with pytest.raises(ValueError, match="folder"):
        run_comparison(KIND, runs, report=tmp_path / path, say=pytest.fail)
    assert not (runs[1].path / "measures").exists()


def test_the_page_shows_a_hostile_corpus_as_text(runs, tmp_path):
    run_comparison(KIND, runs, report=tmp_path / "report.html", say=lambda _: None)
    source = (tmp_path / "report.html").read_text("utf-8")
    assert len(source) < 2_000_000
    page = Page(source)
    assert {"Differences", "Rate and distortion", "Latent means", "Interpolation"} <= set(page.headings)
    shown = [text for text in HOSTILE if " ".join(text.split()) in page.text]
    assert len(shown) >= 2  # of the five sentences that are shown
    assert "script" not in page.tags
    assert "made/<b>plain" in page.text
    assert page.tags.count("image") == 3
    found = browsed(tmp_path / "report.html")
    assert "taken" not in found.partition("</title>")[0]
    dom = Page(found)
    assert not {"script", "img", "b>plain"} & set(dom.tags)
    assert dom.headings == page.headings
    for text in shown:
        assert text in dom.text
    assert dom.tags.count("svg") == page.tags.count("svg")


def test_a_run_whose_checkpoint_is_gone_is_named(runs, tmp_path):
    found = compare_runs(KIND, runs[:1], say=pytest.fail)
    shutil.rmtree(runs[0].path / "checkpoints")
    with pytest.raises(ValueError, match=r"seed0: no checkpoint step-000010") as caught:
        write_comparison(tmp_path / "report.html", found)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()
