"""The report as a reader's browser and a hostile corpus see it: one closed file, the same for the same runs."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from latent.measures import Estimate, judge
from textvae.generation import Step
from textvae.measuring import Measures
from textvae.plots import CURVES, alarms
from textvae.report import RunReport, write_report

MARKUP = '<script>alert("1")</script> & <img src=http://x.test/a.png onerror=alert(1)>'
HOSTILE = f"{MARKUP} \u202eוַיֹּאמֶר\u200f 🐈 $title ${{lead}}"
ALARM = "collapsed: no active unit while the KL weight is 0.67"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def around(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1)


def a_run(name: str = "lstm", mutual_information: float = 4.0) -> RunReport:
    information, units, gain = around(mutual_information), around(mutual_information), around(mutual_information)
    verdict = judge(information, units, gain)
    measures = Measures(
        split="test",
        num_sentences=200,
        num_samples=10,
        seed=0,
        checkpoint="step-000200",
        elbo=around(-52.0),
        reconstruction=around(46.0),
        kl=around(6.0),
        kl_per_dimension=(0.5, 3.5, 2.0, 0.0),
        mutual_information=information,
        mutual_information_ceiling=math.log(200),
        active_units=units,
        active_units_at_0_001=4,
        active_units_at_0_1=2,
        nll=around(51.0),
        effective_sample_size=around(4.0),
        ppl=around(24.3),
        tokens_per_sentence=around(15.9),
        vocabulary_size=around(3214),
        shuffled_gain=gain,
        bleu=around(8.4),
        exact_match=around(0.2),
        verdict=verdict.name,
        verdict_reasons=verdict.reasons,
    )
    training = [{"step": s, "loss": 50.0 - s / 10, "kl": s / 50, "kl_weight": s / 200} for s in range(20, 201, 20)]
    validation = [
        {"step": s, "split": "valid", "elbo": -60.0 + s / 20, "mutual_information": s / 50, "active_units": 2.0}
        for s in (100, 200)
    ]
    return RunReport(
        name=name,
        metrics=(*training, *validation, {"step": 160, "alarm": f"step 160: {ALARM}"}),
        measures=measures,
        samples=("and the king said to him , go in peace .",),
        reconstructions=(("let there be light .", "let there be light ."), ("have no fear .", "have no bread .")),
        interpolation=(Step(0.0, "he went up .", False), Step(0.5, "he went up .", True), Step(1.0, "", False)),
        seconds=90.0,
    )


def written(tmp_path, *runs: RunReport, title: str = "Is z used?", notes: tuple[str, ...] = ()) -> str:
    write_report(tmp_path / "report.html", title, runs, notes)
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
        "24.30 ± 0.10",
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
    assert page.all("aria-label") == [curve.title for curve in CURVES] + bars
    assert page.tags.count("svg") == len(CURVES) + num_runs


def test_ids_are_unique_and_references_stay_in_the_page(tmp_path):
    source = written(tmp_path, a_run("plain", 0.0), a_run("lstm"))
    page = Page(source)
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    referred = {link.removeprefix("#") for link in page.all("xlink:href")} | set(re.findall(r"url\(#(\w+)\)", source))
    assert referred
    assert referred <= set(ids)


def test_nothing_is_fetched_or_run(tmp_path):
    run = replace(a_run(HOSTILE), samples=(HOSTILE,), reconstructions=((HOSTILE, HOSTILE),))
    source = written(tmp_path, run, title=HOSTILE, notes=(HOSTILE,))
    page = Page(source)
    assert "<script" not in source.lower()
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "image"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "action")]
    assert all(link.startswith("#") for link in page.all("xlink:href"))
    assert not re.search(r"url\((?!#)|@import", source)
    namespaces = {value for name, value in page.attributes if name.startswith("xmlns")}
    assert {value for _, value in page.attributes if re.search("https?:", value)} <= namespaces
    assert "default-src 'none'" in " ".join(page.all("content"))


def test_hostile_text_is_shown_as_it_is_wherever_it_stands(tmp_path):
    run = a_run(HOSTILE)
    run = replace(
        run,
        measures=replace(run.measures, verdict_reasons=(HOSTILE,), split=HOSTILE, checkpoint=HOSTILE),
        metrics=({"step": 3, "alarm": HOSTILE},),
        samples=(HOSTILE,),
        reconstructions=((HOSTILE, HOSTILE),),
        interpolation=(Step(0.0, HOSTILE, False),),
    )
    page = Page(written(tmp_path, run, title=HOSTILE, notes=(HOSTILE,)))
    names = 9  # lead, table, key of the curves, alarm, bars, and the heads of four lists
    measures = 5  # reason; split and checkpoint, in words and with the table
    sentences, titles, notes, alarm_texts = 4, 2, 1, 1
    assert page.text.count(HOSTILE) == names + measures + sentences + titles + notes + alarm_texts
    assert page.all("dir").count("auto") >= sentences


def test_the_same_runs_give_the_same_bytes(tmp_path):
    assert written(tmp_path, a_run("plain", 0.0), a_run()) == written(tmp_path, a_run("plain", 0.0), a_run())


def test_a_user_style_changes_nothing(tmp_path):
    import matplotlib

    before = written(tmp_path, a_run())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert written(tmp_path, a_run()) == before


def test_a_run_without_a_log_or_sentences_is_reported(tmp_path):
    run = replace(a_run(), metrics=(), samples=(), reconstructions=(), interpolation=())
    page = Page(written(tmp_path, run))
    assert page.text.count("no finite value in the log") == len(CURVES)
    assert page.text.count("None.") == 4
    assert "Notes" not in page.text


def test_what_is_not_finite_or_no_number_is_marked_or_left_out(tmp_path):
    run = a_run()
    rows = (
        {"step": 1, "loss": math.nan, "kl": math.inf, "kl_weight": 0.0},
        {"step": 2, "loss": 50.0, "kl": "much", "kl_weight": None},
        {"step": 2, "split": "valid", "elbo": -math.inf},
        {"loss": 3.0},
    )
    endless = Estimate(math.nan, -math.inf, math.inf)
    measures = replace(run.measures, kl_per_dimension=(math.nan, math.inf, 1.0), nll=endless, ppl=endless)
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
        write_report(tmp_path, "title", [a_run()])
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ValueError, match="there is no folder") as caught:
        write_report(tmp_path / "none" / "report.html", "title", [a_run()])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runs", [[], [a_run(), a_run()]], ids=["no run", "one name twice"])
def test_runs_need_names_of_their_own(tmp_path, runs):
    (tmp_path / "report.html").write_text("the last one")
    with pytest.raises(ValueError, match="each with its own name"):
        write_report(tmp_path / "report.html", "title", runs)
    assert (tmp_path / "report.html").read_text() == "the last one"
