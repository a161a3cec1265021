"""Stage images: list, or make, and check the images of one data set."""


rule list_images:
    """Write the index of the images, after decoding each of them."""
    output:
        index="<images>/index.json",
        files="<images>/files.tsv",
    log:
        "<logs>/images/{images}.log",
    conda:
        "../../envs/environment.yaml"
    threads: CORES
    params:
        run=command,
        name=named("images"),
        held=lambda wildcards, output: held(EXPERIMENTS[listed(wildcards)[0]].images.source),
        flags=lambda wildcards, output: EXPERIMENTS[listed(wildcards)[0]].images.free_flags(),
        spec=lambda wildcards, output: spec_text(SPECS.listed(*listed(wildcards))),
    message:
        "Images {params.name}: list and check; log: {log}"
    shell:
        "{params.run} images --least 4 --out $(dirname {output.index}) {params.held} {params.flags}"
        " --spec {params.spec:q} > {log} 2>&1"
