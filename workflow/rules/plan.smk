"""What a suite will cost, before anything runs."""


rule plan:
    """Say what the suite that the configuration names will cost; nothing is made."""
    log:
        "results/logs/plan.log",
    conda:
        "../../envs/environment.yaml"
    params:
        command=command,
        files=[str(file) for file in workflow.configfiles],
        suite=CONFIG.suite,
    message:
        "Plan suite {params.suite}; log: {log}"
    shell:
        "{params.command} plan --configfile {params.files:q} --suite {params.suite} 2>&1 | tee {log}"
