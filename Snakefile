"""From a folder of images to a table that says which positional encoding is better; see config.yaml."""

from snakemake.utils import min_version

from ditgta.config.files import default_file

min_version("9.27")


configfile: default_file(workflow.current_basedir)


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/launch.smk"


rule all:
    """The table of the suite that the configuration names."""
    default_target: True
    input:
        LAYOUT.files("table", CONFIG.suite),
    localrule: True


rule paper_table:
    """The table of the paper's suite: ImageNet 256 x 256."""
    input:
        LAYOUT.files("table", "paper") if "paper" in SUITES else [],
    localrule: True


include: "workflow/rules/images.smk"
include: "workflow/rules/autoencoder.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/loss.smk"
include: "workflow/rules/scorer.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/tabulate.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/terminal.smk"
