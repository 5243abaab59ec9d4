"""The process environment that vLLM needs to be fast on CPU. Set here and nowhere else.

Preloaded libraries and thread binding must be there before Python starts, so a stage that uses vLLM calls
`ensure()` first: where something is missing, it starts itself again with it. On a GPU nothing is preloaded.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from pathlib import Path

MARK = "DEEPPRUNE_RUNTIME"


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded (no torch import)."""
    return Path("/proc/driver/nvidia/version").exists() or bool(glob.glob("/dev/nvidia[0-9]*"))


def has_bfloat16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this processor multiplies bfloat16 matrices. Without (AVX2 only), torch is hundreds of times slower in it.

    Reads what Linux says of the processor; elsewhere the answer is False.
    """
    try:
        flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", Path(cpuinfo).read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(flags) and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags[0].split()))


def cpu_dtype(dtype: str) -> str:
    """'auto' where the weights' own type (bfloat16, usually) runs well; float32 for 'auto' on a CPU that has no bfloat16."""
    return "float32" if dtype == "auto" and not has_gpu() and not has_bfloat16() else dtype


def tcmalloc() -> str | None:
    """Path of Debian's libtcmalloc-minimal4, if it is installed."""
    found = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4") + glob.glob("/usr/lib*/libtcmalloc_minimal.so.4")
    return found[0] if found else None


def environment(base: dict[str, str] | None = None) -> dict[str, str]:
    """`base` (default: the process environment) plus what vLLM needs; what the user has set is kept."""
    env = dict(os.environ if base is None else base)
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    env.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    env.setdefault("TOKENIZERS_PARALLELISM", "false")
    env.setdefault("PYTHONWARNINGS", "ignore")  # warnings of packages, not of ours
    env.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if not has_gpu():
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) > 1:  # binding to a single core hangs
            env.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cpus)))
        env.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
        env.setdefault("KMP_BLOCKTIME", "1")
        iomp = Path(sys.prefix) / "lib" / "libiomp5.so"
        preload = [p for p in (str(iomp) if iomp.exists() else None, tcmalloc()) if p]
        asked = env.get("LD_PRELOAD", "").replace(":", " ").split()
        env["LD_PRELOAD"] = ":".join(asked + [p for p in preload if p not in asked])
    env[MARK] = "1"
    return env


def ensure() -> None:
    """Start this process again with `environment()` unless it runs with it already."""
    if os.environ.get(MARK) == "1":
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
