"""The service in OpenAPI's words, and the page that shows them: made here, so that it needs no script and no network.

tests/test_service_description.py has schemathesis compare it with a running service.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from seamline import __version__
from seamline.service import limits, tensors
from seamline.service.forms import FORM
from seamline.service.guard import OPEN

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
ALWAYS = {
    400: "the request is broken",
    403: "another site's page asks",
    408: "the request was not there in time",
    413: "the body is too large",
    421: "the Host is not one that this service is known by",
    431: "the head is too long",
    503: "too much is asked at once: try again after Retry-After seconds",
}
BODIES = {
    415: "the body is of another kind, or compressed",
    422: "the body cannot be read, or asks for what there is not",
}
UNKNOWN_CALLER = {401: "the token is absent, or another"}
UNKNOWN_MODEL = {404: "another model or version"}
ERROR = {"$ref": "#/components/schemas/Error"}
ANYTHING: dict[str, Any] = {"type": "object"}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
HEADERS: dict[str, dict[str, Any]] = {
    "401": {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    "429": {"Retry-After": {"description": "seconds", "schema": WHOLE}},
    "503": {"Retry-After": {"description": "seconds", "schema": WHOLE}},
}


def described(kinds: Sequence[str], *, corrections: bool, token: bool) -> dict[str, Any]:
    """An OpenAPI 3.1 document.

    Args:
        kinds: that the model knows.
        corrections: whether they are kept.
        token: whether one is asked for.
    """
    paths = _paths(kinds, corrections=corrections)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seamline",
            "version": __version__,
            "description": "What a picture of clothing shows, and what is like it.",
        },
        "paths": {path: _guarded(path, methods) for path, methods in paths.items()} if token else paths,
        "components": {
            "schemas": {
                "Error": _object(error=TEXT),
                "Classified": _object(**_named(kinds)),
                "Similar": _similar(kinds),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if token else {},
        },
        "security": [{"token": []}] if token else [],
    }


def _guarded(path: str, methods: dict[str, Any]) -> dict[str, Any]:
    """Operations where a token is asked for, unless the path is everybody's."""
    if path in OPEN:
        return {method: operation | {"security": []} for method, operation in methods.items()}
    refusal = _refusals(UNKNOWN_CALLER)
    return {
        method: operation | {"responses": operation["responses"] | refusal} for method, operation in methods.items()
    }


def _paths(kinds: Sequence[str], *, corrections: bool) -> dict[str, Any]:
    classified = _answers("its kind", {"$ref": "#/components/schemas/Classified"})
    paths = {
        "/v1/classify": {"post": _operation("What a picture shows", classified, BODIES, body=_picture())},
        "/v1/similar": {"post": _similar_operation()},
        "/v2": {
            "get": _operation(
                "The server", _answers("its name", _object(name=TEXT, version=TEXT, extensions=_list(TEXT)))
            )
        },
        "/v2/health/live": {"get": _operation("Whether it runs", _answers("it does", ANYTHING))},
        "/v2/health/ready": {"get": _ready()},
        "/metrics": {"get": _operation("For Prometheus", _answers("its measurements", TEXT, "text/plain"))},
    }
    for version in ("", "/versions/{version}"):
        place = f"/v2/models/{{model}}{version}"
        named = [_path_parameter("model", {"const": tensors.NAME})]
        named += [_path_parameter("version", TEXT | {"minLength": 1, "example": "1"})] if version else []
        paths[place] = {
            "get": _operation("The model's inputs and outputs", _answers("them", ANYTHING), UNKNOWN_MODEL, named)
        }
        paths[f"{place}/ready"] = {"get": _ready(named)}
        paths[f"{place}/infer"] = {"post": _infer(named)}
    if corrections:
        paths["/v1/corrections"] = {"post": _correction(kinds)}
    return paths


def _operation(
    summary: str,
    answers: dict[str, Any],
    refusals: dict[int, str] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    asked = {"requestBody": {"required": True, "content": body}} if body else {}
    responses = _refusals(ALWAYS | (refusals or {})) | answers
    return {"summary": summary, "parameters": parameters or [], **asked, "responses": responses}


def _refusals(reasons: dict[int, str]) -> dict[str, Any]:
    """Answers of one sentence each."""
    content = {"application/json": {"schema": ERROR}}
    return {
        str(status): {"description": reason, "headers": HEADERS.get(str(status), {}), "content": content}
        for status, reason in sorted(reasons.items())
    }


def _answers(
    description: str, schema: dict[str, Any], kind: str = "application/json", status: int = 200
) -> dict[str, Any]:
    return {str(status): {"description": description, "content": {kind: {"schema": schema}}}}


def _picture() -> dict[str, Any]:
    """As the body is, or in a form."""
    raw = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in limits.PICTURES}
    return raw | {FORM: {"schema": _object(picture={"type": "string", "format": "binary"})}}


def _similar_operation() -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": 100, "default": 5}
    count = {"name": "k", "in": "query", "description": "how many", "schema": schema}
    answers = _answers("the most alike first", {"$ref": "#/components/schemas/Similar"})
    refusals = BODIES | {404: "the service was started without an index"}
    summary = "What a picture shows, and what the shop has that is like it"
    return _operation(summary, answers, refusals, [count], _picture())


def _correction(kinds: Sequence[str]) -> dict[str, Any]:
    form = _object(picture={"type": "string", "format": "binary"}, kind={"type": "string", "enum": list(kinds)})
    kept = _object(kept={"type": "boolean"}, kind=TEXT)
    answers = _answers("it is kept", kept, status=201) | _answers("it was there", kept)
    refusals = BODIES | {429: "enough for today", 507: "there is no room"}
    return _operation(
        "A picture and its right kind, for the next training", answers, refusals, body={FORM: {"schema": form}}
    )


def _ready(parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    flags = _object(ready={"type": "boolean"}, corrections={"type": "boolean"})
    ending = _answers("it is about to end, or too much is asked at once", {"anyOf": [flags, ERROR]}, status=503)
    ending["503"]["headers"] = HEADERS["503"]
    answers = _answers("it is", flags) | ending
    return _operation(
        "Whether it may be asked, and whether corrections are kept",
        answers,
        UNKNOWN_MODEL if parameters else None,
        parameters,
    )


def _infer(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    head = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "bytes of JSON in the body; the tensors' bytes are behind it",
        "schema": {"type": "integer", "minimum": 0, "maximum": limits.LARGEST_BODY_BYTES},
    }
    output = _object(name=TEXT, datatype={"const": "FP32"}, shape=_list(WHOLE))
    output["properties"] |= {"data": _list({"type": "number"}), "parameters": _object(binary_data_size=WHOLE)}
    answers = _answers("the outputs", _object(model_name=TEXT, model_version=TEXT, outputs=_list(output)))
    answers["200"]["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    answers["200"]["headers"] = {head["name"]: {"description": head["description"], "schema": WHOLE}}
    binary = {"type": "string", "format": "binary", "description": f"JSON of {head['name']} bytes, then the tensors"}
    body = {"application/json": {"schema": _request()}, "application/octet-stream": {"schema": binary}}
    refusals = BODIES | UNKNOWN_MODEL
    return _operation("Open Inference Protocol: tensors in, tensors out", answers, refusals, [*parameters, head], body)


def _request() -> dict[str, Any]:
    pixels = _list({"type": "integer", "minimum": 0, "maximum": 255}) | {"minItems": 784, "maxItems": 784}
    numbers = {"type": "array", "minItems": 2, "description": "as many as the shape says, 0 … 255, flat or nested"}
    several = {"type": "integer", "minimum": 2, "maximum": tensors.MOST_IMAGES}
    images = {"anyOf": [_images({"const": 1}, pixels), _images(several, numbers)]}
    return _object(inputs={"type": "array", "items": images, "minItems": 1, "maxItems": 1})


def _images(count: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    sides = {"prefixItems": [count, {"const": 28}, {"const": 28}], "minItems": 3, "maxItems": 3}
    return _object(
        name={"const": tensors.INPUT}, datatype={"const": "UINT8"}, shape={"type": "array", **sides}, data=data
    )


def _path_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _named(kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": {"type": "string", "enum": [*kinds, "unknown"]},
        "probability": SHARE,
        "unknown": {"type": "boolean"},
        "probabilities": _object(**dict.fromkeys(kinds, SHARE)),
        "version": WHOLE,
        "model": TEXT | {"pattern": "^[0-9a-f]{64}$"},
    }


def _similar(kinds: Sequence[str]) -> dict[str, Any]:
    cosine = {"type": "number", "minimum": -1, "maximum": 1}
    alike = {"type": "boolean", "description": "whether it is near enough to be shown as like the picture"}
    return _object(**_named(kinds), neighbours=_list(_object(name=TEXT, similarity=cosine, alike=alike)))


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def page(document: dict[str, Any]) -> str:
    """The document as HTML."""
    sections = "".join(
        _section(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Seamline: the service</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head><body><main>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1><p>{escape(info['description'])} "
        'For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        "<pre>curl --data-binary @shoe.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/classify\n"
        f"curl -F picture=@shoe.jpg http://127.0.0.1:8000/v1/classify</pre>{sections}</main></body></html>\n"
    )


def style() -> str:
    """The page's."""
    return (Path(__file__).parent / "docs.css").read_text(encoding="utf-8")


def _section(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    asked = ", ".join(operation.get("requestBody", {}).get("content", {}))
    takes = [f"{one['name']} ({one['in']})" for one in operation["parameters"]] + ([f"body: {asked}"] if asked else [])
    rows = "".join(
        f"<tr><th scope=row>{status}<td>{escape(answer['description'])}{_fields(document, answer)}"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><b>{escape(method.upper())}</b> <code>{escape(path)}</code></h2>"
        f"<p>{escape(operation['summary'])}</p>"
        + (f"<p class=takes>{escape('; '.join(takes))}</p>" if takes else "")
        + f"<details><summary>Answers</summary><table>{rows}</table></details></section>"
    )


def _fields(document: dict[str, Any], answer: dict[str, Any]) -> str:
    """What an answer that is an object has."""
    schema = next(iter(answer["content"].values()))["schema"]
    schema = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
    named = ", ".join(schema.get("properties", {}))
    return f": <code>{escape(named)}</code>" if named else ""
