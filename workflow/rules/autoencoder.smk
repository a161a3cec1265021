"""Stage autoencoder: fetch a pretrained autoencoder, or train a small one on the images."""


rule autoencoder:
    """Write an autoencoder in diffusers' format, with its reconstruction error on the images."""
    input:
        lambda wildcards: f"results/images/{images_of(AUTOENCODERS[wildcards.autoencoder])}/index.json",
    output:
        weights="results/autoencoder/{autoencoder}/diffusion_pytorch_model.safetensors",
        options="results/autoencoder/{autoencoder}/config.json",
        twin="results/autoencoder/{autoencoder}/autoencoder.json",
    log:
        "results/logs/autoencoder/{autoencoder}.log",
    wildcard_constraints:
        autoencoder=one_of(AUTOENCODERS),
    conda:
        "../../envs/environment.yaml"
    threads: autoencoder_threads
    resources:
        gpu=min(1, len(CARDS)),
    params:
        command=command,
        images=lambda wildcards: f"results/images/{images_of(AUTOENCODERS[wildcards.autoencoder])}",
        spec=lambda wildcards: spec_text(CONFIG.autoencoder_spec(AUTOENCODERS[wildcards.autoencoder])),
    message:
        "Autoencoder {wildcards.autoencoder}: fetch or train; log: {log}"
    shell:
        "{params.command} autoencoder --images {params.images}"
        " --out results/autoencoder/{wildcards.autoencoder} --spec {params.spec:q} > {log} 2>&1"
