"""Which arithmetic the processor is fast at.

bfloat16 pays only where there are instructions for it; elsewhere it is emulated and many times slower
(https://github.com/tensorflow/tensorflow/issues/45441), so the processor's own flags decide.
"""

from pathlib import Path

FLAGS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


def precision(wanted: str, flags: frozenset[str], gpus: int = 0) -> str:
    """Which of "float32" and "bfloat16" to compute in.

    Args:
        wanted: params.yaml's train.precision; "auto" decides by the flags.
        flags: of the processor, as Linux names them.
        gpus: how many TensorFlow sees; on one, float32 is left to it (TF32 where it has that).
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if flags & BFLOAT16_FLAGS and not gpus else "float32"


def flags(path: Path = FLAGS) -> frozenset[str]:
    """The processor's flags; none where the system does not list them."""
    if not path.is_file():
        return frozenset()
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())


def name(path: Path = FLAGS) -> str:
    """What the processor calls itself."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
