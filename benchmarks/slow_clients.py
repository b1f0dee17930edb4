"""Clients that send a byte a second and come back when they are hung up: python -m benchmarks.slow_clients PORT COUNT.

They come one after the other over as long as the service bears one of them, so that it hangs up on them one after the
other, too. A line is printed when all are there; then they go on until they are ended. Plain sockets, a twentieth of
them at a time: they share the machine with what is measured.
"""

import resource
import socket
import sys
import time
from contextlib import suppress

SPREAD_S = 8  # the service gives a body that long
TURNS = 20  # in a second
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"


def come(port: int) -> socket.socket:
    """A client whose request is well begun."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(HEAD)
    client.settimeout(0)
    return client


def hung_up(client: socket.socket) -> bool:
    """Or answered, which comes to the same."""
    try:
        client.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def main() -> None:
    """Until it is ended."""
    port, count = map(int, sys.argv[1:])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    clients: list[socket.socket] = []
    turn, begun = 0, time.monotonic()
    while True:
        for number in range(turn % TURNS, len(clients), TURNS):
            if hung_up(clients[number]):
                clients[number].close()
                clients[number] = come(port)
            with suppress(OSError):  # it is hung up at this very moment
                clients[number].send(b"x")
        wanted = min(count, count * (turn + 1) // (SPREAD_S * TURNS))
        clients += [come(port) for _ in range(wanted - len(clients))]
        turn += 1
        if turn == (SPREAD_S + 1) * TURNS:
            print("all are there", flush=True)
        time.sleep(max(0.0, begun + turn / TURNS - time.monotonic()))


if __name__ == "__main__":
    main()
