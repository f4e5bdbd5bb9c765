"""What is shown of runs: tables."""

from latent.reporting.tables import (
    BOUND_ROWS,
    NLL_ROWS,
    REFINED_ROWS,
    Rows,
    TextTable,
    measures_table,
    negated,
    shown,
    table_lines,
    verdict_lines,
)

__all__ = [
    "BOUND_ROWS",
    "NLL_ROWS",
    "REFINED_ROWS",
    "Rows",
    "TextTable",
    "measures_table",
    "negated",
    "shown",
    "table_lines",
    "verdict_lines",
]
