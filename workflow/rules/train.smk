"""Stage train: a chain of milestones; each resumes from the newest state that the run folder holds."""


rule train:
    """Train to one milestone. Losses, log and snapshots live in the run folder, which a failure leaves alone."""
    input:
        unpack(train_inputs),
    output:
        checkpoint="<train>/{step}.safetensors",
        record="<train>/{step}.json",
    log:
        "<logs>/train/{train}-seed{seed}-{step}.log",
    wildcard_constraints:
        train=one_of(LAYOUT.path("train", name).rpartition("/")[2] for name in LAYOUT.trained),
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=side_by_side(len(GPUS)) if GPUS else 0,
    params:
        run=command,
        name=named("train"),
        step=lambda wildcards, output: int(wildcards.step),
        progress=lambda wildcards, output: f"{LAYOUT.run(*trained_row(wildcards)[:2])}/train.log",
        flags=train_flags,
        spec=lambda wildcards, output: spec_text(
            SPECS.training(owner("train", wildcards), int(wildcards.seed))
        ),
    message:
        "Train {params.name} (seed {wildcards.seed}) to step {params.step};" " progress: {params.progress}"
    shell:
        "{params.run} train --latents $(dirname {input.latents}) --out $(dirname {output.record})"
        " --milestones {params.step} {params.flags} --spec {params.spec:q} > {log} 2>&1"
        # Its record is written last: a milestone that has one is whole, however its processes ended afterwards.
        " || test -f {output.record}"


rule import_checkpoint:
    """Take a trained checkpoint as it is, for rows that are not trained here."""
    output:
        checkpoint="<train>/{step}.safetensors",
        record="<train>/{step}.json",
    log:
        "<logs>/train/{train}-seed{seed}-{step}.log",
    wildcard_constraints:
        train=one_of(LAYOUT.path("train", name).rpartition("/")[2] for name in LAYOUT.imported),
    conda:
        "../../envs/environment.yaml"
    params:
        run=command,
        file=lambda wildcards, output: EXPERIMENTS[owner("train", wildcards)].checkpoint,
        held=lambda wildcards, output: held(EXPERIMENTS[owner("train", wildcards)].checkpoint),
        size=lambda wildcards, output: EXPERIMENTS[owner("train", wildcards)].images.size,
        objective=lambda wildcards, output: objective_flag(owner("train", wildcards)),
        spec=lambda wildcards, output: spec_text(
            {"model": EXPERIMENTS[owner("train", wildcards)].model.spec()}
        ),
    message:
        "Checkpoint {params.file}: take over as {output.checkpoint}; log: {log}"
    shell:
        "{params.run} import-checkpoint {params.file:q} {output.checkpoint} {params.held} --image-size {params.size}"
        " {params.objective}"
        " --spec {params.spec:q} > {log} 2>&1"
