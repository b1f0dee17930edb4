"""What anybody would write in thirty lines: FastAPI, onnxruntime, Pillow; the same pictures, the same model's file.

`python -m benchmarks.rival_service MODEL PORT`. The route is a plain function, which FastAPI runs in its threads, as
its guide recommends for work that blocks.
"""

import io
import json
import sys

import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile

from seamline import pictures

app = FastAPI()
session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])


@app.post("/v1/classify")
def classify(picture: UploadFile) -> dict[str, object]:
    """The likeliest kind of the garment in a picture."""
    views = pictures.from_picture(io.BytesIO(picture.file.read()).getvalue())
    row = session.run(["probabilities"], {"image": views})[0].mean(axis=0)
    return {"kind": classes[int(row.argmax())], "probability": float(row.max())}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), access_log=False)
