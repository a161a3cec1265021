"""Stage score: FID, sFID, Inception Score, precision and recall of every row, and of real against real images."""


rule score:
    """Score the samples of one row at one milestone."""
    input:
        unpack(score_inputs),
        samples="results/sample/{suite}/{experiment}/seed{seed}/{step}/index.json",
    output:
        scores="results/score/{suite}/{experiment}/seed{seed}/{step}.json",
        influence="results/score/{suite}/{experiment}/seed{seed}/{step}.npz",
    log:
        "results/logs/score/{suite}/{experiment}-seed{seed}-{step}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        reference=reference_of,
        spec=score_spec,
    message:
        "Score {wildcards.experiment} (seed {wildcards.seed}) at step {wildcards.step}; log: {log}"
    shell:
        "{params.command} score {params.reference:q} $(dirname {input.samples}) --weights {input.scorer}"
        " --out {output.scores} --spec {params.spec:q} > {log} 2>&1"


rule floor:
    """Score one half of the real images against the other: what a perfect generator would get."""
    input:
        unpack(score_inputs),
    output:
        scores="results/score/{suite}/floor.json",
        influence="results/score/{suite}/floor.npz",
    log:
        "results/logs/score/{suite}/floor.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        reference=reference_of,
        spec=lambda wildcards: spec_text({"suite": wildcards.suite}),
    message:
        "Score real against real images of suite {wildcards.suite}; log: {log}"
    shell:
        "{params.command} score {params.reference:q} --floor --weights {input.scorer}"
        " --out {output.scores} --spec {params.spec:q} > {log} 2>&1"
