"""Commands on a configuration and its suites: what they cost, how far they are, what of their results is left over."""

from pathlib import Path

from ditgta import config, flags
from ditgta.commands.shared import add_command, add_configuration, add_count, add_output, add_path, taken
from ditgta.runtime.errors import InputError


def add_plan(commands) -> None:
    text = "predict the cost of a suite: jobs, operations, storage, hours"
    parser = add_command(commands, "plan", run_plan, text, spec=False)
    add_configuration(parser)
    text = "device: here (this machine), v100, a100, h100, h200, rtx4090 or laptop"
    parser.add_argument("--device", default="here", metavar="NAME", help=text)
    for name, default, text in (
        ("--devices", None, "number of devices (default: one; all of this machine)"),
        ("--nodes", 1, "number of nodes for these devices"),
        ("--images", None, "number of images, if it is unknown"),
        ("--classes", 1000, "number of classes, with --images"),
    ):
        add_count(parser, name, text, default)
    text = (
        "GB/s of the slowest link between devices (default: NVLink or PCIe of the device; 25 between nodes)"
    )
    parser.add_argument("--bandwidth", type=flags.number, default=None, metavar="FLOAT", help=text)
    text = "share of the peak rate that is reached (default: known values for the device, often a range)"
    parser.add_argument("--efficiency", type=flags.number, default=None, metavar="FLOAT", help=text)
    add_output(parser, flags.new_file, "also write the plan as JSON", default=None)


def configured(arguments) -> tuple[config.Config, str]:
    """Return the configuration and the suite that a command works on."""
    loaded = config.load(config.read(arguments.configfile))
    return loaded, arguments.suite or loaded.suite


def run_plan(arguments) -> None:
    from ditgta.stages import plan

    images = (arguments.images, arguments.classes) if arguments.images else None
    names = ("device", "devices", "nodes", "bandwidth", "efficiency", "out")
    plan.run(*configured(arguments), **taken(arguments, *names), images=images)


def add_check(commands) -> None:
    text = "show what a suite needs before it runs: what is there, what is missing or wrong, and the fix"
    parser = add_command(commands, "check", run_check, text, spec=False)
    add_suite_and_place(parser)


def add_suite_and_place(parser) -> None:
    """Adds the suite, as a word, and where its jobs and results are."""
    text = "suite (none: the configuration's); before --configfile"
    parser.add_argument("suite", nargs="?", default=None, metavar="SUITE", help=text)
    add_configuration(parser, suite=False)
    add_path(parser, "--results", "DIR", "results folder; it need not exist", default=Path("results"))
    text = "Snakemake profile that will submit the jobs, e.g. slurm-paper (none: they run on this machine)"
    parser.add_argument("--profile", default=None, metavar="NAME", help=text)


def run_check(arguments) -> None:
    from ditgta.stages import check

    check.run(*configured(arguments), arguments.results, arguments.profile)


def add_bug_report(commands) -> None:
    text = "write versions, configuration, logs, the failing command and this machine into one file without names of people or places"
    parser = add_command(commands, "bug-report", run_bug_report, text, spec=False)
    add_suite_and_place(parser)
    text = "the command that failed (none: taken from Snakemake's log)"
    parser.add_argument("--failed", default=None, metavar="COMMAND", help=text)
    add_output(parser, flags.new_file, "file to write", default=Path("bug-report.md"))


def run_bug_report(arguments) -> None:
    from ditgta.stages import bug_report, check

    findings, account = [], None
    try:
        loaded, suite = configured(arguments)
        findings = check.findings(loaded, suite, arguments.results, arguments.profile)
        account = check.account_of(arguments.profile)
    except InputError as error:  # a configuration that is refused is a thing to report, too
        loaded, suite = error, arguments.suite
    bug_report.run(loaded, suite, arguments.results, findings, arguments.failed, arguments.out, account)


def add_new_experiment(commands) -> None:
    text = "inspect a folder of images and propose experiments and a suite for it"
    parser = add_command(commands, "new-experiment", run_new_experiment, text, spec=False)
    add_path(parser, "--images", "DIR", "folder that holds one folder of images per class")
    parser.add_argument("--name", default=None, metavar="NAME", help="name of the suite (none: the folder's)")
    text = "hours that the suite may take on this machine"
    parser.add_argument("--hours", type=flags.number, default=1.0, metavar="FLOAT", help=text)
    add_configuration(parser, suite=False)
    text = "write the proposal to the last --configfile (it need not exist yet) or to NAME.yaml"
    parser.add_argument("--write", action="store_true", help=text)


def run_new_experiment(arguments) -> None:
    from ditgta.stages import new_experiment

    given = taken(arguments, "images", "name", "hours", "write")
    new_experiment.run(**given, files=arguments.configfile)


def add_status(commands) -> None:
    text = "show the progress of each row of a suite"
    parser = add_command(commands, "status", run_status, text, spec=False)
    add_configuration(parser)
    add_path(parser, "--results", "DIR", "results folder", default=Path("results"))
    parser.add_argument("--json", action="store_true", help="print JSON")
    text = "update the display, with bars, until the table is there; without a terminal, print once"
    parser.add_argument("--watch", action="store_true", help=text)
    text = "seconds to wait for heartbeats of jobs on other machines (one every 5 seconds)"
    parser.add_argument("--wait", type=flags.number, default=12.0, metavar="SECONDS", help=text)


def run_status(arguments) -> None:
    from ditgta.stages import status

    if arguments.watch and not arguments.json:
        status.watch(*configured(arguments), arguments.results)
    else:
        status.run(*configured(arguments), arguments.results, arguments.wait, arguments.json)


def add_clean(commands) -> None:
    text = "list results that no suite of the configuration uses; with --delete, delete them"
    parser = add_command(commands, "clean", run_clean, text, spec=False)
    add_configuration(parser, suite=False)
    add_path(parser, "--results", "DIR", "results folder", default=Path("results"))
    parser.add_argument("--delete", action="store_true", help="delete them")


def run_clean(arguments) -> None:
    from ditgta.stages import clean

    clean.run(config.load(config.read(arguments.configfile)), arguments.results, arguments.delete)


def add_schema(commands) -> None:
    text = "write the JSON schema of config.yaml, with which editors complete and check it"
    parser = add_command(commands, "schema", run_schema, text, spec=False)
    add_output(parser, flags.new_file, "file to write (none: print it)", default=None)


def run_schema(arguments) -> None:
    from ditgta.runtime.files import write_text

    if arguments.out is None:
        print(config.json_schema(), end="")
    else:
        write_text(arguments.out, config.json_schema())


COMMANDS = (add_plan, add_check, add_bug_report, add_new_experiment, add_status, add_clean, add_schema)
