"""Stage table: the scores of a suite side by side, with differences, error bars and pictures."""


report: "../report/workflow.rst"


rule table:
    """Write the table as HTML that stands alone, Markdown and CSV."""
    input:
        scores=lambda wildcards: stage_files("score", wildcards.suite)[:-1],
        influence=lambda wildcards: [
            ancient(f"results/score/{wildcards.suite}/{name}/seed{seed}/{step}.npz")
            for name, seed, step in rows_of(wildcards.suite)
        ],
        floor="results/score/{suite}/floor.json",
        training=lambda wildcards: stage_files("train", wildcards.suite),
        shared=lambda wildcards: [
            file
            for stage in ("images", "autoencoder", "latents", "scorer")
            for file in stage_files(stage, wildcards.suite)
        ],
        images=lambda wildcards: stage_files("images", wildcards.suite)[0],
    output:
        html=report(
            "results/table/{suite}/table.html",
            caption="../report/table.rst",
            category="Table",
            labels={"suite": "{suite}"},
        ),
        csv=report(
            "results/table/{suite}/table.csv",
            caption="../report/table.rst",
            category="Table",
            labels={"suite": "{suite}", "form": "CSV"},
        ),
        classes="results/table/{suite}/classes.csv",
        markdown="results/table/{suite}/table.md",
        pictures=expand(
            "results/table/{{suite}}/{name}.png",
            name=["fid", "inception_score", "losses", "samples", "nearest"],
        ),
    log:
        "results/logs/table/{suite}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        command=command,
        spec=table_spec,
    message:
        "Table of suite {wildcards.suite}: {output.html}; log: {log}"
    shell:
        "{params.command} table --scores {input.scores} --training {input.training} --shared {input.shared}"
        " --floor {input.floor} --images $(dirname {input.images}) --out $(dirname {output.html}) --spec {params.spec:q} > {log} 2>&1"
