"""Who may ask: whoever has the token, if there is one, and no page of another site in a browser on this machine.

A service on loopback can be reached by every page that a browser here has open: by a form sent to it (so another
page's Origin is refused), or by a name that its owner lets point to 127.0.0.1 (so only known Host names are answered).
"""

import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = {"/", "/docs", "/docs.css", "/openapi.json", "/v2/health/live", "/v2/health/ready"}
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, inference-header-content-length",
    "Access-Control-Max-Age": "600",
}


class Rules(NamedTuple):
    """What a request is measured by."""

    token: str  # "": nobody is asked for one
    origins: Sequence[str]  # of pages that may ask: https://shop.example
    any_host: bool  # a service that is not on loopback is asked by names that it does not know


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._hosts = {"localhost", *(urlsplit(origin).hostname for origin in rules.origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        friendly = origin if origin in self._rules.origins else ""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), friendly)
            await send(message)

        refusal = self._refusal(scope, headers, origin)
        await (refusal or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope, headers: Headers, origin: str) -> Response | None:
        if len(headers.getlist("host")) > 1:  # RFC 9112, section 3.2
            return _error(400, "Expected one Host. Received several.")
        host = _host(headers.get("host", ""))
        if not (self._rules.any_host or host in self._hosts or _is_address(host)):
            return _error(421, "Expected the Host localhost or an address. Received another (--origin names more).")
        if origin and origin not in self._rules.origins and _place(origin) != headers.get("host"):
            return _error(403, "Expected a page that may ask. Received another page's Origin (--origin names more).")
        if origin and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204, headers=PREFLIGHT)
        if scope["path"] not in OPEN and not self._has_token(headers):
            return _error(401, "Expected a bearer token. Received none, or another.", {"WWW-Authenticate": "Bearer"})
        return None

    def _has_token(self, headers: Headers) -> bool:
        if not self._rules.token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), self._rules.token.encode())


def _host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_address(host: str | None) -> bool:
    try:
        return bool(ip_address(host or ""))
    except ValueError:
        return False


def _add(headers: MutableHeaders, friendly: str) -> None:
    for name, value in SAFE.items():
        headers.setdefault(name, value)
    if friendly:
        headers["Access-Control-Allow-Origin"] = friendly
        headers.add_vary_header("Origin")


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)
