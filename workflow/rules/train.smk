"""Stage train: a chain of milestones; each goes on from the newest state of the same spec that the run folder holds."""


rule train:
    """Train to one milestone. Losses, log and snapshots live in the run folder, which a failure leaves alone."""
    input:
        unpack(train_inputs),
    output:
        checkpoint="results/train/{experiment}/seed{seed}/{step}.safetensors",
        twin="results/train/{experiment}/seed{seed}/{step}.json",
    log:
        "results/logs/train/{experiment}-seed{seed}-{step}.log",
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        "../../envs/environment.yaml"
    threads: side_by_side(CORES)
    resources:
        gpu=side_by_side(len(CARDS)) if CARDS else 0,
    params:
        command=command,
        step=lambda wildcards: int(wildcards.step),
        flags=lambda wildcards, threads: train_flags(wildcards.experiment),
        spec=lambda wildcards: spec_text(CONFIG.train_spec(wildcards.experiment, int(wildcards.seed))),
        run=lambda wildcards, threads: LAYOUT.run(wildcards.experiment, int(wildcards.seed)),
    message:
        "Train {wildcards.experiment} (seed {wildcards.seed}) to step {params.step};"
        " progress: {params.run}/train.log"
    shell:
        "{params.command} train --latents $(dirname {input.latents})"
        " --out results/train/{wildcards.experiment}/seed{wildcards.seed} --milestones {params.step}"
        " {params.flags} --spec {params.spec:q} > {log} 2>&1"
        # Its twin is written last: a milestone that has one is whole, however its processes ended afterwards.
        " || test -f {output.twin}"


rule import_checkpoint:
    """Take a trained checkpoint as it is, for rows that are not trained here."""
    input:
        lambda wildcards: CONFIG.experiments[wildcards.experiment].checkpoint,
    output:
        checkpoint="results/train/{experiment}/seed{seed}/{step}.safetensors",
        twin="results/train/{experiment}/seed{seed}/{step}.json",
    log:
        "results/logs/train/{experiment}-seed{seed}-{step}.log",
    wildcard_constraints:
        experiment=one_of(IMPORTED),
    conda:
        "../../envs/environment.yaml"
    params:
        command=command,
        size=lambda wildcards: f"--image-size {CONFIG.experiments[wildcards.experiment].images.size}",
        spec=lambda wildcards: spec_text({"model": CONFIG.experiments[wildcards.experiment].model.spec()}),
    message:
        "Checkpoint {input}: take over as {output.checkpoint}; log: {log}"
    shell:
        "{params.command} import-checkpoint {input:q} {output.checkpoint} {params.size} --spec {params.spec:q} > {log} 2>&1"
