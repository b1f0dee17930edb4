"""Tables of facts, and what Great Expectations says of them.

The number of rows is always expected first: expectations about rows pass where there are none.
"""

import warnings
from typing import Any, Literal, NamedTuple

import pandas as pd

from tasks.checks import Check

Expectation = tuple[str, dict[str, Any]]  # GX's type, and its keyword arguments


class Table(NamedTuple):
    """A frame of facts, and the expectations that it must meet."""

    name: str
    facts: pd.DataFrame
    expectations: list[Expectation]


def row_count(value: int) -> Expectation:
    return "ExpectTableRowCountToEqual", {"value": value}


def between(column: str, least: float, greatest: float) -> Expectation:
    return "ExpectColumnValuesToBeBetween", {"column": column, "min_value": least, "max_value": greatest}


def one_of(column: str, values: list[str]) -> Expectation:
    return "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values}


def total(column: str, least: float, greatest: float) -> Expectation:
    """For a table of one row: its value (GX reports what it observed of a sum, and not of single values)."""
    return "ExpectColumnSumToBeBetween", {"column": column, "min_value": least, "max_value": greatest}


def expect(tables: list[Table], detail: Literal["SUMMARY", "COMPLETE"] = "SUMMARY") -> dict[str, dict[str, Any]]:
    """GX's own results by table, as JSON, without the run's identifiers and clock times (DVC hashes them).

    Args:
        tables: facts and expectations.
        detail: COMPLETE names each row that is otherwise.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX's own deprecations
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]  # GX documents a dict
        source = context.data_sources.add_pandas("facts")
        results = {}
        for table in tables:
            definition = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("all")
            suite = gx.ExpectationSuite(table.name)
            for kind, arguments in table.expectations:
                suite.add_expectation(getattr(gx.expectations, kind)(**arguments))
            batch = definition.get_batch({"dataframe": table.facts})
            results[table.name] = batch.validate(suite, result_format=detail).to_json_dict()  # type: ignore[no-untyped-call]  # GX's
    return {name: without(result, {"meta", "id", "batch_id"}) for name, result in results.items()}


def without(content: Any, names: set[str]) -> Any:
    """JSON without these keys, wherever they stand."""
    if isinstance(content, dict):
        return {name: without(value, names) for name, value in content.items() if name not in names}
    return [without(value, names) for value in content] if isinstance(content, list) else content


def as_table(checks: list[Check]) -> str:
    """What was observed and expected, as Markdown."""
    rows = [
        f"| {'✓' if check.passed else '✗'} | {check.name} | {check.observed} | {check.expected} |" for check in checks
    ]
    return "\n".join(["| | expectation | observed | expected |", "|---|---|---|---|", *rows]) + "\n"


def unmet(checks: list[Check]) -> list[str]:
    """A sentence for each check that failed."""
    return [
        f"{check.name}: observed {check.observed}, expected {check.expected}" for check in checks if not check.passed
    ]
