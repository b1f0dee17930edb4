"""What the service is measured with does what it says."""

import time

from benchmarks.service import answered, slow_clients
from tests.conftest import ROOT
from tests.serving import running


def test_slow_clients_send_bodies_that_the_service_is_reading():
    with running("--model", ROOT / "seamline/reference") as service, slow_clients(service.port, 40) as clients:
        time.sleep(2.5)
        held = service.metric("seamline_held_bytes")
        early = [answered(client) for client in clients]

    assert 40 <= held <= 4 * 40
    assert not any(early)
