"""Stage table: the scores of a suite side by side, with differences, error bars and pictures."""


report: "../report/workflow.rst"


CURVES = ["differences", "fid", "inception_score", "losses", "sweep"]
GRIDS = ["samples", "milestones", "nearest", "sizes"]


rule tabulate:
    """Write the table as HTML that stands alone, Markdown, LaTeX and CSV, its figures as PNG and PDF."""
    input:
        unpack(table_inputs),
    output:
        html=report(
            "<table>/table.html",
            caption="../report/table.rst",
            category="Table",
            labels={"suite": "{table}"},
        ),
        csv=report(
            "<table>/table.csv",
            caption="../report/table.rst",
            category="Table",
            labels={"suite": "{table}", "form": "CSV"},
        ),
        classes="<table>/classes.csv",
        differences="<table>/differences.csv",
        losses="<table>/losses.csv",
        sizes="<table>/sizes.csv",
        sweep="<table>/sweep.csv",
        latex="<table>/table.tex",
        markdown="<table>/table.md",
        pictures=expand("<table>/{name}.png", name=CURVES + GRIDS),
        figures=expand("<table>/{name}.pdf", name=CURVES),
    log:
        "<logs>/table/{table}.log",
    localrule: True
    conda:
        "../../envs/environment.yaml"
    params:
        run=command,
        name=named("table"),
        flags=table_flags,
        spec=table_spec,
    message:
        "Table of suite {params.name}: {output.html}; log: {log}"
    shell:
        "{params.run} table --scores {input.scores} {params.flags} --training {input.training} --shared {input.shared}"
        " --baseline {input.baseline} --images $(dirname {input.images}) --out $(dirname {output.html})"
        " --spec {params.spec:q} > {log} 2>&1"
