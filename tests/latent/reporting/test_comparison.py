"""Comparisons: intervals that cover, seeds that are pooled, and no figure where two runs may not be compared."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from synthetic import measured, measured_run, sentences

from latent.measures import Estimate
from latent.reporting.comparability import differing_settings, reasons_against
from latent.reporting.comparison import compare_measured
from latent.reporting.comparison_tables import (
    as_dict,
    comparison_lines,
    csv_text,
    differences_table,
    figures_table,
    flags,
    settings_table,
)
from latent.reporting.pooling import difference_over_seeds, mean_over_seeds

TWO_WORDS = "corpus.tokenizer={kind: unigram, vocabulary_size: 500}"


def a_pair(shift: float = 0.5, **settings: object):
    other = measured(*sentences(shift=shift, seed=1), **settings)
    return compare_measured([measured_run("a"), measured_run("b", "model.word_dropout=0.4", found=other)])


def seeds_of(name: str, values: list[float], *overrides: str):
    return [
        measured_run(
            f"{name}{seed}", f"train.seed={seed}", *overrides, found=measured(*sentences(shift=shift, seed=seed + 9))
        )
        for seed, shift in enumerate(values)
    ]


def test_a_difference_is_the_mean_of_the_sentences_differences():
    [difference] = a_pair().differences
    (nll, num_tokens), (other, _) = sentences(), sentences(shift=0.5, seed=1)
    paired = scipy.stats.ttest_rel(other.numpy(), nll.numpy())
    found = difference.estimates["nll"]
    assert found.value == pytest.approx((other - nll).mean().item())
    assert found.high - found.value == pytest.approx(paired.confidence_interval().high - found.value)
    assert difference.estimates["elbo"].value == pytest.approx(-found.value)
    assert difference.estimates["kl"] == Estimate(0.0, 0.0, 0.0)
    assert difference.estimates["ppl_ratio"].value == pytest.approx(math.exp((other - nll).sum() / num_tokens.sum()))
    unpaired = difference.group.figures["nll"].estimate
    assert found.high - found.low < 0.2 * (unpaired.high - unpaired.low)


def test_the_intervals_cover():
    """Of the paired difference and the PPL ratio over sentences; of a mean and of a difference over three seeds."""
    hits = dict.fromkeys(("nll", "ppl_ratio", "seeds", "welch"), 0)
    baseline, rng = measured_run("a"), np.random.default_rng(0)
    nll, num_tokens = sentences(150)
    generator = torch.Generator().manual_seed(3)
    truth = 0.05  # nats per token
    for _ in range(200):
        noise = torch.randn(2, len(nll), generator=generator, dtype=torch.float64)
        pair = [
            replace(baseline, name=name, measured=measured(nll + part + shift * num_tokens, num_tokens), recipe=recipe)
            for name, part, shift, recipe in (
                ("a", noise[0], 0.0, baseline.recipe),
                ("b", noise[1], truth, measured_run("b", "model.word_dropout=0.4").recipe),
            )
        ]
        found = compare_measured(pair).differences[0].estimates
        hits["nll"] += found["nll"].low <= truth * num_tokens.mean() <= found["nll"].high
        hits["ppl_ratio"] += found["ppl_ratio"].low <= math.exp(truth) <= found["ppl_ratio"].high
        values, others = rng.normal(5, 1, 3).tolist(), rng.normal(5, 2, 4).tolist()
        low, high = mean_over_seeds(values)
        hits["seeds"] += low <= 5 <= high
        welch = difference_over_seeds(values, others)
        hits["welch"] += welch.low <= 0 <= welch.high
    assert min(hits.values()) >= 0.91 * 200, hits  # 95 %, less 2.6 standard errors of 200 repetitions


def test_intervals_over_seeds_are_scipys():
    values, others = [60.1, 60.9, 61.7], [59.0, 59.2, 58.7, 59.9]
    known = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert mean_over_seeds(values) == pytest.approx(known)
    welch = scipy.stats.ttest_ind(values, others, equal_var=False).confidence_interval()
    found = difference_over_seeds(values, others)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert difference_over_seeds([1.0, 1.0], [3.0, 3.0]) == Estimate(-2.0, -2.0, -2.0)


def test_seeds_of_one_recipe_are_pooled():
    found = compare_measured([*seeds_of("a", [0.0, 1.0, 2.0]), *seeds_of("b", [3.0, 5.0], "model.word_dropout=0.4")])
    one, two = found.groups
    assert (one.name, two.name) == ("a0 (seeds 0, 1, 2)", "b0 (seeds 0, 1)")
    figure = one.figures["nll"]
    assert figure.estimate.value == pytest.approx(np.mean(one.values("nll")))
    assert figure.over_seeds.num_seeds == 3
    assert figure.over_seeds.sd == pytest.approx(np.std(one.values("nll"), ddof=1))
    assert (figure.over_seeds.minimum, figure.over_seeds.maximum) == (one.values("nll")[0], one.values("nll")[2])
    perplexity = one.figures["ppl"]
    assert perplexity.estimate.value == pytest.approx(scipy.stats.gmean(one.values("ppl")))
    assert perplexity.over_seeds.low < perplexity.estimate.value < perplexity.over_seeds.high
    assert one.figures["bleu"].estimate == one.runs[0].figures.bleu  # the seeds' figures and intervals are the same
    [difference] = found.differences
    assert difference.estimates["nll"].value == pytest.approx(two.figures["nll"].estimate.value - figure.estimate.value)
    assert difference.over_seeds["nll"].value == pytest.approx(difference.estimates["nll"].value)
    assert difference.over_seeds["ppl_ratio"].value == pytest.approx(difference.estimates["ppl_ratio"].value)
    lines = "\n".join(comparison_lines(found))
    assert f"sd {figure.over_seeds.sd:.2f}" in lines
    assert "over seeds: standard deviation" in lines


def test_one_seed_has_no_spread():
    found = a_pair()
    assert all(figure.over_seeds is None for group in found.groups for figure in group.figures.values())
    assert not found.differences[0].over_seeds
    assert "over seeds" not in "\n".join(comparison_lines(found))


def test_a_repetition_is_no_further_seed():
    found = compare_measured([measured_run("a"), measured_run("again"), measured_run("b", "train.seed=1")])
    assert [group.name for group in found.groups] == ["a (seeds 0, 1)", "again"]
    assert found.runs[1].name == "again"
    assert settings_table(found) is None


def test_a_run_and_its_repetition_do_not_differ():
    [difference] = compare_measured([measured_run("a"), measured_run("again")]).differences
    assert set(difference.estimates.values()) == {Estimate(0.0, 0.0, 0.0), Estimate(1.0, 1.0, 1.0)}
    found = compare_measured([measured_run("a"), measured_run("again")])
    assert "*" not in "".join(cell for row in differences_table(found).rows for cell in row)


@pytest.mark.parametrize(
    ("overrides", "settings", "reason"),
    [
        ((), {"split": "valid"}, "other split: valid against test"),
        ((), {"num_samples": 500}, "other number of importance samples: K = 500 against 10; --samples measures both"),
        (
            (TWO_WORDS,),
            {"examples_digest": "d2", "vocabulary_size": Estimate(500, 500, 500)},
            "other tokenisation; corpus.tokenizer.kind unigram against word; corpus.tokenizer.vocabulary_size 500 "
            "against 10000; corpus.tokenizer.min_count 1 against 3; vocabulary 500 against 3,214",
        ),
        ((), {"vocabulary_size": Estimate(9, 9, 9)}, "other tokenisation; vocabulary 9 against 3,214"),
        (("corpus.max_length=9",), {"examples_digest": "d2"}, "other sentences; corpus.max_length 9 against 60"),
        ((), {"examples_digest": "d2", "num_examples": 100}, "other sentences: 100 against 200 of them; --limit"),
        ((), {"examples_digest": "d2", "seed": 3}, "other sentences: those of seed 3 against seed 0; --seed"),
        ((), {"examples_digest": "d2"}, "the ids differ, though the recipes name one corpus; it has changed"),
    ],
)  # fmt: skip
def test_what_may_not_be_compared_is_flagged_and_has_no_difference(overrides, settings, reason):
    base = ("corpus.kind=bbe", "corpus.max_length=60", "corpus.tokenizer={kind: word, min_count: 3}")
    other = measured(*sentences(shift=2.0), **settings)
    runs = [measured_run("a", *base), measured_run("b", *base, *overrides, found=other)]
    found = compare_measured(runs)
    [difference] = found.differences
    assert len(difference.reasons) == 1
    assert reason in difference.reasons[0]
    assert not difference.estimates
    assert not difference.over_seeds
    assert flags(found) == [f"b may not be compared with a: {difference.reasons[0]}"]
    assert f"! {flags(found)[0]}" in comparison_lines(found)
    assert differences_table(found) is None
    [shown] = as_dict(found)["differences"]
    assert not shown["comparable"]
    assert shown["reasons"] == list(difference.reasons)
    assert not shown["estimates"]
    rows = [row for row in csv.DictReader(io.StringIO(csv_text(found))) if row["group"] == "b"]
    assert {row["difference"] for row in rows} == {""}
    assert {row["not_comparable"] for row in rows} == set(difference.reasons)


def test_every_reason_is_named():
    other = measured_run("b", found=measured(*sentences(), split="valid", num_samples=7, examples_digest="d2"))
    assert len(reasons_against(other, measured_run("a"))) == 3


def test_a_flag_takes_no_figure_from_the_others():
    third = measured_run("c", "model.word_dropout=0.9", found=measured(*sentences(shift=9.0), num_samples=500))
    found = compare_measured([*a_pair().runs, third])
    assert differences_table(found).heads == ("", "b")
    assert len(figures_table(found).heads) == 4
    assert len(flags(found)) == 1


def test_a_sentence_of_no_likelihood_is_counted_not_averaged_away():
    nll, num_tokens = sentences()
    nll[3] = math.inf
    found = compare_measured([measured_run("a"), measured_run("b", found=measured(nll, num_tokens))])
    assert found.groups[0].name == "a"
    assert flags(found) == ["b may not be compared with a: sentences without finite figures in b: 1"]
    assert "inf" in "\n".join(comparison_lines(found))


def test_differing_settings_are_dotted_and_complete():
    runs = [measured_run("a"), measured_run("b", "model.latent_size=9", recipe="plain")]
    changed = differing_settings([run.recipe for run in runs])
    assert changed["model.latent_size"] == (str(runs[0].recipe.model.latent_size), "9")
    assert settings_table(compare_measured(runs)).heads == ("", "a", "b")


def test_a_setting_is_written_as_it_is_set():
    runs = [measured_run("a", "model.bidirectional=false"), measured_run("b", "objective.mmd={weight: 1}")]
    changed = differing_settings([run.recipe for run in runs])
    assert changed["model.bidirectional"] == ("false", "true")
    assert changed["objective.mmd"] == ("null", "–")


def test_a_setting_that_somebody_sent_cannot_move_the_cursor():
    runs = [measured_run("a"), measured_run("b", "corpus.kind=files", r'corpus.path="/x\e[2J\n\u202eabc"')]
    changed = differing_settings([run.recipe for run in runs])
    assert changed["corpus.path"][1] == r"'/x\x1b[2J\n\u202eabc'"


def test_a_clear_difference_is_marked():
    rows = {row[0]: row[1] for row in differences_table(a_pair(shift=2.0)).rows}
    assert rows["NLL (importance weighted)"].endswith("*")
    assert rows["PPL ratio"].endswith("*")
    assert rows["−ELBO"] == rows["NLL (importance weighted)"]
    assert rows["KL"] == "0.00"


def test_json_and_csv_hold_every_figure():
    found = compare_measured([*seeds_of("a", [0.0, 1.0]), measured_run("b", "model.word_dropout=0.4")])
    tree = json.loads(json.dumps(as_dict(found)))
    assert tree["baseline"] == "a0 (seeds 0, 1)"
    assert [run["name"] for run in tree["groups"][0]["runs"]] == ["a0", "a1"]
    assert tree["groups"][0]["runs"][0]["measures"]["verdict"] == "used"
    of_bound, of_decoding = {"nll", "elbo", "reconstruction", "kl", "ppl_ratio"}, {"exact_match", "retrieval_accuracy"}
    assert set(tree["differences"][0]["estimates"]) == of_bound | of_decoding
    rows = {(row["group"], row["figure"]): row for row in csv.DictReader(io.StringIO(csv_text(found)))}
    nll = tree["groups"][0]["figures"]["nll"]
    row = rows["a0 (seeds 0, 1)", "nll"]
    assert float(row["value"]) == nll["value"]
    assert float(row["seeds_low"]) == nll["over_seeds"]["low"]
    assert row["num_seeds"] == "2"
    assert row["difference"] == ""
    ratio = tree["differences"][0]["estimates"]["ppl_ratio"]
    assert float(rows["b", "ppl_ratio"]["difference_high"]) == ratio["high"]
    assert rows["b", "nll"]["baseline"] == "a0 (seeds 0, 1)"
