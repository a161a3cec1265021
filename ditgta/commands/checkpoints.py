"""Commands that exchange with others: checkpoints in and out, images and their statistics out, and to the Hugging Face hub."""

from ditgta import config, flags
from ditgta.commands.shared import (
    add_batch_size,
    add_command,
    add_contents,
    add_count,
    add_output,
    add_path,
    stage_function,
    taken,
)
from ditgta.data.contents import check_contents

SETS = "npz, folder of sample shards, index of images, folder or archive of images"


def add_import(commands) -> None:
    text = "import a published checkpoint"
    parser = add_command(commands, "import-checkpoint", run_import, text, config.Model)
    text = "the references' .pt, a .safetensors of the same keys, or a diffusers folder"
    add_path(parser, "source", "FILE", text)
    add_output(parser, flags.new_file, "checkpoint to write (.safetensors)", "out", metavar="OUT")
    add_count(parser, "--image-size", "side of the images, if the file does not record it")
    text = (
        "training objective, if the file does not record it; sit: flow with SiT's time and sign (none: ddpm)"
    )
    parser.add_argument("--objective", choices=[*config.OBJECTIVES, "sit"], default=None, help=text)
    add_contents(parser)


def run_import(arguments) -> None:
    from ditgta.stages import published

    model = flags.read_section(arguments, config.Model, arguments.spec.get("model"))
    given = {}
    for key, value in model.spec().items():
        if f"Model.{key}" in arguments or key in arguments.spec.get("model", {}):
            given[key] = value
    if arguments.contents:
        check_contents(arguments.source, arguments.contents)
    names = ("source", "out", "image_size", "objective")
    published.run_import(**taken(arguments, *names), given=given)


def add_average(parser) -> None:
    """Adds the decay of the average that is taken from a checkpoint."""
    text = "decay of the averaged weights (EMA) to use, if training kept several (none: the first)"
    parser.add_argument("--ema-decay", type=flags.decay, default=None, metavar="FLOAT", help=text)


def add_export(commands) -> None:
    text = "write a checkpoint in the references' key layout"
    parser = add_command(
        commands, "export-checkpoint", stage_function("published", "run_export"), text, spec=False
    )
    add_path(parser, "checkpoint", "CHECKPOINT", "checkpoint of this project")
    text = ".pt (model, ema, args) or .safetensors (EMA weights alone)"
    add_output(parser, flags.new_file, text, "out", metavar="OUT")
    add_average(parser)


def add_save_pretrained(commands) -> None:
    text = "write a checkpoint as a folder for from_pretrained and the Hugging Face Hub"
    parser = add_command(commands, "save-pretrained", run_save_pretrained, text, spec=False)
    add_path(parser, "checkpoint", "CHECKPOINT", "checkpoint; its EMA weights are used")
    add_output(parser, flags.new_folder, "folder to write", "out", metavar="FOLDER")
    add_path(parser, "--autoencoder", "DIR", "folder of the autoencoder used in training")
    text = "score file of the checkpoint, for the model card"
    add_path(parser, "--scores", "FILE", text, default=None)
    text = "record of the checkpoint's held-out losses, for the model card beside the scores"
    add_path(parser, "--loss", "FILE", text, default=None)
    text = "folder of the table with this checkpoint, for the model card"
    add_path(parser, "--table", "DIR", text, default=None)
    text = "licence of the weights, for the model card: an identifier of the Hugging Face Hub, such as mit or cc-by-nc-4.0"
    parser.add_argument("--license", metavar="ID", help=text)
    add_average(parser)


def run_save_pretrained(arguments) -> None:
    from ditgta.stages import pretrained

    names = ("checkpoint", "autoencoder", "scores", "table", "ema_decay", "loss", "license")
    pretrained.run_save(**taken(arguments, *names), folder=arguments.out)


def add_export_images(commands) -> None:
    text = "write samples, or any images, as PNG files: a folder for each label"
    parser = add_command(commands, "export-images", stage_function("export_images"), text, spec=False)
    add_path(parser, "images", "IMAGES", SETS)
    add_output(parser, flags.new_folder, "folder, new or empty", "out", metavar="OUT")
    add_count(parser, "--count", "number of images to write, the first ones; default: all")


def add_export_statistics(commands) -> None:
    text = "write statistics of images in the format of ADM's evaluation suite, as a reference for this scorer and others"
    parser = add_command(commands, "export-statistics", stage_function("statistics"), text, spec=False)
    add_path(parser, "images", "IMAGES", SETS)
    add_output(parser, flags.new_file, "statistics (.npz)", "out", metavar="OUT")
    text = "Inception weights; none: search for pt_inception-2015-12-05-6726825d.pth (see docs/scoring.md)"
    add_path(parser, "--weights", "FILE", text, default=None)
    text = "number of images to store as well, evenly over the classes: KID and the neighbour metrics need them (ADM: 10000)"
    add_count(parser, "--keep", text, 0)
    add_batch_size(parser)


def add_push(commands) -> None:
    text = "upload a folder of save-pretrained to the Hugging Face Hub"
    parser = add_command(commands, "push", stage_function("pretrained", "run_push"), text, spec=False)
    add_path(parser, "folder", "FOLDER", "folder that save-pretrained wrote")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="make the repository private")


COMMANDS = (add_import, add_export, add_save_pretrained, add_export_images, add_export_statistics, add_push)
