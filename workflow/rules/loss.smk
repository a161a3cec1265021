"""Stage loss: the denoising loss of a row's checkpoint on images that training has not seen."""


rule measure_loss:
    """Measure the loss of held-out images, with their label and without, at all noise levels."""
    input:
        unpack(loss_inputs),
    output:
        losses="<loss>.json",
        arrays="<loss>.npz",
    log:
        "<logs>/loss/{loss}-seed{seed}-{step}.log",
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=min(1, len(GPUS)),
    params:
        run=command,
        name=named("loss"),
        decoder=lambda wildcards, output: LAYOUT.decoder(row_of("loss", wildcards)[1].experiment),
        images=lambda wildcards, output: LAYOUT.held_out(row_of("loss", wildcards)[1].experiment),
        flags=lambda wildcards, output: loss_options(wildcards).free_flags(),
        spec=lambda wildcards, output: spec_text(loss_options(wildcards).spec()),
    message:
        "Held-out loss of {params.name} (seed {wildcards.seed}) at step {wildcards.step}; log: {log}"
    shell:
        "{params.run} loss --checkpoint {input.checkpoint[0]} --autoencoder {params.decoder} --images {params.images}"
        " --out {output.losses} {params.flags} --spec {params.spec:q} > {log} 2>&1"
