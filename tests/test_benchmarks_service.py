"""What the service is measured with does what it says."""

from benchmarks.slow import slow_clients
from tests.conftest import ROOT
from tests.serving import running

CLIENTS = 40


def test_slow_clients_send_bodies_that_the_service_is_reading():
    with running("--model", ROOT / "seamline/reference") as service, slow_clients(service.port, CLIENTS):
        held = service.metric("seamline_held_bytes")

    assert 2 * CLIENTS <= held <= 9 * CLIENTS  # at any time their bodies are half sent, between none and eight bytes
