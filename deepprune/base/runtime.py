"""The process environment that vLLM needs to be fast on CPU. Set here and nowhere else.

Preloaded libraries and thread binding must be there before Python starts, so a stage that uses vLLM calls
`ensure()` first: where something is missing, it starts itself again with it. On a GPU nothing is preloaded.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from deepprune.base import console
from deepprune.base.errors import UserError

MARK = "DEEPPRUNE_RUNTIME"
BIND = "VLLM_CPU_OMP_THREADS_BIND"  # cores of vLLM's workers, as 0,1; of several workers, as 0,1|2,3


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded (no torch import)."""
    return Path("/proc/driver/nvidia/version").exists() or bool(glob.glob("/dev/nvidia[0-9]*"))


def bfloat16_flags(cpuinfo: str | Path = "/proc/cpuinfo") -> list[str]:
    """This processor's instructions for bfloat16, as Linux names them; none where it does not say."""
    try:
        flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", Path(cpuinfo).read_text(), re.MULTILINE)
    except OSError:
        return []
    return sorted({"avx512_bf16", "amx_bf16", "bf16"} & set(flags[0].split())) if flags else []


def has_bfloat16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether this processor multiplies bfloat16 matrices. Without (AVX2), torch is hundreds of times slower in it."""
    return bool(bfloat16_flags(cpuinfo))


def gpu_has_bfloat16() -> bool:
    """Whether there is a GPU, and every GPU computes in bfloat16 (compute capability 8 or more, or not known)."""
    return has_gpu() and all(number >= 8 for number in _compute_capabilities())


def query_card(what: str) -> list[str]:
    """nvidia-smi's answer for the first card this process may use, a cell a property; empty if it has none."""
    first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    query = ["nvidia-smi", f"--id={first}", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [cell.strip() for cell in answer.strip().split(",")]


@functools.cache
def _compute_capabilities() -> list[float]:
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [float(number) for number in re.findall(r"^\d+\.\d+$", answer, re.MULTILINE)]


def compute_dtype(dtype: str) -> str:
    """The type that 'auto' means on this machine, any other as it is: what weights are held and multiplied in.

    bfloat16 on GPUs and CPUs that have it; else float16 on a GPU, float32 on a CPU. The only place that decides it: for
    sampling, live runs and every judge (whose logits are float32 all the same), before a manifest or a score store
    names it.
    """
    if dtype != "auto":
        return dtype
    if has_gpu():
        return "bfloat16" if gpu_has_bfloat16() else "float16"
    return "bfloat16" if has_bfloat16() else "float32"


def tcmalloc() -> str | None:
    """Path of Debian's libtcmalloc-minimal4, if it is installed."""
    library = "libtcmalloc_minimal.so.4"
    return next((path for folder in ("/usr/lib/*", "/usr/lib*") for path in glob.glob(f"{folder}/{library}")), None)


def preloadable(library: Path) -> str | None:
    """A library's path as LD_PRELOAD can hold it, where blanks and colons separate: if need be that of a link to it.

    None if it is not there, or no such link can be made (the cache's own path has blanks).
    """
    blanks = re.compile(r"[\s:]")
    if not library.exists() or not blanks.search(str(library)):
        return str(library) if library.exists() else None
    cache = Path(os.environ.get("DEEPPRUNE_CACHE") or Path.home() / ".cache" / "deepprune")
    link = cache / "preload" / hashlib.sha256(str(library).encode()).hexdigest()[:8] / library.name
    with contextlib.suppress(OSError):  # it is there, or the cache cannot be written
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(library)
    return str(link) if link.exists() and not blanks.search(str(link)) else None


def environment(base: dict[str, str] | None = None) -> dict[str, str]:
    """`base` (default: the process environment) plus what vLLM needs; what the user has set is kept."""
    env = console.quiet(os.environ if base is None else base)
    if not has_gpu():
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) > 1:  # binding to a single core hangs
            env.setdefault(BIND, ",".join(map(str, cpus)))
        env.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
        env.setdefault("KMP_BLOCKTIME", "1")
        preload = filter(None, [preloadable(Path(sys.prefix) / "lib" / "libiomp5.so"), tcmalloc()])
        asked = env.get("LD_PRELOAD", "").replace(":", " ").split()
        env["LD_PRELOAD"] = ":".join(asked + [p for p in preload if p not in asked])
    env[MARK] = "1"
    return env


def bind_ranks(ranks: int) -> None:
    """On a CPU: give each of vLLM's parallel workers cores of its own, unless the user has ("0-3|4-7").

    Raises UserError if there are fewer cores than workers.
    """
    if "|" in os.environ.get(BIND, ""):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < ranks:
        raise UserError(f"{ranks} parallel workers need a core each, this machine has {len(cores)}")
    each = len(cores) // ranks
    os.environ[BIND] = "|".join(",".join(map(str, cores[i * each : (i + 1) * each])) for i in range(ranks))


def ensure() -> None:
    """Start this process again with `environment()` unless it runs with it already."""
    if os.environ.get(MARK) == "1":
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
