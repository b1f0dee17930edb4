import platform
from pathlib import Path

import pytest

from tasks import processor

SAPPHIRE_RAPIDS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}


@pytest.mark.parametrize(
    ("wanted", "flags", "gpus", "chosen"),
    [
        pytest.param("auto", {"avx2", "fma"}, 0, "float32", id="AVX2 alone"),
        pytest.param("auto", {"avx512f", "avx512_vnni"}, 0, "float32", id="AVX-512 without bfloat16"),
        pytest.param("auto", {"avx512_bf16"}, 0, "bfloat16", id="AVX-512"),
        pytest.param("auto", {"amx_bf16"}, 0, "bfloat16", id="AMX"),
        pytest.param("auto", {"amx_tile", "amx_int8"}, 0, "float32", id="AMX without bfloat16"),
        pytest.param("auto", set(), 0, "float32", id="unknown"),
        pytest.param("auto", SAPPHIRE_RAPIDS, 1, "float32", id="GPU"),
        pytest.param("float32", SAPPHIRE_RAPIDS, 0, "float32", id="float32 wanted"),
        pytest.param("bfloat16", set(), 0, "bfloat16", id="bfloat16 wanted"),
        pytest.param("bfloat16", set(), 1, "bfloat16", id="bfloat16 wanted on a GPU"),
    ],
)
def test_precision(wanted, flags, gpus, chosen):
    assert processor.precision(wanted, frozenset(flags), gpus) == chosen


def test_flags_and_name_are_those_of_the_first_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nmodel name\t: One  @ 2 GHz\nvmx flags\t: vnmi\nflags\t\t: fpu amx_bf16\n\n"
        "processor\t: 1\nmodel name\t: Two\nflags\t\t: fpu other\n"
    )

    assert processor.flags(path) == {"fpu", "amx_bf16"}
    assert processor.name(path) == "One  @ 2 GHz"


@pytest.mark.parametrize(
    "content", [None, "", "processor\t: 0\nFeatures\t: fp asimd bf16\n"], ids=["absent", "empty", "ARM"]
)
def test_processor_that_says_nothing_has_no_flags_and_no_name(tmp_path, content):
    path = tmp_path / "cpuinfo"
    if content is not None:
        path.write_text(content)

    assert processor.flags(path) == frozenset()
    assert processor.name(path) == "unknown"


@pytest.mark.skipif(
    not (Path("/proc/cpuinfo").is_file() and platform.machine() == "x86_64"),
    reason="needs Linux on x86-64, which lists flags",
)
def test_this_processor_lists_its_flags():
    assert {"fpu", "sse2"} <= processor.flags()
    assert processor.name() != "unknown"
