"""What Great Expectations found, in words: for the refusal, the summary and the report. Needs neither GX nor pandas."""

from typing import Any, NamedTuple


class Check(NamedTuple):
    """What one expectation found."""

    name: str
    passed: bool
    observed: str
    expected: str


def checks_of(table: str, result: dict[str, Any]) -> list[Check]:
    """What each expectation of a table found. One that raised, or has no verdict, has failed.

    Args:
        table: its name, put before each check's.
        result: GX's ExpectationSuiteValidationResult as JSON.
    """
    return [
        Check(
            f"{table}: {_words(single['expectation_config'])}",
            single.get("success") is True,
            _observed(single),
            _expected(single["expectation_config"]["kwargs"]),
        )
        for single in result["results"]
    ]


def _words(configuration: dict[str, Any]) -> str:
    kind = str(configuration["type"]).removeprefix("expect_").replace("_", " ")
    column = configuration["kwargs"].get("column")
    return kind.replace("column", f"“{column}”", 1) if column else kind


def _observed(single: dict[str, Any]) -> str:
    result = single.get("result", {})
    if "observed_value" in result:
        return _number(result["observed_value"])
    if "unexpected_count" in result:
        examples = ", ".join(map(_number, result.get("partial_unexpected_list", [])[:3]))
        others = f"{result['unexpected_count']:,} of {result['element_count']:,} otherwise"
        return f"{others} ({examples})" if examples else others
    return _exception(single.get("exception_info", {})) or "nothing"


def _exception(raised: dict[str, Any]) -> str:
    """What an expectation raised: GX gives it plainly, or by metric."""
    one = raised if "exception_message" in raised else next(iter(raised.values()), {})
    return " ".join(str(one.get("exception_message") or "").split())[:200] if isinstance(one, dict) else ""


def _expected(arguments: dict[str, Any]) -> str:
    if "value" in arguments:
        return _number(arguments["value"])
    if "value_set" in arguments:
        return " or ".join(map(str, arguments["value_set"]))
    if "min_value" in arguments:
        least, greatest = arguments["min_value"], arguments["max_value"]
        return _number(least) if least == greatest else f"{_number(least)} … {_number(greatest)}"
    return "none missing"


def _number(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)
