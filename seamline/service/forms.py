"""A multipart form's fields, in memory: no picture is ever written to a temporary file."""

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from seamline.service.refusals import Refused

MOST_PARTS = 8
IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": 2**31, "UPLOAD_ERROR_ON_BAD_CTE": True}
FORM = "multipart/form-data"


def fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """What each field of a form holds.

    Args:
        content_type: of the request, with its boundary.
        body: all of it.

    Raises:
        Refused: 400, for a form that is broken, cut short, has too many parts or a field twice.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refused(400, f"Expected {FORM} with a boundary. Received none.")
    found: dict[str, bytes] = {}
    ended: list[bool] = []

    def keep(part: Field | File) -> None:
        name = (part.field_name or b"").decode("utf-8", "replace")
        if len(found) >= MOST_PARTS or name in found:
            raise FormParserError(f"more than {MOST_PARTS} fields, or one of them twice")
        if isinstance(part, File):
            part.file_object.seek(0)
            found[name] = part.file_object.read()
        else:
            found[name] = part.value or b""

    try:
        parser = FormParser(FORM, keep, keep, lambda: ended.append(True), boundary, config=IN_MEMORY)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"The form is broken: {' '.join(str(error).split())[:100]}.") from error
    if not ended:
        raise Refused(400, "The form is broken: it ends before its last boundary.")
    return found


def field(found: dict[str, bytes], name: str) -> bytes:
    """One field of a form.

    Raises:
        Refused: 422, it is absent.
    """
    if name not in found:
        raise Refused(422, f"Expected a field {name!r} in the form. Received none.")
    return found[name]
