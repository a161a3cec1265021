"""A step of guided sampling against its matmuls alone, and against diffusers' transformer, which rotates nothing.

    python -m benchmarks.guided_sampling [--model DiT-S/2] [--precisions bf16] [--rounds 5] [--batch-size 8]

A step is one pass for each image with its label and one without. The limit is that of benchmarks.training_step, forward only. The last
row is a whole sampling run: what is not the network or the decoder - noise, the sampler's update, uint8, writing - against all of it.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from benchmarks.rows import Row, by_turns
from benchmarks.steps import DEVICE
from benchmarks.training_step import AVX2_ONLY, PRECISIONS, Linears, compiler_rows, shape_of
from ditgta import DiT, guided, sampling
from ditgta.config import Sampling
from ditgta.data.autoencoder import save_autoencoder, small_autoencoder
from ditgta.kernels import for_inference
from ditgta.planning import cost
from ditgta.runtime.checkpoints import write_checkpoint
from ditgta.stages import sample

SHARE_OF_LIMIT = {"float32": ">= 0.85" if AVX2_ONLY else ">= 0.92", "bf16": ">= 0.7"}
AGAINST_PEER = {"float32": ">= 1", "bf16": ">= 1.1"}


def peer_of(network: DiT):
    """Return diffusers' transformer of the same size, with random weights."""
    from diffusers import DiTTransformer2DModel

    config = network.config
    return DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=config.latent_channels,
        out_channels=2 * config.latent_channels,
        num_layers=config.depth,
        sample_size=config.latent_size[0],
        patch_size=config.patch,
        num_embeds_ada_norm=config.num_classes,
    ).eval()


def measure(
    model: str, precision: str, batch_size: int, rounds: int, compiled: bool = False
) -> dict[str, float]:
    """Return the seconds of a guided step of gta, compiled too, of abs and of diffusers, and of the products alone."""
    dtype = torch.bfloat16 if precision == "bf16" else None
    networks = {}
    for name in ("gta", "abs", "compiled")[: 2 + compiled]:
        network = DiT.from_name(model, posenc="abs" if name == "abs" else "gta").to(DEVICE)
        networks[name], _ = for_inference(network, dtype, compile=name == "compiled")
    shape, peer = shape_of(networks["gta"]), peer_of(networks["gta"]).to(DEVICE)
    x = torch.randn(batch_size, 4, *networks["gta"].config.latent_size, device=DEVICE)
    t = torch.full((batch_size,), 500, device=DEVICE)
    y = torch.randint(0, 1000, (batch_size,), device=DEVICE)
    both = torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, 1000)])

    def theirs():
        conditional, unconditional = peer(both[0], timestep=both[1], class_labels=both[2]).sample.chunk(2)
        return unconditional + 1.5 * (conditional - unconditional)

    linears = Linears(shape, 2 * batch_size, precision, backward=False)
    calls = {name: lambda n=n: guided(n, x, t[:1], y, 1.5) for name, n in networks.items()}
    with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
        turns = {"limit": linears, **calls, "diffusers": theirs, "again": linears}
        first = by_turns(turns, 1)
        middle = {name: median(times) for name, times in by_turns(turns, rounds).items()}
    rate = 2 * linears.flops / (middle["limit"] + middle["again"])
    limit = 2 * batch_size * cost.forward_flops(shape) / rate
    return middle | {"limit": limit, "rate": rate, "compiling": first.get("compiled", [0.0])[0]}


def whole_run(folder: Path, model: str, images: int) -> tuple[float, float]:
    """Return the seconds of a sampling run of the stage, and of the network and the decoder in it."""
    network = DiT.from_name(model, image_size=256, num_classes=10, depth=2)
    vae = small_autoencoder([16, 16, 16, 16], 4, 256)
    save_autoencoder(vae, folder / "vae", {"pretrained": None})
    weights = network.state_dict()
    write_checkpoint(
        folder / "0000001.safetensors",
        {"spec": {}, "step": 1, "model": asdict(network.config)},
        {"ema": weights},
    )
    inside: list[float] = []

    def timed(function):
        def call(*arguments, **options):
            begin = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                inside.append(time.perf_counter() - begin)

        return call

    plain, decode = sampling.guided, type(vae).decode
    sampling.guided, type(vae).decode = timed(plain), timed(decode)
    try:
        begin = time.perf_counter()
        sample.run(
            folder / "0000001.safetensors",
            folder / "vae",
            folder / "samples",
            Sampling(num_samples=images, steps=25, batch_size=8),
        )
        return time.perf_counter() - begin, sum(inside)
    finally:
        sampling.guided, type(vae).decode = plain, decode


def rows(
    quick: bool,
    model: str = "DiT-S/2",
    precisions=PRECISIONS,
    batch_size: int = 8,
    rounds: int | None = None,
) -> Iterable[Row]:
    """Yield the share of the limit and the comparison with diffusers for each precision, and a whole run's rest."""
    for precision in precisions:
        timings = measure(model, precision, batch_size, rounds or (3 if quick else 7), not quick)
        what = f"guided step {model}, 256 px, {batch_size} images, {precision}"
        ours = f"{timings['gta']:.2f} s"
        yield Row(
            f"{what}: gta, share of the limit",
            ours,
            f"{timings['limit']:.2f} s (products alone at {timings['rate'] / 1e9:.0f} GFLOP/s)",
            timings["limit"] / timings["gta"],
            SHARE_OF_LIMIT[precision],
        )
        yield Row(
            f"{what}: faster than diffusers",
            ours,
            f"{timings['diffusers']:.2f} s (DiTTransformer2DModel)",
            timings["diffusers"] / timings["gta"],
            AGAINST_PEER[precision],
        )
        yield Row(
            f"{what}: gta against abs", ours, f"{timings['abs']:.2f} s (abs)", timings["gta"] / timings["abs"]
        )
        yield from compiler_rows(what, timings)
    with tempfile.TemporaryDirectory() as name:
        total, inside = whole_run(Path(name), model, 8 if quick else 24)
    yield Row(
        f"a sampling run of {model} with two blocks, small decoder: all but network and decoder",
        f"{total - inside:.2f} s",
        f"{total:.1f} s (the run)",
        (total - inside) / total,
        "<= 0.03",
    )


def main() -> None:
    """Prints the rows for the model and precisions that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="DiT-S/2")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for row in rows(False, options.model, options.precisions, options.batch_size, options.rounds):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
