"""What is shown of runs: tables."""

from latent.reporting.tables import (
    BOUND_ROWS,
    NLL_ROWS,
    OF_BOUND,
    REFINED_ROWS,
    Rows,
    TextTable,
    measures_table,
    negated,
    shown,
    table_lines,
    unless_lacking,
    verdict_lines,
)

__all__ = [
    "BOUND_ROWS",
    "NLL_ROWS",
    "OF_BOUND",
    "REFINED_ROWS",
    "Rows",
    "TextTable",
    "measures_table",
    "negated",
    "shown",
    "table_lines",
    "unless_lacking",
    "verdict_lines",
]
