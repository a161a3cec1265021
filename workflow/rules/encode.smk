"""Stage latents: encode images and mirror images to shards of posterior moments."""


rule encode:
    """Encode all images and write the index; shards that other jobs have made are kept."""
    input:
        unpack(encode_inputs),
        parts=lambda wildcards: parts_of("encode", f"{latents_folder(wildcards)}/index.json"),
    output:
        "<latents>/index.json",
    log:
        "<logs>/latents/{latents}.log",
    conda:
        "../../envs/environment.yaml"
    threads: autoencoder_threads("latents")
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("latents"),
        out=latents_folder,
        part="",
        imported=imported,
        spec=lambda wildcards, output: spec_text(SPECS.latents(owner("latents", wildcards))),
    message:
        "Latents {params.name}: encode{params.part}; log: {log}"
    shell:
        "{params.run} latents --images $(dirname {input.images}) --autoencoder $(dirname {input.autoencoder[0]})"
        " --out {params.out}{params.part} {params.imported} --spec {params.spec:q} > {log} 2>&1"


use rule encode as encode_part with:
    input:
        unpack(encode_inputs),
    output:
        temp(touch("<latents>/parts/{scatteritem}")),
    log:
        "<logs>/latents/{latents}.{scatteritem}.log",
    params:
        part=part_of,
