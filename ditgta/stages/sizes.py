"""Sizes: one noise and label under several checkpoints, at several sizes, as one picture."""

import itertools
from pathlib import Path

from ditgta.config import Sampling
from ditgta.report.checks import read_record
from ditgta.report.drawing import drawable, write_picture
from ditgta.report.evidence import run_of
from ditgta.report.sizes import draw
from ditgta.runtime.addresses import size_name
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import record_path
from ditgta.runtime.processes import processes
from ditgta.runtime.progress import Progress
from ditgta.sampling import Sampler, load_both


def run(
    checkpoints: list[Path],
    autoencoder: Path,
    out: Path,
    sizes: list[tuple[int, int]],
    methods: list[str],
    label: int,
    sampling: Sampling,
) -> None:
    """Write a picture whose rows are checkpoints and whose columns are sizes, that of training first.

    Raises InputError for unusable files, an unknown label, or a size that does not suit a network.

    Args:
        sizes: (height, width) in pixels.
        methods: ways in which places are told at sizes that are not that of training, a column each; a place stays empty where an
            encoding cannot be told so.
        label: class of the image, whose noise is that of the sample stage's first.
        sampling: its size and positions do not matter.
    """
    others = list(itertools.product(sizes, methods))
    with processes(sampling.tf32) as group, Progress("sizes", len(checkpoints)) as progress:
        rows = []
        for checkpoint in checkpoints:
            network, vae, header = load_both(checkpoint, autoencoder, group.device, sampling.ema_decay)
            known = network.num_classes
            if not 0 <= label < known:
                raise InputError(f"class {label} is not one of 0..{known - 1} that {checkpoint} knows")
            options = sampling.model_copy(update={"batch_size": 1, "size": None})
            images = [Sampler(network, vae, options)([0], [label])[0]]
            for size, method in others:
                image = None
                if method in network.encoding.resizings:
                    moved = options.model_copy(update={"size": size, "positions": method})
                    image = Sampler(network, vae, moved)([0], [label])[0]
                images.append(image)
            record = record_path(checkpoint)
            content = read_record(record) if record.is_file() else header.said()
            rows.append((drawable(run_of(checkpoint, content)[0]), images))
            progress.advance(1)
        if not group.is_first:
            return
        trained = rows[0][1][0].shape[:2]
        headings = [f"{size_name(size)}\n{method}" for size, method in [(trained, "training"), *others]]
        names, pictures = zip(*rows)
        write_picture(out, draw(headings, names, pictures))
