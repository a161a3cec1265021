"""Stage sample: images from the checkpoint of a row at a milestone."""


rule sample:
    """Sample all images and write the index and samples.npz; shards that other jobs have made are kept."""
    input:
        unpack(sample_inputs),
        parts="results/sample/{suite}/{experiment}/seed{seed}/{step}/parts/all",
    output:
        index="results/sample/{suite}/{experiment}/seed{seed}/{step}/index.json",
        samples="results/sample/{suite}/{experiment}/seed{seed}/{step}/samples.npz",
    log:
        "results/logs/sample/{suite}/{experiment}-seed{seed}-{step}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        flags=lambda wildcards, threads: CONFIG.suites[wildcards.suite].sampling.free_flags(),
        number=lambda wildcards, threads: CONFIG.suites[wildcards.suite].sampling.num_samples,
        spec=lambda wildcards: spec_text(CONFIG.suites[wildcards.suite].sampling.spec()),
    message:
        "Sample {params.number} images of {wildcards.experiment} (seed {wildcards.seed}) at step {wildcards.step}; log: {log}"
    shell:
        "{params.command} sample --checkpoint {input.checkpoint} --autoencoder $(dirname {input.twin})"
        " --out results/sample/{wildcards.suite}/{wildcards.experiment}/seed{wildcards.seed}/{wildcards.step}"
        " {params.flags} --spec {params.spec:q} > {log} 2>&1"


rule sample_part:
    """Sample one job's share of the images."""
    input:
        unpack(sample_inputs),
    output:
        temp(touch("results/sample/{suite}/{experiment}/seed{seed}/{step}/parts/{scatteritem}")),
    log:
        "results/logs/sample/{suite}/{experiment}-seed{seed}-{step}.{scatteritem}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        flags=lambda wildcards, threads: CONFIG.suites[wildcards.suite].sampling.free_flags(),
        part=lambda wildcards, threads: wildcards.scatteritem.replace("-of-", "/"),
        number=lambda wildcards, threads: CONFIG.suites[wildcards.suite].sampling.num_samples,
        spec=lambda wildcards: spec_text(CONFIG.suites[wildcards.suite].sampling.spec()),
    message:
        "Sample {params.number} images of {wildcards.experiment} (seed {wildcards.seed}) at step {wildcards.step}, part {params.part}; log: {log}"
    shell:
        "{params.command} sample --checkpoint {input.checkpoint} --autoencoder $(dirname {input.twin})"
        " --out results/sample/{wildcards.suite}/{wildcards.experiment}/seed{wildcards.seed}/{wildcards.step}"
        " {params.flags} --part {params.part} --spec {params.spec:q} > {log} 2>&1"
