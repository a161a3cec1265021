"""Files of others, where a command writes or reads: each ends in one line, and leaves every file as it was."""

import argparse

import torch

from tests.mistakes.calls import (
    CHECKPOINT,
    IMPORT,
    LATENTS,
    PLAN,
    SAMPLE,
    SAVE,
    SCORE,
    SCORER,
    TABLE,
    TRAIN,
    configuration,
)
from tests.mistakes.situations import both, change, drop, folder, pipe, published, put, said_by_published

PHOTO = "index/pictures/cats/0.png"
FIRST = "x_embedder.proj.weight"
FAST = "latents --images index --out new"


def pickled(path, **options):
    """A file of torch.save is pickled in another way than PyTorch's own."""
    return lambda: torch.save({"ema": {}, "args": argparse.Namespace(image_size=16)}, path, **options)


def first(tensor):
    """The first tensor of a published checkpoint is another."""
    return published(lambda content: content["ema"].update({FIRST: tensor}))


# What is wrong, how that comes about, the command, and what its line must say.
# fmt: off
STRANGERS = [
    # Outputs over what another command, or a person, wrote.
    ("export over another .pt", pickled("mine.pt"), f"export-checkpoint {CHECKPOINT} mine.pt", "mine.pt holds something other than these weights"),
    ("export over notes", put("mine.pt", "notes"), f"export-checkpoint {CHECKPOINT} mine.pt", "mine.pt holds something other than these weights"),
    ("export over an autoencoder", None, f"export-checkpoint {CHECKPOINT} vae/diffusion_pytorch_model.safetensors", "holds something other than these weights"),
    ("save over another model", change("pretrained/config.json", lambda c: c.update(step=9)), f"{SAVE.replace('new', 'pretrained')}", "pretrained holds a pretrained model with other options (step 9, not 2)"),
    ("save into a checkout", put("mine/README.md", "my project"), SAVE.replace("new", "mine"), "mine holds README.md, which save-pretrained did not write and would replace"),
    ("table over notes", put("mine/table.md", "notes"), TABLE.replace("new", "mine"), "mine holds table.md, which no table stage wrote"),
    ("table over a page", put("mine/table.html", "page"), TABLE.replace("new", "mine"), "mine holds table.html, which no table stage wrote"),
    ("grid over a photo", None, f"{SAMPLE} --grid {PHOTO}", "0.png holds something else, which sample would replace"),
    ("sizes over a photo", None, f"sizes {CHECKPOINT} --autoencoder vae --out {PHOTO} --sizes 24", "0.png holds something else, which sizes would replace"),
    ("encoding over a photo", None, f"show-encoding rope --out {PHOTO}", "0.png holds something else, which show-encoding would replace"),
    ("plan over an index", configuration("suite: digits"), f"{PLAN} --out index/index.json", "index/index.json holds something else, which plan would replace"),
    ("schema over a file", put("mine.json", '{"a": 1}'), "schema --out mine.json", "mine.json holds something else, which schema would replace"),
    ("report over notes", put("mine.md", "notes"), "bug-report --out mine.md", "mine.md holds something else, which bug-report would replace"),
    ("features into latents", None, f"{SCORE} --cache latents", "latents holds latents, and score would replace"),
    ("index into its images", None, "images --source index/pictures --size 16 --out index/pictures/new", "index/pictures/new lies in index/pictures, from which this command reads images"),
    ("index into a class", None, "images --source index/pictures --size 16 --out index/pictures/cats", "lies in index/pictures, from which"),
    ("picture of another suffix", None, "show-encoding rope --out new.jpg", "new.jpg must end in .png"),
    ("grid of another suffix", None, f"{SAMPLE} --grid new.jpg", "new.jpg must end in .png"),
    # Weights of others.
    *((f"protocol {n} of pickle", pickled("published.pt", pickle_protocol=n), IMPORT, f"published.pt uses pickle protocol {n}, which is not supported") for n in (4, 5)),
    ("protocol 4, as before PyTorch 1.6", pickled("published.pt", pickle_protocol=4, _use_new_zipfile_serialization=False), IMPORT, "uses pickle protocol 4"),
    ("scorer of protocol 4", pickled("w.pth", pickle_protocol=4), f"{SCORER} --weights w.pth", "w.pth uses pickle protocol 4"),
    ("image size as text", said_by_published(image_size="16"), IMPORT, "published.pt has invalid options: image_size: "),
    ("image size beyond bounds", said_by_published(image_size=10**12), IMPORT, "published.pt has invalid options: image_size: "),
    ("latent size 0", said_by_published(latent_size=0), IMPORT, "published.pt has invalid options: latent_size: "),
    ("encoding as a number", said_by_published(posenc=3), IMPORT, "published.pt has invalid options: posenc: "),
    ("a tensor without sides", first(torch.tensor(1.0)), IMPORT, f"({FIRST} has shape [])"),
    ("a tensor without values", first(torch.empty(32, 4, 2, 2, device="meta")), IMPORT, f"{FIRST} is not a plain tensor of real numbers"),
    ("a sparse tensor", first(torch.eye(4).to_sparse()), IMPORT, f"{FIRST} is not a plain tensor of real numbers"),
    # Pipes.
    ("fifo table", pipe("p.csv"), "images --source p.csv --size 16 --out new", "p.csv is not a regular file"),
    ("fifo Parquet", pipe("p.parquet"), "images --source p.parquet --size 16 --out new", "p.parquet is not a regular file"),
    ("fifo Parquet in a folder", both(folder("p"), pipe("p/a.parquet")), "images --source p --size 16 --out new", "a.parquet is not a regular file"),
    ("fifo of LightningDiT", both(folder("p"), pipe("p/latents_0.safetensors")), f"{FAST} --format lightningdit --from p", "latents_0.safetensors is a pipe or device"),
    ("fifo table.md", both(drop("table/table.md"), pipe("table/table.md")), f"{SAVE} --table table", "table/table.md is a pipe or device"),
    # What a table is told.
    ("rows as a number", None, f"""{TABLE} --spec '{{"rows": 3}}'""", "--spec: rows: input should be a valid list"),
    ("half a row", None, f"""{TABLE} --spec '{{"rows": [["a"]]}}'""", "--spec: rows.0: list should have at least 3 items"),
    ("experiments as a number", None, f"""{TABLE} --spec '{{"experiments": 3}}'""", "--spec: experiments: input should be a valid list"),
    ("milestones of a table in words", None, f"""{TABLE} --spec '{{"milestones": "x"}}'""", "--spec: milestones: input should be a valid list"),
    # What a workflow has planned for.
    ("autoencoder has gone", None, f"autoencoder --images index --out new --pretrained ./nowhere --contents {'0' * 64}", "./nowhere does not exist"),
    ("other contents", None, f"import-checkpoint published.pt new.safetensors --contents {'0' * 64}", "published.pt has changed since the workflow looked at it"),
    # Addresses.
    ("not https", None, f"{SCORER} --weights http://me:pw@host/w.pth?sig=1", "--weights: http://host/w.pth is not an https address"),
    ("no address", None, f"{SCORER} --weights 'https://[::1/w.pth'", "is not an address of the form https://HOST/PATH"),
    ("not https, configured", configuration("suites: {digits: {scorer: {weights: 'ftp://host/w.pth'}}}"), PLAN, "suites.digits.scorer.weights: ftp://host/w.pth is not an https address"),
    # Sizes without bounds.
    ("a configuration of megabytes", configuration(f"suites: {{digits: {{seeds: {list(range(100_000))}}}}}"), PLAN, "c.yaml has 688,917 letters, a configuration at most 262,144"),
    ("copies without bounds", None, """images --out new --spec '{"size": 16, "placement": {"copies": 1000000000}}'""", "--placement.copies: input should be less than or equal to 10000"),
    ("a milestone without bounds", configuration(f"suites: {{digits: {{milestones: [{10**30}]}}}}"), PLAN, "suites.digits.milestones.0: input should be less than"),
    # Line breaks in what is said.
    ("line break in an option", None, f"{LATENTS} '--fo\no'", "unrecognized arguments: --fo o"),
    ("line break in an encoding", None, f"{TRAIN} --posenc 'a\nb'", "--posenc: "),
]
# fmt: on
