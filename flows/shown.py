"""What a run shows on Prefect's pages: welcome, and never the reason that it fails."""

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

AWAY = (httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound)  # no answer, or not as it should be; a run deleted


def artifact(key: str, markdown: str, description: str) -> None:
    """Show a page with the run; a server that is away costs a warning."""
    try:
        create_markdown_artifact(key=key, markdown=markdown, description=description)
    except AWAY as error:
        get_run_logger().warning("Not shown on Prefect's pages: %s (%s)", key, error)
