"""What the service is measured with does what it says."""

import time

from benchmarks.slow import slow_clients
from tests.conftest import ROOT
from tests.serving import running

CLIENTS = 40
TELLING = """
import sys
from seamline.service.protocol import LimitedProtocol
on_body = LimitedProtocol.on_body
LimitedProtocol.on_body = lambda one, body: (print(len(body), file=sys.stderr, flush=True), on_body(one, body))
"""


def test_slow_clients_send_bodies_that_the_service_is_reading():
    """Of each a byte a second, beside what those are told who come back."""
    with running("--model", ROOT / "seamline/reference", code=TELLING) as service, slow_clients(service.port, CLIENTS):
        before = len(service.log)
        time.sleep(3)
        came = service.log[before:]

    assert set(came) == {"1\n"}
    assert 2 * CLIENTS <= len(came) <= 4 * CLIENTS
