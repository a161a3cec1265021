"""Stage score: FID, sFID, Inception Score, precision and recall of every row, and of real against real images."""


rule score:
    """Score the samples of one row at one milestone, or one half of the real images against the other."""
    input:
        unpack(score_inputs),
    output:
        scores="<score>.json",
        influence="<score>.npz",
    log:
        "<logs>/score/{score}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("score"),
        place=lambda wildcards, output: wildcards.score.removeprefix(wildcards.score.partition("/")[0]),
        reference=reference_of,
        held=held_reference,
        samples=compared,
    message:
        "Score {params.name}{params.place}; log: {log}"
    shell:
        "{params.run} score {params.reference:q} {params.samples} {params.held} --weights {input.scorer[0]}"
        " --out {output.scores} > {log} 2>&1"
