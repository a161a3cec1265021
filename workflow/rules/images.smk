"""Stage images: list, or make, and check the images of one data set."""


rule images:
    """Write the index of the images; which files lie in a source folder is looked at only when this runs."""
    output:
        index="results/images/{images}/index.json",
        files="results/images/{images}/files.tsv",
    log:
        "results/logs/images/{images}.log",
    wildcard_constraints:
        images=one_of(IMAGES),
    conda:
        "../../envs/environment.yaml"
    threads: CORES
    params:
        command=command,
        spec=lambda wildcards: spec_text(CONFIG.images_spec(IMAGES[wildcards.images])),
    message:
        "Images {wildcards.images}: list and check; log: {log}"
    shell:
        "{params.command} images --out results/images/{wildcards.images} --spec {params.spec:q} > {log} 2>&1"
