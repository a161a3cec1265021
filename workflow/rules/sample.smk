"""Stage sample: images from the checkpoint of a row at a milestone."""


rule sample:
    """Sample all images and write the index and samples.npz; shards that other jobs have made are kept."""
    input:
        unpack(sample_inputs),
        parts=lambda wildcards: parts_of("sample", f"{samples_folder(wildcards)}/index.json"),
    output:
        index="<sample>/index.json",
        samples="<sample>/samples.npz",
    log:
        "<logs>/sample/{sample}-seed{seed}-{step}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("sample"),
        out=samples_folder,
        part="",
        decoder=lambda wildcards, output: LAYOUT.decoder(row_of("sample", wildcards)[1].experiment),
        flags=lambda wildcards, output: sampling(wildcards).free_flags(),
        number=lambda wildcards, output: sampling(wildcards).num_samples,
        spec=lambda wildcards, output: spec_text(sampling(wildcards).spec()),
    message:
        "Sample {params.number} images of {params.name} (seed {wildcards.seed}) at step {wildcards.step}{params.part}; log: {log}"
    shell:
        "{params.run} sample --checkpoint {input.checkpoint[0]} --autoencoder {params.decoder}"
        " --out {params.out}{params.part} {params.flags} --spec {params.spec:q} > {log} 2>&1"


use rule sample as sample_part with:
    input:
        unpack(sample_inputs),
    output:
        temp(touch("<sample>/parts/{scatteritem}")),
    log:
        "<logs>/sample/{sample}-seed{seed}-{step}.{scatteritem}.log",
    params:
        part=part_of,
