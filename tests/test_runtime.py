"""The environment that vLLM gets on a CPU."""

import os
import subprocess
import sys

from deepprune.base import runtime


def test_a_path_with_blanks_is_preloaded_by_a_link(tmp_path, monkeypatch):
    """LD_PRELOAD is split at blanks: every process told that half a path is no library."""
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "my project"))
    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    library = tmp_path / "my project/lib/libiomp5.so"
    library.parent.mkdir(parents=True)
    assert "libiomp5" not in runtime.environment({})["LD_PRELOAD"]
    any_library = next(line.split()[-1] for line in open("/proc/self/maps") if "/libc.so" in line or "/libc-" in line)
    library.symlink_to(any_library)
    for _ in range(2):  # the link stays
        preload = runtime.environment({})["LD_PRELOAD"]
        assert " " not in preload and preload.split(":")[0].endswith("/libiomp5.so")
    done = subprocess.run(["/bin/true"], env=os.environ | {"LD_PRELOAD": preload}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "my cache"))
    assert "libiomp5" not in runtime.environment({})["LD_PRELOAD"]
