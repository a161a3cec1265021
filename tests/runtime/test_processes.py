"""What several processes say to each other."""

import subprocess
import sys

SCRIPT = """
import torch
from ditgta.runtime.processes import processes

with processes() as group:
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(group.rank))
    parts = torch.cat([group.sum(part.clone()) for part in values.split(170)])
    assert torch.equal(group.sum(values.clone()), parts)
    assert torch.allclose(parts, sum(torch.randn(500, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)))
"""


def test_a_sum_in_parts_is_the_sum_at_once(tmp_path):
    (tmp_path / "sums.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run([*launcher, str(tmp_path / "sums.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
