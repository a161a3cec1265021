"""Rows of `benchmarks.gpu` on parts: the machine's limits, guided sampling, autoencoder, scorer, noise, optimizer, attention."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_lines import Line, Measured, Note
from benchmarks.gpu_rows import (
    CUDA,
    DEVICE,
    Contestant,
    Sizes,
    Step,
    Timing,
    compile_blocks,
    contestants,
    deterministic,
    known_gpu,
    matmul_rate,
    peak,
    tf32,
    timed,
    with_prediction,
)
from benchmarks.gpu_training import ROTATION, against, faster, on_meta
from benchmarks.guided_sampling import peer_of
from benchmarks.rows import Row
from benchmarks.steps import random_batch, times_of
from benchmarks.training_step import shape_of
from ditgta import guided
from ditgta.data.autoencoder import (
    decode_uint8,
    encode_moments,
    small_autoencoder,
    stable_diffusion_autoencoder,
)
from ditgta.data.batches import Batches
from ditgta.kernels import for_inference
from ditgta.planning import cost
from ditgta.sampling import draw_ahead
from ditgta.scoring.inception import InceptionV3

FASTER = ">= 1.3"
# Predicted for an H100: TB/s of a copy; TFLOP/s of a large product, and of a block's by width; milliseconds of a compiled guided
# step of 64 images, of its noise on the host, and of AdamW and moving average.
COPY, MATMUL, BLOCK = 3.0, {"bf16": 798, "tf32": 310}, {768: 620, 1152: 640}
GUIDED, NOISE, UPDATE = 17.6, 3.0, {"DiT-B/2": 2.0, "DiT-XL/2": 10.4}


def limits(sizes: Sizes) -> Iterator[Line]:
    """What the machine gives: a copy, large products, and the products of one block."""
    yield _copy(sizes)
    for products in ("bf16", "tf32"):
        yield _large_matmul(products, sizes)
    for width in (768, 1152):
        yield _matmuls_of_a_block(width, sizes)


def _copy(sizes: Sizes) -> Line:
    source = torch.zeros(sizes.of(2**30, 2**16), device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = timed({"copy": lambda: target.copy_(source)}, sizes)["copy"].seconds
    rate = 2 * source.numel() / seconds / 1e12
    text = with_prediction(f"{rate:.2f} TB/s read and written", COPY, sizes)
    return Note("copy on the GPU", text, figures={"terabytes_per_second": rate})


def _large_matmul(products: str, sizes: Sizes) -> Line:
    rate, side = matmul_rate(products, sizes), sizes.of(8192, 64)
    what, figures = f"matmul {side}^3, {products}", {"operations_per_second": rate}
    text = with_prediction(f"{rate / 1e12:.3g} TFLOP/s", MATMUL[products], sizes)
    if known_gpu() is None:
        return Note(what, text, figures=figures)
    highest, whose = peak(products, sizes)
    return Measured(Row(what, text, whose, rate / highest), figures)


def _matmuls_of_a_block(width: int, sizes: Sizes) -> Line:
    """Products of the linear layers of one block, with those of both gradients, in bf16: 64 images of 256 tokens."""
    width, rows = sizes.of(width, 48), sizes.of(64 * 256, 32)
    calls: dict[str, Step] = {}
    for name, inputs, outputs in (
        ("qkv", width, 3 * width),
        ("proj", width, width),
        ("fc1", width, 4 * width),
        ("fc2", 4 * width, width),
    ):
        x, w, gradient = (
            torch.randn(size, device=DEVICE, dtype=torch.bfloat16)
            for size in ((rows, inputs), (outputs, inputs), (rows, outputs))
        )
        calls[name] = lambda x=x, w=w, g=gradient: (F.linear(x, w), g @ w, g.t() @ x)
    times = timed(calls, sizes)
    rate = 3 * 24 * rows * width**2 / sum(time.seconds for time in times.values())
    text = with_prediction(f"{rate / 1e12:.3g} TFLOP/s", BLOCK.get(width), sizes)
    large = matmul_rate("bf16", sizes)
    row = Row(
        f"matmuls of a block, D = {width}, {rows} tokens, bf16, forward and backward",
        text,
        f"{large / 1e12:.3g} TFLOP/s (the large one)",
        rate / large,
    )
    return Measured(row, {name: time.ms for name, time in times.items()})


def guided_step(sizes: Sizes) -> Iterator[Line]:
    """A guided pass of B/2 in bf16 over 64 images: gta and abs, eager and compiled, and diffusers' transformer."""
    like = on_meta(sizes, "DiT-B/2", "abs")
    batch = random_batch(like, sizes.of(64))
    builders = {}
    for how in ("compiled", "eager"):
        for posenc in ("gta", "abs"):
            builders[f"{posenc} {how}"] = functools.partial(_ours, sizes, posenc, batch, how == "compiled")
        builders[f"diffusers {how}"] = functools.partial(_diffusers, like, batch, how == "compiled")
    what = f"guided step DiT-B/2, {len(batch['y'])} images, bf16"
    ready, notes = contestants(what, builders)
    yield from notes
    times = timed({name: one.step for name, one in ready.items()}, sizes)
    flops = 2 * len(batch["y"]) * cost.forward_flops(shape_of(like))
    for name, one in ready.items():
        yield _share_of_peak(f"{what}: {name}", sizes, flops, name, one, times[name])
    for how, demand in (("compiled", sizes.demand(ROTATION)), ("eager", "")):
        one, other = f"gta {how}", f"abs {how}"
        if {one, other} <= times.keys():
            yield against(f"{what}: time of {one} over that of abs", times, one, other, demand)
    for peer, demand in (("diffusers eager", sizes.demand(FASTER)), ("diffusers compiled", "")):
        if {"gta compiled", peer} <= times.keys():
            yield faster(
                f"{what}: gta compiled, times as fast as {peer}", times, "gta compiled", peer, demand
            )


def _share_of_peak(
    what: str, sizes: Sizes, flops: float, name: str, one: Contestant, time: Timing
) -> Measured:
    rate, whose = peak("bf16", sizes)
    predicted = GUIDED if name in ("gta compiled", "abs compiled") else None
    text = [
        with_prediction(f"{time.ms:.1f} ms", predicted, sizes),
        f"host {1e3 * time.host:.1f} ms",
        f"first call {one.first_seconds:.0f} s",
    ]
    figures = {"ms": time.ms, "host_ms": 1e3 * time.host, "first_seconds": one.first_seconds}
    row = Row(f"{what}, share of the peak", ", ".join(text), whose, flops / time.seconds / rate)
    return Measured(row, figures | {"predicted_ms": predicted})


def _ours(sizes: Sizes, posenc: str, batch: dict[str, torch.Tensor], compile: bool) -> Step:
    network, _ = for_inference(sizes.network("DiT-B/2", posenc), torch.bfloat16, "off", compile)

    def step() -> None:
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16):
            guided(network, batch["x0"], times_of(batch)[:1], batch["y"], 1.5)

    return step


def _diffusers(like, batch: dict[str, torch.Tensor], compile: bool) -> Step:
    """A guided pass of diffusers' transformer, all of it in bf16: faster than autocast."""
    with DEVICE:
        peer = peer_of(like).to(torch.bfloat16)
    if compile:
        compile_blocks(peer)

    def step() -> None:
        x, t, y = batch["x0"], times_of(batch)[:1].expand(len(batch["x0"])), batch["y"]
        with torch.inference_mode():
            labels = torch.cat([y, torch.full_like(y, like.num_classes)])
            inputs = torch.cat([x, x]).to(torch.bfloat16)
            both = peer(inputs, timestep=torch.cat([t, t]), class_labels=labels).sample
            conditional, unconditional = both.float().chunk(2)
            unconditional + 1.5 * (conditional - unconditional)

    return step


@torch.no_grad()
def autoencoder(sizes: Sizes) -> Iterator[Line]:
    """Encoding and decoding with Stable Diffusion's architecture: float32 with and without TF32."""
    with DEVICE:
        vae = small_autoencoder([8, 8, 8, 8], 4, 64) if sizes.tiny else stable_diffusion_autoencoder()
    vae = vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    count, side = sizes.of(32), sizes.of(256, 64)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=DEVICE)
    latents = torch.randn(count, 4, side // 8, side // 8, device=DEVICE)
    calls = {"encode": lambda: encode_moments(vae, images), "decode": lambda: decode_uint8(vae, latents)}
    times = {}
    for allowed in (False, True):
        with tf32(allowed):
            times[allowed] = timed(calls, sizes)
    for name in calls:
        plain, fast = count / times[False][name].seconds, count / times[True][name].seconds
        what = f"{name} {count} images of {side} pixels: TF32 beside float32"
        row = Row(what, f"{fast:.0f} images/s", f"{plain:.0f} images/s (float32)", fast / plain)
        yield Measured(row, {"images_per_second": fast, "images_per_second_float32": plain})


def inception_speed(sizes: Sizes) -> Iterator[Line]:
    """Features of images that come from the host, float32 without TF32."""
    with DEVICE:
        network = InceptionV3(0.0625 if sizes.tiny else 1.0)
    network = network.eval().fuse()
    side, counts = sizes.of(256, 32), (sizes.of(128, 4), sizes.of(32))
    images = torch.randint(0, 256, (counts[0], side, side, 3), dtype=torch.uint8)
    calls = {str(count): lambda count=count: network(images[:count]) for count in counts}
    times = timed(calls, sizes)
    large, small = (count / times[str(count)].seconds for count in counts)
    row = Row(
        f"Inception's features of {side}-pixel images, float32, {counts[0]} at once beside {counts[1]}",
        f"{large:.0f} images/s",
        f"{small:.0f} images/s",
        large / small,
    )
    yield Measured(row, {"images_per_second": large})


def noise(sizes: Sizes) -> Iterator[Line]:
    """What the host draws for 64 images: one sampling step's noise, and all that is random in a training step."""
    count, shape, draws = sizes.of(64), (4, 32, 32), sizes.of(20)
    sampling = timed({"": lambda: list(draw_ahead(0, list(range(count)), shape, draws, DEVICE))}, sizes)[""]
    ms = sampling.ms / draws
    text = with_prediction(f"{ms:.2f} ms", NOISE, sizes)
    yield Note(
        f"noise of a sampling step of {count} images, drawn ahead by one thread", text, figures={"ms": ms}
    )
    shards = SimpleNamespace(count=1_281_167, latent_shape=shape)
    batches = Batches(shards, 0, count, slice(0, count), "random", "resample", 0.1)
    training = timed({"": lambda: batches.draw(1, range(count))}, sizes)[""]
    rate = count / training.seconds
    text = f"{training.ms:.2f} ms, {rate:.0f} images/s"
    yield Note(
        f"random numbers of a training step of {count} images, one of two threads that draw ahead",
        text,
        figures={"ms": training.ms, "images_per_second": rate},
    )


def optimizer(sizes: Sizes) -> Iterator[Line]:
    """AdamW, moving average and clipping, bound by memory."""
    for model, predicted in UPDATE.items():
        parameters = list(sizes.network(model, "gta").parameters())
        average = [parameter.detach().clone() for parameter in parameters]
        adamw = torch.optim.AdamW(parameters, fused=True)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        # Bytes per parameter: AdamW reads four numbers and writes three; the average reads two and writes one; the norm reads
        # one, and clipping reads and writes it.
        detached = [parameter.detach() for parameter in parameters]
        calls = {
            "AdamW": (28, adamw.step),
            "average": (12, lambda average=average, new=detached: torch._foreach_lerp_(average, new, 1e-4)),
            "clipping": (12, lambda all=parameters: torch.nn.utils.clip_grad_norm_(all, 1.0)),
        }
        times = timed({name: call for name, (_, call) in calls.items()}, sizes)
        count = sum(parameter.numel() for parameter in parameters)
        rates = {name: calls[name][0] * count / times[name].seconds / 1e12 for name in calls}
        text = [f"{name} {times[name].ms:.2f} ms = {rates[name]:.2f} TB/s" for name in calls]
        both = with_prediction(
            f"first two {times['AdamW'].ms + times['average'].ms:.2f} ms", predicted, sizes
        )
        figures = {name: {"ms": times[name].ms, "terabytes_per_second": rates[name]} for name in calls}
        what = f"{model}, {count / 1e6:.0f} M parameters: AdamW, moving average, clipping"
        yield Note(what, ", ".join([*text, both]), figures=figures)


def attention(sizes: Sizes) -> Iterator[Line]:
    """Attention forward and backward by backend in bf16, with and without deterministic algorithms, beside what training takes."""
    backends = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
    for heads, width in ((12, 64), (16, 72)):
        shape = (sizes.of(64), sizes.of(heads), sizes.of(256, 16), width)
        what = f"attention {heads} x {width}, {shape[0]} images of {shape[2]} tokens, bf16"
        builders = {
            f"{_name(backend)}{'' if exact else ', not deterministic'}": functools.partial(
                _attend, shape, backend, exact
            )
            for backend in (backends if CUDA else (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH))
            for exact in (True, False)
        }
        ready, notes = contestants(what, builders)
        yield from (replace(note, kind="note") for note in notes)  # not every backend takes every shape
        times = timed({name: one.step for name, one in ready.items()}, sizes)
        for name in [name for name in times if name != "flash" and "flash" in times]:
            yield against(f"{what}: time of {name} over that of flash", times, name, "flash")


def _name(backend: SDPBackend) -> str:
    return backend.name.split("_")[0].lower()


def _attend(shape: tuple[int, ...], backend: SDPBackend, exact: bool) -> Step:
    q, k, v, gradient = (torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) for _ in range(4))
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]

    def call() -> None:
        with deterministic(exact), sdpa_kernel(backend):
            torch.autograd.grad(F.scaled_dot_product_attention(*inputs), inputs, gradient)

    return call
