"""Measures as a run's folder holds them, read back: whole and of one piece, or an error that names the file."""

import math
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from latent.measures import Verdict
from latent.training import Run
from textvae.measuring import Measured, Measures
from textvae.pooling import BY_SENTENCE, OF_THE_WHOLE

PER_SENTENCE = (*BY_SENTENCE, "num_tokens")
VERDICTS = get_args(Verdict.__annotations__["name"])
CHECKPOINT = re.compile(r"step-\d{6,}")
MAX_BYTES = 100_000_000  # of either file; more is a mistake, or an attempt to fill the memory
MAX_SENTENCES = 10_000_000  # a few bytes of Parquet can stand for any number of equal rows
MOST_PER_TOKEN = 100.0  # nats: a model that says nothing has the logarithm of its vocabulary
LARGEST = 1e12  # a figure beyond that is no measure, and its square no number
TOLERANCE = 1e-6  # relative, between a figure and the mean of the sentences behind it

_ADAPTER: TypeAdapter[Measures] = TypeAdapter(Measures)


class StoredMeasuresError(ValueError):
    """A file of stored measures that is damaged, or is not what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        remedy = f"measure the run again: textvae measure {path.parents[1]} --split {path.stem}"
        super().__init__(f"{path}: not measures that can be used: {' '.join(reason.split())[:300]}; {remedy}")


def load_measures(run: Run, split: str) -> Measured | None:
    """The run's measures of a split, or None where it has none.

    The folder may be anybody's: nothing in it is believed before it is checked. Raises StoredMeasuresError, a
    ValueError of one line, for a file that is damaged, has another shape, or does not belong to the other.
    """
    path = run.path / "measures" / f"{split}.json"
    if not path.is_file():
        return None
    figures = _read_figures(path, split)
    return Measured(figures, _read_sentences(path.with_suffix(".parquet"), figures))


def _read_figures(path: Path, split: str) -> Measures:
    try:
        figures = _ADAPTER.validate_json(_content(path), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoredMeasuresError(path, f"{where}: {first['msg']}" if where else first["msg"]) from error
    if figures.verdict not in VERDICTS:
        raise StoredMeasuresError(path, f"verdict: {figures.verdict!r:.40} is none of {', '.join(VERDICTS)}")
    if not CHECKPOINT.fullmatch(figures.checkpoint):
        raise StoredMeasuresError(path, f"checkpoint: {figures.checkpoint!r:.40} is no name such as step-000500")
    if figures.split != split:
        raise StoredMeasuresError(path, f"split: they are of {figures.split!r:.40}")
    if not 1 <= figures.num_sentences <= MAX_SENTENCES or figures.num_samples < 1:
        counts = f"{figures.num_sentences} sentences, {figures.num_samples} importance samples"
        raise StoredMeasuresError(path, f"{counts} cannot be")
    numbers = {name: getattr(figures, name).value for name in (*BY_SENTENCE, *OF_THE_WHOLE)}
    for name, value in (*numbers.items(), *(("kl_per_dimension", value) for value in figures.kl_per_dimension)):
        if math.isfinite(value) and abs(value) > LARGEST:
            raise StoredMeasuresError(path, f"{name}: {value:.3g} cannot be")
    return figures


def _read_sentences(path: Path, figures: Measures) -> dict[str, Float[Tensor, " N"]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(_content(path)))
        if file.metadata.num_rows != figures.num_sentences:
            rows = f"{file.metadata.num_rows} rows for {figures.num_sentences} sentences"
            raise StoredMeasuresError(path, rows)
        missing = [name for name in PER_SENTENCE if name not in file.schema_arrow.names]
        if missing:
            raise StoredMeasuresError(path, f"no column {missing[0]}")
        table = file.read(columns=list(PER_SENTENCE))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoredMeasuresError(path, str(error)) from error
    columns = {name: table.column(name) for name in PER_SENTENCE}
    for name, column in columns.items():
        if column.type != pa.float64() or column.null_count or len(column) != figures.num_sentences:
            raise StoredMeasuresError(path, f"column {name}: one number for each sentence is needed")
    values = {name: np.array(column.to_numpy()) for name, column in columns.items()}
    _check_together(path, values, figures)
    return {name: torch.from_numpy(column) for name, column in values.items()}


def _check_together(path: Path, values: dict[str, Float[np.ndarray, " N"]], figures: Measures) -> None:
    """A kill between the two files leaves the sentences of one measuring beside the figures of another."""
    with np.errstate(invalid="ignore", over="ignore"):  # a hostile mean need not be finite
        means = {name: float(column.mean()) for name, column in values.items()}
        per_token = values["nll"] / np.maximum(values["num_tokens"], 1)
    expected = {name: getattr(figures, name).value for name in BY_SENTENCE}
    expected["num_tokens"] = figures.tokens_per_sentence.value
    for name, value in expected.items():
        if not np.isclose(means[name], value, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            raise StoredMeasuresError(path, f"its mean {name}, {means[name]:.6g}, is not that of {path.stem}.json")
    if not (values["num_tokens"] >= 1).all():
        raise StoredMeasuresError(path, "column num_tokens: a sentence has one token or more, its </s>")
    if (np.abs(per_token[np.isfinite(per_token)]) > MOST_PER_TOKEN).any():
        raise StoredMeasuresError(path, f"column nll: more than {MOST_PER_TOKEN:g} nats per token")
    ppl = math.exp(means["nll"] / means["num_tokens"])
    if not np.isclose(ppl, figures.ppl.value, rtol=TOLERANCE, equal_nan=True):
        raise StoredMeasuresError(path, f"its PPL, {ppl:.6g}, is not that of {path.stem}.json")


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoredMeasuresError(path, f"larger than {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise StoredMeasuresError(path, error.strerror or str(error)) from error
