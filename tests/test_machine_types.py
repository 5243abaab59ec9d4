"""The type of weights that this machine computes in, and the environment of a stage."""

import pytest

from deepprune.base import runtime


@pytest.mark.parametrize(
    ("lines", "has"),
    [("flags\t\t: fpu avx512f avx512_bf16 sse2\n", True), ("flags : fpu amx_bf16\n", True),
     ("Features\t: fp asimd bf16\n", True),
     ("flags : fpu avx2 f16c\n", False), ("model name : bf16 avx512_bf16\n", False), ("", False)],
)  # fmt: skip
def test_a_processor_without_bfloat16_computes_in_float32(tmp_path, monkeypatch, lines, has):
    (tmp_path / "cpuinfo").write_text("processor : 0\n" + lines)
    assert runtime.has_bfloat16(tmp_path / "cpuinfo") is has
    assert runtime.has_bfloat16(tmp_path / "nothing") is False
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: has)
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    assert runtime.compute_dtype("auto") == ("bfloat16" if has else "float32")
    assert [runtime.compute_dtype(given) for given in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(
    ("says", "dtype"), [("echo 9.0; echo 8.0", "bfloat16"), ("echo 9.0; echo 7.5", "float16"), ("exit 9", "bfloat16")]
)
def test_an_older_gpu_computes_in_float16(tmp_path, monkeypatch, says, dtype):
    """nvidia-smi says the compute capability; where it cannot, the GPU is taken for one of today."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    runtime._compute_capabilities.cache_clear()
    assert runtime.compute_dtype("auto") == dtype
    assert runtime.gpu_has_bfloat16() is (dtype == "bfloat16")
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    assert runtime.gpu_has_bfloat16() is False
    runtime._compute_capabilities.cache_clear()


def test_the_environment_keeps_what_the_user_set():
    env = runtime.environment({"VLLM_LOGGING_LEVEL": "INFO", "LD_PRELOAD": "/x.so"})
    assert env["VLLM_LOGGING_LEVEL"] == "INFO" and env["LD_PRELOAD"].split(":")[0] == "/x.so"
