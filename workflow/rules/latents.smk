"""Stage latents: encode images and mirror images to shards of posterior moments."""


rule latents:
    """Encode all images and write the index; shards that other jobs have made are kept."""
    input:
        unpack(latents_inputs),
        parts="results/latents/{latents}/parts/all",
    output:
        "results/latents/{latents}/index.json",
    log:
        "results/logs/latents/{latents}.log",
    wildcard_constraints:
        latents=one_of(LATENTS),
    conda:
        "../../envs/environment.yaml"
    threads: CORES
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        spec=lambda wildcards: spec_text(CONFIG.latents_spec(LATENTS[wildcards.latents])),
    message:
        "Latents {wildcards.latents}: encode; log: {log}"
    shell:
        "{params.command} latents --images $(dirname {input.images}) --autoencoder $(dirname {input.twin})"
        " --out results/latents/{wildcards.latents} --spec {params.spec:q} > {log} 2>&1"


rule latents_part:
    """Encode one job's share of the images."""
    input:
        unpack(latents_inputs),
    output:
        temp(touch("results/latents/{latents}/parts/{scatteritem}")),
    log:
        "results/logs/latents/{latents}.{scatteritem}.log",
    wildcard_constraints:
        latents=one_of(LATENTS),
    conda:
        "../../envs/environment.yaml"
    threads: CORES
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        part=lambda wildcards, threads: wildcards.scatteritem.replace("-of-", "/"),
        spec=lambda wildcards: spec_text(CONFIG.latents_spec(LATENTS[wildcards.latents])),
    message:
        "Latents {wildcards.latents}, part {params.part}: encode; log: {log}"
    shell:
        "{params.command} latents --images $(dirname {input.images}) --autoencoder $(dirname {input.twin})"
        " --out results/latents/{wildcards.latents} --part {params.part} --spec {params.spec:q} > {log} 2>&1"
