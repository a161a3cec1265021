"""What a suite will cost, before anything runs."""

import sys


rule plan:
    """Say what the suite that the configuration names will cost; nothing is made."""
    params:
        config=lambda wildcards: " ".join(f"'{file}'" for file in workflow.configfiles),
    shell:
        "{sys.executable} -m ditgta plan --configfile {params.config} --suite {CONFIG.suite}"
