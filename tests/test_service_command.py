"""`seamline serve` as a command: what it needs, what it says, and what it does not log."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.serving import request, running, status

pytest_plugins = ["tests.serving"]
REFERENCE = ROOT / "seamline/reference"
SNEAKER = ROOT / "examples/sneaker.png"


def seamline_serve(*arguments, code="from seamline.__main__ import main; import sys; sys.exit(main())"):
    command = [sys.executable, "-c", code, "serve", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_without_the_extra_one_line_says_what_to_install():
    absent = "import sys; sys.modules['starlette'] = None; from seamline.__main__ import main; sys.exit(main())"

    done = seamline_serve(code=absent)

    assert (done.returncode, done.stderr) == (1, "starlette is not installed: pip install 'seamline[server]'\n")


def test_model_that_is_not_there_and_a_port_that_is_taken_are_one_line(tmp_path, service):
    absent = seamline_serve("--model", tmp_path / "absent", "--port", "0")
    taken = seamline_serve("--model", REFERENCE, "--port", service.port)

    assert (absent.returncode, absent.stderr) == (1, f"There is no model at {tmp_path / 'absent'}.\n")
    assert taken.returncode == 1
    said = f"Port {service.port} of 127.0.0.1 is taken. End what listens there, or choose another: --port N.\n"
    assert taken.stderr == said


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--port", "99999", "expected a port, 0 to 65535. Received '99999'"),
        ("--drain", "-1", "expected seconds from 0 on. Received '-1'"),
        ("--drain", "nan", "expected seconds from 0 on. Received 'nan'"),
        (
            "--origin",
            "shop.example",
            "expected such as https://shop.example, as browsers say it. Received 'shop.example'",
        ),
        ("--origin", "https://shop.example/", "Received 'https://shop.example/'"),
    ],
)
def test_option_that_cannot_be_is_one_line_and_exit_status_2(option, value, said):
    done = seamline_serve(f"{option}={value}")

    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_bare_file_is_served_but_cannot_be_signed(tmp_path, model_file):
    (tmp_path / "key.pub").write_text(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA" + "A" * 43 + "=\n-----END PUBLIC KEY-----\n", encoding="ascii"
    )
    with running("--model", model_file) as service:
        told = service.post("/v1/classify", SNEAKER.read_bytes()).json()

    signed = seamline_serve("--model", model_file, "--key", tmp_path / "key.pub", "--port", "0")

    assert told["kind"].startswith("kind ")
    assert (signed.returncode, signed.stderr) == (1, f"{model_file} is no bundle: a bare file cannot be signed.\n")


def test_nothing_of_a_request_is_logged(tmp_path):
    with running("--model", REFERENCE) as service:
        service.post("/v1/classify?secret=1", SNEAKER.read_bytes())
        service.post("/v1/classify", b"secret")
        service.get("/secret")
        service.raw(b"secret\r\n\r\n")
        assert service.end() == 0
        log = service.log

    assert log == []


def test_methods_and_paths_that_are_not_there_are_json(service):
    assert (service.get("/nowhere").status_code, service.get("/nowhere").json()) == (404, {"error": "Not Found"})
    assert service.post("/v1/classify/", b"").status_code == 404, "and no way to another address"
    wrong = service.get("/v1/classify")
    assert (wrong.status_code, wrong.headers["Allow"], wrong.json()) == (405, "POST", {"error": "Method Not Allowed"})
    assert status(service.raw(request("/v2", b"", "Connection: close", method="GET"))) == 200
