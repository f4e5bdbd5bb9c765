"""The report as a reader's browser and a hostile corpus see it: one closed file, the same for the same runs."""

import base64
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from pages import Page
from synthetic import around, measured, measured_run, sentences

from latent.measures import Estimate, Measured
from latent.reporting.comparison import Comparison, compare_measured
from latent.reporting.latent_map import latent_map
from latent.reporting.plots import CURVES, alarms
from latent.reporting.report import write_report
from latent.reporting.run_report import RunReport
from textvae.generation import Step
from textvae.run_report import Spoken

MARKUP = '<script>alert("1")</script> & <img src=http://x.test/a.png onerror=alert(1)>'
HOSTILE = f"{MARKUP} \u202eוַיֹּאמֶר\u200f 🐈 $title ${{lead}}"
ALARM = "collapsed: no active unit while the KL weight is 0.67"


def a_run(name: str = "lstm", mutual_information: float = 4.0) -> RunReport[Spoken]:
    training = [{"step": s, "loss": 50.0 - s / 10, "kl": s / 50, "kl_weight": s / 200} for s in range(20, 201, 20)]
    validation = [
        {"step": s, "split": "valid", "elbo": -60.0 + s / 20, "mutual_information": s / 50, "active_units": 2.0}
        for s in (100, 200)
    ]
    means = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    return RunReport(
        name=name,
        metrics=(*training, *validation, {"step": 160, "alarm": f"step 160: {ALARM}"}),
        measures=measured(*sentences(), mutual_information).figures,
        content=Spoken(
            samples=("and the king said to him , go in peace .",),
            reconstructions=(("let there be light .", "let there be light ."), ("have no fear .", "have no bread .")),
            interpolation=(Step(0.0, "he went up .", False), Step(0.5, "he went up .", True), Step(1.0, "", False)),
            gain_by_position={place: around(1.0 / place) for place in range(1, 9)},
        ),
        seconds=90.0,
        latent_map=latent_map(means, np.arange(300), "tokens"),
    )


def saying(run: RunReport[Spoken], **changes: object) -> RunReport[Spoken]:
    """The run with other sentences."""
    return replace(run, content=replace(run.content, **changes))


def compared(*runs: RunReport[Spoken]) -> Comparison:
    """A comparison of the runs: each had a recipe of its own."""
    sentence_figures = measured(*sentences()).per_example
    return compare_measured(
        [
            measured_run(
                run.name, f"model.latent_size={number + 1}", found=Measured(run.measures, dict(sentence_figures))
            )
            for number, run in enumerate(runs)
        ]
    )


def written(tmp_path, *runs: RunReport[Spoken], title: str = "Is z used?", notes: tuple[str, ...] = ()) -> str:
    write_report(tmp_path / "report.html", title, runs, compared(*runs), notes)
    return (tmp_path / "report.html").read_text("utf-8")


def test_it_shows_all_that_is_known_of_two_runs(tmp_path):
    runs = (a_run("plain", 0.0), a_run("lstm"))
    page = Page(written(tmp_path, *runs, notes=("50 importance samples.",)))
    for run in runs:
        for reason in run.measures.verdict_reasons:
            assert reason in page.text
    for text in (
        "plain is collapsed",
        "lstm is used",
        "8.4 ± 0.1",
        "paired over the same 200 sentences",
        "Trained in 1.5 minutes",
        "step-000200",
        "go in peace",
        "have no bread",
        "50 importance samples.",
        f"plain, step 160: {ALARM}",
    ):
        assert text in page.text
    assert page.text.count("let there be light . the same") == 2
    assert page.text.count("he went up . the same") == 2
    assert page.all("class").count("repeat") == 2
    assert page.text.count("(empty)") == 2


@pytest.mark.parametrize("num_runs", [1, 2, 7])
def test_every_figure_is_there(tmp_path, num_runs):
    page = Page(written(tmp_path, *(a_run(f"run {number}") for number in range(num_runs))))
    bars = [f"KL per latent dimension, nats, run {number + 1}" for number in range(num_runs)]
    maps = [f"Latent means, run {number + 1}" for number in range(num_runs)]
    curves = [curve.title for curve in CURVES]
    assert page.all("aria-label") == ["Rate–distortion plane", *curves, *bars, "Gain from z by position", *maps]
    assert page.tags.count("svg") == len(page.all("aria-label"))


def test_ids_are_unique_and_references_stay_in_the_page(tmp_path):
    source = written(tmp_path, a_run("plain", 0.0), a_run("lstm"))
    page = Page(source)
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    links = {link.removeprefix("#") for link in page.all("xlink:href") if link.startswith("#")}
    referred = links | set(re.findall(r"url\(#(\w+)\)", source))
    assert referred
    assert referred <= set(ids)


def test_nothing_is_fetched_or_run(tmp_path):
    run = saying(a_run(HOSTILE), samples=(HOSTILE,), reconstructions=((HOSTILE, HOSTILE),))
    source = written(tmp_path, run, title=HOSTILE, notes=(HOSTILE,))
    page = Page(source)
    assert "<script" not in source.lower()
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "action")]
    pictures = [link for link in page.all("xlink:href") if not link.startswith("#")]
    assert len(pictures) == page.tags.count("image") == 1  # the points of the map
    kind, _, content = pictures[0].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert not re.search(r"url\((?!#)|@import", source)
    namespaces = {value for name, value in page.attributes if name.startswith("xmlns")}
    assert {value for _, value in page.attributes if re.search("https?:", value)} <= namespaces
    assert "default-src 'none'" in " ".join(page.all("content"))


def test_hostile_text_is_shown_as_it_is_wherever_it_stands(tmp_path):
    run = a_run(HOSTILE)
    run = replace(
        saying(
            run,
            samples=(HOSTILE,),
            reconstructions=((HOSTILE, HOSTILE),),
            interpolation=(Step(0.0, HOSTILE, False),),
        ),
        measures=replace(run.measures, verdict_reasons=(HOSTILE,), split=HOSTILE, checkpoint=HOSTILE),
        metrics=({"step": 3, "alarm": HOSTILE},),
        latent_map=latent_map(torch.randn(9, 2), np.arange(9), "tokens", np.zeros(9, np.int64), [HOSTILE]),
    )
    page = Page(written(tmp_path, run, title=HOSTILE, notes=(HOSTILE,)))
    names = 12  # lead, table, keys of three figures, alarm, bars, map, and the heads of four lists
    measures = 5  # reason; split and checkpoint, in words and in the table
    shown, titles, notes, alarm_texts, labels = 4, 2, 1, 1, 1
    assert page.text.count(HOSTILE) == names + measures + shown + titles + notes + alarm_texts + labels
    assert page.all("dir").count("auto") >= shown


def test_what_may_not_be_compared_is_flagged_in_the_page(tmp_path):
    one, other = a_run("plain"), a_run(HOSTILE)
    other = replace(other, measures=replace(other.measures, num_samples=500))
    page = Page(written(tmp_path, one, other))
    assert f"{HOSTILE} may not be compared with plain: other number of importance samples" in page.text
    assert "Hollow points may not be compared" in page.text
    assert "paired over the same" not in page.text


def test_one_run_has_no_differences(tmp_path):
    page = Page(written(tmp_path, a_run()))
    assert "Differences" not in page.text
    assert "Rate and distortion" in page.text


def test_the_same_runs_give_the_same_bytes(tmp_path):
    assert written(tmp_path, a_run()) == written(tmp_path, a_run())


def test_a_user_style_changes_nothing(tmp_path):
    import matplotlib

    before = written(tmp_path, a_run())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert written(tmp_path, a_run()) == before


def test_a_run_without_a_log_or_sentences_is_reported(tmp_path):
    nothing = latent_map(torch.full((2, 3), math.nan), np.arange(2), "tokens")
    silent = saying(a_run(), samples=(), reconstructions=(), interpolation=(), gain_by_position={})
    run = replace(silent, metrics=(), seconds=None, latent_map=nothing)
    page = Page(written(tmp_path, run))
    assert page.text.count("no finite value in the log") == len(CURVES)
    assert page.text.count("None.") == 4
    assert "no finite means" in page.text
    assert "Measured at step-000200" in page.text
    assert not {"Notes", "Gain from z by position", "Latent means"} & set(
        Page(written(tmp_path, replace(run, latent_map=None))).headings
    )


def test_what_is_not_finite_or_no_number_is_marked_or_left_out(tmp_path):
    run = a_run()
    rows = (
        {"step": 1, "loss": math.nan, "kl": math.inf, "kl_weight": 0.0},
        {"step": 2, "loss": 50.0, "kl": "much", "kl_weight": None},
        {"step": 10**400, "loss": 1.0},
        {"step": 2, "loss": 10**400},
        {"step": 2, "split": "valid", "elbo": -math.inf},
        {"loss": 3.0},
    )
    endless = Estimate(math.nan, -math.inf, math.inf)
    measures = replace(run.measures, kl_per_dimension=(math.nan, math.inf, 1.0), bleu=endless, kl=endless)
    source = written(tmp_path, replace(run, metrics=rows, measures=measures), a_run("none", 0.0))
    assert "nan" in Page(source).text
    assert not re.search(r'd="[^"]*(nan|inf)', source)
    loss, elbo = CURVES[0], CURVES[3]
    assert elbo.points(rows) == [(2, math.inf)]
    assert [step for step, _ in loss.points(rows)] == [1, 2]


def test_a_model_without_kl_per_dimension_says_so(tmp_path):
    run = a_run()
    source = written(tmp_path, replace(run, measures=replace(run.measures, kl_per_dimension=())))
    assert "no KL per dimension" in source


def test_the_step_of_an_alarm_stands_once():
    rows = [{"step": 160, "alarm": f"step 160: {ALARM}"}, {"step": 170, "alarm": "not finite"}, {"step": 180}]
    assert alarms(rows) == [(160, ALARM), (170, "not finite")]


def test_a_name_that_is_not_utf_8_is_written_with_a_substitute(tmp_path):
    assert "run ?" in written(tmp_path, a_run("run \udcff"))


def test_a_folder_is_not_a_report(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ValueError, match="is a folder; name a file in it") as caught:
        write_report(tmp_path, "title", [a_run()], compared(a_run()))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ValueError, match="there is no folder") as caught:
        write_report(tmp_path / "none" / "report.html", "title", [a_run()], compared(a_run()))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runs", [[], [a_run(), a_run()]], ids=["no run", "one name twice"])
def test_runs_need_names_of_their_own(tmp_path, runs):
    (tmp_path / "report.html").write_text("the last one")
    with pytest.raises(ValueError, match="each with its own name"):
        write_report(tmp_path / "report.html", "title", runs, compared(a_run()))
    assert (tmp_path / "report.html").read_text() == "the last one"
