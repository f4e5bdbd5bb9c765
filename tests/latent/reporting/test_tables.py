"""Tables of runs: how a figure is written, and what stands below what."""

import pytest

import imagevae.run_kind
import imagevae.tables
import textvae.run_kind
import textvae.tables
from latent.measures import Estimate
from latent.reporting import Rows, shown
from latent.reporting.run_kind import RunKind


def test_what_rounds_to_nothing_has_no_sign() -> None:
    assert shown(Estimate(-0.004, -0.004, -0.004)) == "0.00"
    assert shown(Estimate(-0.004, -0.074, 0.066)) == "0.00 ± 0.07"
    assert shown(Estimate(0.3, -0.004, 1.2)) == "0.30 [0.00, 1.20]"
    assert shown(Estimate(-0.006, -0.006, -0.006)) == "-0.01"


@pytest.mark.parametrize("rows", [textvae.tables.OF_EVERY_MODEL, imagevae.tables.OF_EVERY_MODEL], ids=["text", "image"])
def test_an_indented_row_stands_below_what_it_belongs_to(rows: Rows) -> None:
    parents: dict[str, str] = {}
    parent = ""
    for name in rows:
        parent = parent if name.startswith(" ") else name
        parents[name] = parent
    assert parents["  at 0.001, at 0.1"] == "active units"
    assert parents.get("  its share on the first 3 positions", "shuffled-z gain") == "shuffled-z gain"


@pytest.mark.parametrize("kind", [textvae.run_kind.KIND, imagevae.run_kind.KIND], ids=["text", "image"])
def test_each_figure_of_a_comparison_says_by_itself_what_it_is(kind: RunKind) -> None:
    """Below each stands its spread over the seeds, which would part it from what it belonged to."""
    labels = [row.label for row in (kind.rows | kind.rows_of_some).values()]
    assert labels == [label.strip() for label in labels]
