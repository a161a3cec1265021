"""From a folder of images to a table that says which positional encoding is better; see config.yaml."""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/launch.smk"


localrules:
    all,
    paper_table,
    plan,
    table,


rule all:
    """The table of the suite that the configuration names."""
    default_target: True
    input:
        stage_files("table", CONFIG.suite),


rule paper_table:
    """The table of the paper's suite: ImageNet 256 x 256."""
    input:
        stage_files("table", "paper") if "paper" in CONFIG.suites else [],


include: "workflow/rules/images.smk"
include: "workflow/rules/autoencoder.smk"
include: "workflow/rules/parts.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/scorer.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/plan.smk"
