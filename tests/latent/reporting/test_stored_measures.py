"""Measures from a run's folder that somebody sent: read back exactly, or refused in one line that names the file."""

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from synthetic import measured, sentences

from latent.reporting.stored_measures import StoredMeasuresError, load_measures, save_measures
from latent.training import Run
from textvae.run_kind import KIND


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    save_measures(run, measured(*sentences()))
    return run


def rewrite_figures(run, **changes):
    path = run.path / "measures/test.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_sentences(run, **changes):
    path = run.path / "measures/test.parquet"
    columns = pq.read_table(path).to_pydict() | changes
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)


def test_of_several_processes_the_first_alone_keeps_them(tmp_path, monkeypatch):
    for rank, is_kept in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        save_measures(Run(tmp_path), measured(*sentences()))
        assert (tmp_path / "measures").exists() is is_kept


def refused(run, name, *words):
    with pytest.raises(StoredMeasuresError) as caught:
        load_measures(KIND, run, "test")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert str(run.path / "measures" / name) in message
    assert f"textvae measure {run.path}" in message
    for word in words:
        assert word in message


def test_what_was_saved_comes_back(run):
    saved, found = measured(*sentences()), load_measures(KIND, run, "test")
    assert found.figures == saved.figures
    for name, column in saved.per_example.items():
        assert torch.equal(found.per_example[name], column)
    assert load_measures(KIND, run, "valid") is None


def test_figures_that_are_not_finite_come_back(tmp_path):
    run, (nll, num_tokens) = Run(tmp_path / "run"), sentences()
    nll[0] = math.inf
    save_measures(run, measured(nll, num_tokens))
    found = load_measures(KIND, run, "test")
    assert found.figures.nll.value == math.inf
    assert found.per_example["nll"][0] == math.inf


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"split": "test"}', "\x00" * 99, "[" * 100_000, "9" * 10_000], ids=range(8)
)
def test_a_file_that_is_no_measures_is_refused(run, content):
    (run.path / "measures/test.json").write_text(content)
    refused(run, "test.json")


def test_every_cut_of_the_file_is_refused(run):
    path = run.path / "measures/test.json"
    content = path.read_bytes().rstrip()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refused(run, "test.json")
    path.write_bytes(b"\xff\xfe" + content)
    refused(run, "test.json")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"verdict": "<script>"}, "verdict"),
        ({"verdict": "unused\nsecond line"}, "verdict"),
        ({"checkpoint": "../../../etc"}, "checkpoint"),
        ({"checkpoint": "step-000200/.."}, "checkpoint"),
        ({"split": "train"}, "split"),
        ({"num_examples": -1}, "-1 sentences"),
        ({"num_examples": 10**15}, "sentences"),
        ({"num_samples": 0}, "0 importance samples"),
        ({"num_samples": "10"}, "num_samples"),
        ({"num_samples": 10.5}, "num_samples"),
        ({"nll": {"value": 1.0, "low": "0", "high": 2.0}}, "nll.low"),
        ({"nll": 51.0}, "nll"),
        ({"bleu": {"value": 1e300, "low": 0, "high": 1}}, "bleu"),
        ({"ppl": {"value": -1.0, "low": 0, "high": 1}}, "PPL"),
        ({"kl_per_dimension": [[1.0]]}, "kl_per_dimension"),
        ({"kl_per_dimension": [1e300]}, "kl_per_dimension"),
        ({"verdict_reasons": "yes"}, "verdict_reasons"),
        ({"nll": {"value": 3.0, "low": 2.0, "high": 4.0}}, "mean nll"),
    ],
)
def test_a_figure_of_another_shape_is_refused(run, changes, word):
    rewrite_figures(run, **changes)
    refused(run, "test.", word)


def test_every_figure_is_needed(run):
    whole = asdict(measured(*sentences()).figures)
    found = fields(type(measured(*sentences()).figures))
    needed = [field.name for field in found if field.name in whole and field.name != "refined"]
    for name in needed:
        (run.path / "measures/test.json").write_text(json.dumps({k: v for k, v in whole.items() if k != name}))
        refused(run, "test.json", name)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"\x00" * 1000], ids=range(4))
def test_sentences_that_are_no_parquet_are_refused(run, content):
    (run.path / "measures/test.parquet").write_bytes(content)
    refused(run, "test.parquet")


def test_damaged_bytes_are_refused_or_harmless(run):
    """A flipped byte is refused in one line, or it changes nothing that is read."""
    path = run.path / "measures/test.parquet"
    content, whole = path.read_bytes(), load_measures(KIND, run, "test")
    rng = np.random.default_rng(0)
    num_refused = num_harmless = 0
    for position in rng.integers(0, len(content), 150).tolist():
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            found = load_measures(KIND, run, "test")
        except StoredMeasuresError as error:
            num_refused += "\n" not in str(error)
        else:
            assert found.figures == whole.figures
            num_harmless += 1
    assert num_refused + num_harmless == 150
    assert num_refused > 75


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"nll": None}, "no column nll"),
        ({"nll": [None] + [1.0] * 199}, "column nll"),
        ({"nll": ["<script>"] * 200}, "column nll"),
        ({"nll": [1.0] * 200}, "mean nll"),
        ({"num_tokens": [0.0] * 200}, "num_tokens"),
    ],
)
def test_sentences_of_another_shape_are_refused(run, changes, word):
    rewrite_sentences(run, **changes)
    refused(run, "test.parquet", word)


def test_more_rows_than_sentences_are_refused(run):
    path = run.path / "measures/test.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    refused(run, "test.parquet", "400 rows for 200 sentences")


def test_a_perplexity_beyond_all_numbers_is_refused(run):
    nll, num_tokens = sentences()
    assert measured(nll * 1000, num_tokens).figures.ppl.high == math.inf
    found = measured(nll, num_tokens)
    columns = {**found.per_example, "nll": nll * 1000}
    estimate = replace(found.figures.nll, value=(nll * 1000).mean().item())
    save_measures(run, replace(found, figures=replace(found.figures, nll=estimate), per_example=columns))
    refused(run, "test.parquet", "nats per token")


def test_a_missing_half_is_refused(run):
    (run.path / "measures/test.parquet").unlink()
    refused(run, "test.parquet", "No such file")


def test_a_file_of_any_size_is_not_read(run, monkeypatch):
    monkeypatch.setattr("latent.reporting.stored_measures.MAX_BYTES", 100)
    refused(run, "test.json", "larger than 100 bytes")
