"""Stage scorer: fetch the Inception weights, or train a small Inception network on the images."""


rule scorer:
    """Write the network whose features the scores are made of."""
    input:
        lambda wildcards: f"results/images/{images_of(CONFIG.suites[wildcards.suite].experiments[0])}/index.json",
    output:
        weights="results/scorer/{suite}/scorer.safetensors",
        twin="results/scorer/{suite}/scorer.json",
    log:
        "results/logs/scorer/{suite}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        images=lambda wildcards: f"results/images/{images_of(CONFIG.suites[wildcards.suite].experiments[0])}",
        spec=lambda wildcards: spec_text(CONFIG.scorer_spec(wildcards.suite)),
    message:
        "Scorer of suite {wildcards.suite}: fetch or train; log: {log}"
    shell:
        "{params.command} scorer --images {params.images} --out {output.weights} --spec {params.spec:q} > {log} 2>&1"
