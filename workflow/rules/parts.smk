"""Several jobs that share the work of one stage."""


rule parts:
    """Wait for all parts, so that how many there are is no input of what follows and changes nothing there."""
    input:
        parts_of,
    output:
        temp("results/{shared}/parts/all"),
    log:
        "results/logs/parts/{shared}.log",
    wildcard_constraints:
        shared="(latents|sample)/.+",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        number=lambda wildcards, input: max(1, len(input)),
    message:
        "Parts of {wildcards.shared}: all there"
    shell:
        "(echo {params.number} > results/{wildcards.shared}/parts.txt; touch {output}) 2> {log}"
