"""What a suite will cost, before anything runs."""

import sys


rule plan:
    """Say what the suite that the configuration names will cost; nothing is made."""
    log:
        "results/logs/plan.log",
    params:
        python=sys.executable,
        files=[str(file) for file in workflow.configfiles],
        suite=CONFIG.suite,
    message:
        "Plan suite {params.suite}; log: {log}"
    shell:
        "{params.python} -m ditgta plan --configfile {params.files:q} --suite {params.suite} 2>&1 | tee {log}"
