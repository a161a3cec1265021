"""Stage autoencoder: fetch a pretrained autoencoder, or train a small one on the images."""


rule fit_autoencoder:
    """Write an autoencoder in diffusers' format, with its reconstruction error on the images."""
    input:
        unpack(autoencoder_inputs),
    output:
        record="<autoencoder>/autoencoder.json",
        weights="<autoencoder>/diffusion_pytorch_model.safetensors",
        options="<autoencoder>/config.json",
    log:
        "<logs>/autoencoder/{autoencoder}.log",
    conda:
        "../../envs/environment.yaml"
    threads: autoencoder_threads("autoencoder")
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("autoencoder"),
        held=lambda wildcards, output: held(autoencoder(wildcards).pretrained, hub=True),
        spec=lambda wildcards, output: spec_text(autoencoder(wildcards).spec()),
    message:
        "Autoencoder {params.name}: fetch or train; log: {log}"
    shell:
        "{params.run} autoencoder --images $(dirname {input.images}) --out $(dirname {output.record})"
        " {params.held} --spec {params.spec:q} > {log} 2>&1"
