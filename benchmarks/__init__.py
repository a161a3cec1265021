"""Every claim of speed or exactness as a command.

    python -m benchmarks [NAME ...] [--quick]     all of them, or those named, in one table
    python -m benchmarks.NAME                     one that has options of its own

A benchmark that stands in the common table is a module of this folder with a function

    def rows(quick: bool) -> Iterable[Row]

that measures and gives one `benchmarks.rows.Row` per claim: what was measured, ours, the peer or the limit it is held against, their
ratio, and the demand that the ratio must meet. With `quick` it measures smaller sizes or fewer rounds, in less than a minute where
that can be done. Each benchmark runs in a process of its own, so it may set the number of threads. Ours and the peer are measured by
turns (`benchmarks.rows.by_turns`), since machines are noisy. There is no list to enter it in. `storm` and `digit_accuracy`, which
work on whole suites, `where_time_goes`, which reads one, and `gpu`, which asks a GPU all there is to ask of it, stay commands of their
own; `launches` counts without a GPU what one would be asked to do.
"""

import os

from ditgta.runtime.memory import keep_freed_memory

# As the command line and the stages do.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
keep_freed_memory()
