"""Freed memory is kept, in large pages: blocks that come and go cost no new ones."""

import platform
import subprocess
import sys
from pathlib import Path

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


LARGE_PAGES = """
import resource, sys
from ditgta.runtime.memory import keep_freed_memory, use_large_pages
if "limited" in sys.argv:
    resource.setrlimit(resource.RLIMIT_AS, (4_000_000_000, resource.RLIM_INFINITY))
keep_freed_memory()
use_large_pages()
taken = b'1' * 100_000_000
maps = open("/proc/self/smaps").read().splitlines()
sizes = [int(line.split()[1]) for line in maps if line.startswith("AnonHugePages")]
print(sum(sizes))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switches")
def test_large_pages_are_asked_for_where_addresses_are_not_limited():
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.exists() or "[madvise]" not in switch.read_text():
        pytest.skip("this kernel gives large pages to all, or to none")

    def kilobytes(*words: str) -> int:
        call = [sys.executable, "-c", LARGE_PAGES, *words]
        return int(subprocess.run(call, capture_output=True, text=True, check=True).stdout)

    assert kilobytes() > 80_000
    assert kilobytes("limited") == 0
