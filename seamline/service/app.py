"""The routes. What they do themselves is quick; whatever looks into a body is a worker's."""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seamline import __version__
from seamline.classifier import UNKNOWN
from seamline.service import description, limits, metrics, tensors
from seamline.service.forms import FORM
from seamline.service.frames import Frame
from seamline.service.guard import Guard, Rules
from seamline.service.limits import Budget
from seamline.service.pool import ANSWER_S, Lost
from seamline.service.refusals import Gone, Refused, busy
from seamline.service.releases import Releases

HUNG_UP = 499  # nobody reads it; the metrics do
JSON = "application/json"
TENSOR_TYPES = (JSON, limits.PICTURES[-1], "")  # tritonclient names none
HEAD_LENGTH = "inference-header-content-length"
DEFAULT_K = "5"
QUEUE_FULL = "The queue is full."
OPTIONAL_INFER = ("", "/versions/{version}")


class Service:
    """What the routes share.

    Args:
        releases: which workers answer.
        queue: how many requests may wait for a worker.
        corrections: whether they are kept.
        token: whether one is asked for.
    """

    def __init__(self, releases: Releases, queue: int, *, corrections: bool, token: bool) -> None:
        self.draining = False  # SIGTERM has come: what is under way is finished
        self.releases = releases
        self.budget = Budget()
        self.metrics = metrics.made(lambda: releases.pool.waiting, lambda: self.budget.held)
        self._queue, self._corrections, self._token = queue, corrections, token

    async def classify(self, request: Request) -> Response:
        content_type = limits.require_picture(request)
        return _json(await self._asked(request, {"route": "classify", "content_type": content_type}))

    async def similar(self, request: Request) -> Response:
        if self.releases.pool.facts["without_index"]:
            raise Refused(404, self.releases.pool.facts["without_index"])
        content_type = limits.require_picture(request)
        k = request.query_params.get("k", DEFAULT_K)
        return _json(await self._asked(request, {"route": "similar", "content_type": content_type, "k": k[:8]}))

    async def corrections(self, request: Request) -> Response:
        if not self._corrections:
            raise Refused(404, "This service keeps no corrections (--corrections FOLDER).")
        content_type = limits.require_media_type(request, FORM)
        return _json(await self._asked(request, {"route": "corrections", "content_type": content_type}))

    async def infer(self, request: Request) -> Response:
        self._require_model(request)
        limits.require_media_type(request, *TENSOR_TYPES)
        said = request.headers.get(HEAD_LENGTH)
        if said is not None and not re.fullmatch(r"[0-9]{1,9}", said):
            raise Refused(400, "Expected Inference-Header-Content-Length as a number. Received something else.")
        answer = await self._asked(request, {"route": "infer", "head_bytes": None if said is None else int(said)})
        length = answer.head["json_bytes"]
        if length == len(answer.body):
            return _json(answer)
        return Response(answer.body, headers={HEAD_LENGTH: str(length)}, media_type=limits.PICTURES[-1])

    async def server(self, _: Request) -> Response:
        return JSONResponse({"name": tensors.NAME, "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        told = {"ready": not self.draining, "corrections": self._corrections}  # a page asks, and offers them or not
        return JSONResponse(told, 503 if self.draining else 200)

    async def model_ready(self, request: Request) -> Response:
        self._require_model(request)
        return await self.ready(request)

    async def model(self, request: Request) -> Response:
        self._require_model(request)
        facts = self.releases.pool.facts
        shape = [-1, tensors.SIDE, tensors.SIDE]
        return JSONResponse(
            {
                "name": tensors.NAME,
                "versions": [str(facts["version"])],
                "platform": "onnx_onnxv1",
                "inputs": [{"name": tensors.INPUT, "datatype": "UINT8", "shape": shape}],
                "outputs": [
                    {"name": name, "datatype": "FP32", "shape": [-1, width]} for name, width in facts["outputs"].items()
                ],
            }
        )

    async def measured(self, _: Request) -> Response:
        facts, known = self.releases.pool.facts, self.metrics
        known.version.set(facts["version"])
        known.model.info({"sha256": facts["digest"], "precision": facts["precision"]})
        known.restarts.set(self.releases.restarts_before + self.releases.pool.restarts)
        known.changes.set(self.releases.changes)
        return Response(metrics.shown(known), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self.description())

    async def docs(self, _: Request) -> Response:
        return Response(description.page(self.description()), headers=description.PAGE_HEADERS)

    async def style(self, _: Request) -> Response:
        return Response(description.style(), media_type="text/css")

    def description(self) -> dict[str, Any]:
        """As it serves now: its kinds, and what is switched on."""
        kinds = self.releases.pool.facts["classes"]
        return description.described(kinds, corrections=self._corrections, token=self._token)

    async def _asked(self, request: Request, head: dict[str, Any]) -> Frame:
        """What a worker answers; a queue that is full is noticed before the body is read, and again behind it."""
        self._require_room()
        with self.budget.share() as share:
            content = await limits.body(request, share)
            self._require_room()
            try:
                answer = await self.releases.pool.ask(Frame(head, content), request.is_disconnected)
            except Lost as error:
                raise Refused(
                    422, f"It could not be read: that took more than {ANSWER_S:.0f} s, or crashed."
                ) from error
        if "reason" in answer.head:
            raise Refused(answer.head["status"], answer.head["reason"], answer.head["headers"])
        self.releases.answered()
        for kind, count in answer.head["kinds"].items():
            self.metrics.answers.labels(kind).inc(count)
        return answer

    @property
    def is_full(self) -> bool:
        """As many wait for a worker as may."""
        return self.releases.pool.waiting >= self._queue

    def _require_room(self) -> None:
        if self.is_full:
            raise busy(QUEUE_FULL)

    def _require_model(self, request: Request) -> None:
        version = str(self.releases.pool.facts["version"])
        if request.path_params["model"] != tensors.NAME or request.path_params.get("version", version) != version:
            raise Refused(404, f"Expected the model {tensors.NAME}, version {version}. Received another.")


class Metered:
    """ASGI middleware that counts and times every request, by the route that it has taken."""

    def __init__(self, app: ASGIApp, known: metrics.Metrics, routes: dict[Any, str]) -> None:
        self._app, self._known, self._routes = app, known, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, statuses = time.perf_counter(), []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = self._routes.get(scope.get("endpoint"), "none")
            self._known.requests.labels(route, str(statuses[0]) if statuses else "none").inc()
            self._known.seconds.labels(route).observe(time.perf_counter() - begun)


class Crowded:
    """ASGI middleware: while the queue is full, a picture is refused before it is routed.

    So refusing takes less from those who are answered. Whoever may not ask was refused by Guard before.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._asking = app, service, _asking(service)
        refused = busy(QUEUE_FULL)
        answer = JSONResponse({"error": str(refused)}, refused.status, dict(refused.headers))
        self._headers, self._body = answer.raw_headers, answer.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._service.is_full
            and scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"] in self._asking
        ):
            scope["endpoint"] = self._asking[scope["path"]]
            await send({"type": "http.response.start", "status": 503, "headers": [*self._headers]})
            await send({"type": "http.response.body", "body": self._body})
        else:
            await self._app(scope, receive, send)


def made(service: Service, rules: Rules) -> ASGIApp:
    """The whole application."""
    routes = _routes(service)
    names = {route.endpoint: re.sub(r"/versions/\{version\}", "", route.path) for route in routes}
    metrics.begin(service.metrics, [*service.releases.pool.facts["classes"], UNKNOWN], set(names.values()))
    refused: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        Refused: _refused,
        Gone: _gone,
        HTTPException: _misrouted,
    }
    starlette = Starlette(routes=routes, exception_handlers=refused)
    starlette.router.redirect_slashes = False  # an address that is nearly right is wrong
    return Metered(Guard(Crowded(starlette, service), rules), service.metrics, names)


def _asking(service: Service) -> dict[str, Any]:
    """The routes that take pictures."""
    return {
        "/v1/classify": service.classify,
        "/v1/similar": service.similar,
        "/v1/corrections": service.corrections,
    }


def _routes(service: Service) -> list[Route]:
    get: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": _to_docs,
        "/docs": service.docs,
        "/docs.css": service.style,
        "/openapi.json": service.openapi,
        "/metrics": service.measured,
        "/v2": service.server,
        "/v2/health/live": service.live,
        "/v2/health/ready": service.ready,
    }
    post = _asking(service)
    for version in OPTIONAL_INFER:
        get[f"/v2/models/{{model}}{version}"] = service.model
        get[f"/v2/models/{{model}}{version}/ready"] = service.model_ready
        post[f"/v2/models/{{model}}{version}/infer"] = service.infer
    return [
        *(Route(path, endpoint, methods=["GET"]) for path, endpoint in get.items()),
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in post.items()),
    ]


def _json(answer: Frame) -> Response:
    return Response(answer.body, answer.head["status"], media_type=JSON)


async def _to_docs(_: Request) -> Response:
    return RedirectResponse("/docs")


async def _refused(_: Request, refused: Refused) -> Response:
    return JSONResponse({"error": str(refused)}, refused.status, dict(refused.headers))


async def _gone(_: Request, __: Gone) -> Response:
    return Response(status_code=HUNG_UP)


async def _misrouted(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
