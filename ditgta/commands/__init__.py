"""The commands: what each is called, which options it has, and the call that it is. A stage is imported only to run it."""

from ditgta import __version__
from ditgta.commands import checkpoints, stages, suites
from ditgta.flags import Parser


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="ditgta", description="Which positional encoding makes the better diffusion transformer?"
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="STAGE", required=True, dest="stage", parser_class=Parser)
    for add in (*stages.COMMANDS, *suites.COMMANDS, *checkpoints.COMMANDS):
        add(commands)
    return parser
