"""A worker: reads pictures and asks the model, in a process of its own, one question at a time.

Started by pool.py, speaks frames on standard input and output, and ends when its input does. What a stranger sent is
only ever looked at here: a crash, a runaway or too much memory costs one answer, and the service starts another worker.
"""

import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from seamline import bundle, check
from seamline.classifier import Classifier
from seamline.service import answers, corrections, forms, frames, tensors
from seamline.service.answers import Serving
from seamline.service.frames import Frame
from seamline.service.refusals import Refused

SPARE_BYTES = 2**30  # address space beyond what the model takes: the worst picture known needs 540 MiB
MOST_K = 100


def main() -> None:
    """Say what the model is, then answer until the input ends."""
    for ended_by_the_service in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ended_by_the_service, signal.SIG_IGN)
    logging.disable()  # python-multipart's, which quotes what strangers send
    with suppress(BrokenPipeError):  # the service was killed: nobody waits for an answer
        _serve(sys.stdin.buffer)


def _serve(questions: BinaryIO) -> None:
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # a library that prints must not spoil a frame
        model, index, folder = sys.argv[1:]
        try:
            serving = _opened(Path(model), index)
        except (OSError, ValueError) as error:
            frames.write(out, Frame({"fault": str(error)}))
            return
        frames.write(out, Frame(_facts(serving)))
        _limit_memory()
        gc.freeze()  # what is there now stays: nobody waits while Python looks for cycles in it
        _answer_all(serving, folder, questions, out)


def _opened(model: Path, index: str) -> Serving:
    """Proved here: the golden vectors, on this very processor."""
    classifier = Classifier(model)
    version = classifier.info.get("version", 0)
    if model.is_dir():
        golden = check.serving_golden(classifier, bundle.read(model))
        if reasons := check.golden_failures(classifier, golden):
            raise bundle.BundleError(f"{'; '.join(reasons)}.")
    return answers.opened(classifier, version if isinstance(version, int) else 0, index)


def _facts(serving: Serving) -> dict[str, Any]:
    model = serving.classifier
    return {
        "classes": list(model.classes),
        "digest": model.digest,
        "version": serving.version,
        "precision": model.precision,
        "outputs": serving.outputs,
        "without_index": serving.without_index,
    }


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no picture in a core file


def _answer_all(serving: Serving, folder: str, questions: BinaryIO, out: BinaryIO) -> None:
    while question := frames.read(questions):
        try:
            answer = _answer(serving, folder, question)
        except Refused as refused:
            answer = _told(refused)
        except MemoryError:
            answer = _told(Refused(422, "It takes too much memory."))
        frames.write(out, answer)


def _told(refused: Refused) -> Frame:
    return Frame({"status": refused.status, "reason": str(refused), "headers": dict(refused.headers)})


def _answer(serving: Serving, folder: str, question: Frame) -> Frame:
    match question.head["route"]:
        case "classify":
            answer = answers.classify(serving, _picture(question))
            return _json(answer, kinds={answer["kind"]: 1})
        case "similar":
            answer = answers.similar(serving, _picture(question), _k(question.head["k"]))
            return _json(answer, kinds={answer["kind"]: 1})
        case "corrections":
            return _corrected(serving, Path(folder), question)
        case _:
            answer, tail, kinds = tensors.infer(serving, question.body, question.head["head_bytes"])
            return _json(answer, tail, kinds=kinds)


def _picture(question: Frame) -> bytes:
    content_type = question.head["content_type"]
    if not content_type.lower().startswith(forms.FORM):
        return question.body
    return forms.field(forms.fields(content_type, question.body), "picture")


def _k(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_K:
        raise Refused(422, f"Expected k from 1 to {MOST_K}. Received something else.")
    return int(text)


def _corrected(serving: Serving, folder: Path, question: Frame) -> Frame:
    found = forms.fields(question.head["content_type"], question.body)
    picture, kind = forms.field(found, "picture"), forms.field(found, "kind").decode("utf-8", "replace")
    if kind not in serving.classifier.classes:
        raise Refused(422, f"Expected a kind among {', '.join(serving.classifier.classes)}. Received another.")
    new = corrections.keep(folder, picture, kind)
    return _json({"kept": new, "kind": kind}, status=201 if new else 200)


def _json(answer: dict[str, Any], tail: bytes = b"", status: int = 200, kinds: dict[str, int] | None = None) -> Frame:
    content = json.dumps(answer).encode()
    return Frame({"status": status, "kinds": kinds or {}, "json_bytes": len(content)}, content + tail)


if __name__ == "__main__":
    main()
