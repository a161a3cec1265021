"""What a suite will cost, before anything runs."""


rule plan:
    """Say what the suite that the configuration names will cost; nothing is made."""
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        run=command,
        files=[str(file) for file in workflow.configfiles],
        suite=CONFIG.suite,
    message:
        "Plan suite {params.suite}; log: {log}"
    shell:
        "{params.run} plan --configfile {params.files:q} --suite {params.suite:q} 2>&1 | tee {log}"
