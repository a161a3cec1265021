"""A configuration on pictures and files of the user's own, and results of it that are there, though empty: plans need no more."""

import shutil
from pathlib import Path

from ditgta import config
from ditgta.config.names import NOUNS
from ditgta.layout import Layout
from tests.pictures import pictures

OWN = {
    "suite": "mini",
    "experiments": {
        "mini": {
            "images": {"source": "pics", "size": 16},
            "autoencoder": {"widths": [8, 8], "steps": 2},
            "model": {"name": "DiT-Ti/2", "depth": 1, "width": 32, "heads": 2},
            "training": {"batch_size": 4},
        },
        "m-gta": {"like": "mini", "model": {"posenc": "gta"}},
        "m-rope": {"like": "mini", "model": {"posenc": "rope"}},
        "m-given": {"like": "mini", "checkpoint": "given.pt"},
        "m-right": {"like": "mini", "images": {"source": "right"}},
        "m-vae": {"like": "mini", "autoencoder": {"pretrained": "./vae"}},
    },
    "suites": {
        "mini": {"experiments": ["m-gta", "m-rope", "m-given"], "milestones": [2, 4]},
        "other-images": {"experiments": ["m-right"], "milestones": [2]},
        "other-scorer": {
            "experiments": ["m-gta"],
            "milestones": [4],
            "scorer": {"weights": "w.pth", "reference": "ref.npz"},
        },
        "other-autoencoder": {"experiments": ["m-vae"], "milestones": [2]},
    },
}
SUITES = tuple(OWN["suites"])
# What stands beside a record that says that something is done.
BESIDE = {
    "autoencoder.json": ("diffusion_pytorch_model.safetensors", "config.json"),
    "scorer.json": ("scorer.safetensors",),
    "table.html": (
        *("table.csv", "classes.csv", "sizes.csv", "sweep.csv", "table.md"),
        *(
            "fid.png",
            "inception_score.png",
            "losses.png",
            "samples.png",
            "milestones.png",
            "nearest.png",
            "sizes.png",
            "sweep.png",
        ),
    ),
}


def make_sources(folder: Path) -> None:
    """Writes the pictures and files that the configuration names."""
    pictures(folder / "pics")
    pictures(folder / "right", seed=1)
    for name in (
        "given.pt",
        "w.pth",
        "ref.npz",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"content of {name}")


def finish(*suites: str, change: dict | None = None) -> Layout:
    """Makes every result of some suites below the current folder, and keeps what the sources hold, as a run does."""
    raw: dict = {}
    for part in (config.read(), OWN, change or {}):
        config.merge(raw, part)
    layout = Layout(config.load(raw))
    for suite in suites:
        for file in (Path(name) for noun in NOUNS for name in layout.files(noun, suite)):
            names = [file.name, *BESIDE.get(file.name, ())]
            if file.name == "index.json":
                names += ["files.tsv"] if file.parts[1] == "images" else ["samples.npz"]
            if file.parts[1] in ("train", "score"):
                names.append(file.with_suffix({"train": ".safetensors", "score": ".npz"}[file.parts[1]]).name)
            file.parent.mkdir(parents=True, exist_ok=True)
            for name in names:
                (file.parent / name).touch()
    layout.sources.save()
    return layout


def copy_without_times(folder: Path, target: Path) -> None:
    """Copies files as `cp -r` and `scp -r` do: each is as new as its copy."""
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
