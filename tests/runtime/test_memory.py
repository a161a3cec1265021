"""Freed memory is kept: blocks that come and go cost no new pages."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from ditgta.runtime.memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory(*map(int, sys.argv[2:]))
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(40_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switches")
def test_large_blocks_are_used_again():
    assert faults("keep") < 20 < faults()
    assert faults("keep", str(2**20)) > 20  # larger than what may be kept
