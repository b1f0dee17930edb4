"""What the service refuses: a status and one sentence, wherever it is noticed."""

from collections.abc import Mapping
from types import MappingProxyType

NONE: Mapping[str, str] = MappingProxyType({})


class Refused(ValueError):  # noqa: N818 (it is the client's, not ours)
    """A request that is not answered as it would like.

    Args:
        status: 400 … 507, never 500.
        reason: one sentence that says what to do.
        headers: Retry-After, for instance.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] = NONE) -> None:
        super().__init__(reason)
        self.status, self.headers = status, headers


class Gone(Exception):  # noqa: N818 (it is no error: nobody is there to be told)
    """The client has hung up."""


def busy(reason: str, retry_s: int = 1) -> Refused:
    """503, and when to try again."""
    return Refused(503, reason, {"Retry-After": str(retry_s)})
