"""Stage scorer: fetch the Inception weights, or train a small Inception network on the images."""


rule fit_scorer:
    """Write the network whose features the scores are made of."""
    input:
        unpack(scorer_inputs),
    output:
        weights="<scorer>/scorer.safetensors",
        record="<scorer>/scorer.json",
    log:
        "<logs>/scorer/{scorer}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("scorer"),
        images=lambda wildcards, input: f"--images {Path(input[0]).parent}" if input else "",
        held=lambda wildcards, output: held(SUITES[owner("scorer", wildcards)].scorer.weights),
        spec=lambda wildcards, output: spec_text(SUITES[owner("scorer", wildcards)].scorer.spec()),
    message:
        "Scorer {params.name}: fetch or train; log: {log}"
    shell:
        "{params.run} scorer {params.images} {params.held} --out {output.weights} --spec {params.spec:q} > {log} 2>&1"
