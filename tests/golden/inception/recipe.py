"""Golden-data recipe (numpy only, no torch RNG, order independent).

Every tensor has its own legacy generator  np.random.RandomState(seed32(key));  the legacy
MT19937 stream and its `standard_normal` / `random_sample` are frozen by NumPy policy (NEP 19),
so the values do not depend on the NumPy or torch version, nor on the order of the calls.
"""

import json
import os
import zlib

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20151205


def rs(key, seed=SEED):
    return np.random.RandomState((seed + zlib.crc32(key.encode("utf-8"))) & 0xFFFFFFFF)


def load_spec():
    """[[key, shape], ...] for the 472 tensors of pt_inception-2015-12-05 (no num_batches_tracked)."""
    with open(os.path.join(HERE, "inception_keys.json")) as f:
        return json.load(f)["keys"]


def random_state_dict(bn_stats=None):
    """dict key -> float32 ndarray.  bn_stats: path of bn_stats.npz (default: next to this file)."""
    if bn_stats is None:
        bn_stats = os.path.join(HERE, "bn_stats.npz")
    bn = np.load(bn_stats) if bn_stats else None
    sd = {}
    for key, shape in load_spec():
        shape = tuple(shape)
        if key.endswith(".conv.weight"):
            fan_in = shape[1] * shape[2] * shape[3]
            v = rs(key).standard_normal(shape) * np.sqrt(2.0 / fan_in)
        elif key.endswith(".bn.weight"):
            v = 0.7 + 0.6 * rs(key).random_sample(shape)
        elif key.endswith(".bn.bias"):
            v = 0.2 * rs(key).standard_normal(shape)
        elif key.endswith(".bn.running_mean") or key.endswith(".bn.running_var"):
            v = bn[key] if bn is not None else (np.zeros(shape) if key.endswith("mean") else np.ones(shape))
        elif key == "fc.weight":
            v = rs(key).standard_normal(shape) * (1.5 / np.sqrt(2048.0))
        elif key == "fc.bias":
            v = rs(key).standard_normal(shape)
        else:
            raise KeyError(key)
        sd[key] = np.ascontiguousarray(v, dtype=np.float32)
    return sd


# ---------------------------------------------------------------- synthetic feature sets
def gauss_params(d, which):
    """x_j = mu_j + a_j z_j + b_j z_{(j-1) mod d},  z ~ N(0, I_d)   (which: 0 = reference, 1 = sample)"""
    j = np.arange(d, dtype=np.float64)
    if which == 0:
        mu = 0.5 * ((j * 7) % 11) / 11.0
        a = 0.2 + 0.8 * ((j * 5) % 13) / 13.0
        b = 0.3 * ((j * 3) % 7) / 7.0
    else:
        mu = 0.5 * ((j * 7) % 11) / 11.0 + 0.1 * (((j * 2) % 5) - 2.0) / 2.0
        a = 0.25 + 0.7 * ((j * 5) % 13) / 13.0
        b = 0.2 * ((j * 4) % 9) / 9.0
    return mu, a, b


def gauss_population(d, which):
    mu, a, b = gauss_params(d, which)
    A = np.diag(a)
    idx = np.arange(d)
    A[idx, (idx - 1) % d] += b
    return mu, A @ A.T


def gauss_features(d, which, n):
    """exact elementwise float64 arithmetic, then float32 -> reproducible bit for bit"""
    mu, a, b = gauss_params(d, which)
    z = rs(f"gauss-{d}-{which}-{n}").standard_normal((n, d))
    return (mu + a * z + b * np.roll(z, 1, axis=1)).astype(np.float32)


def pool3_like_features(which, n, d=2048):
    """Non-negative, Inception-pool_3-like scale (mean ~0.4, ||x||^2 ~ 600), 20 class centres + 12 latent directions.
    which=0 reference; which=1 'generator': drops 6 of the 20 classes, smaller latent spread, a few outliers.
    Only elementwise float64 arithmetic (no BLAS) -> bit reproducible; returns (float32 [n,d], labels)."""
    r = rs(f"pool3-{which}-{n}")
    centres = np.abs(rs("pool3-centres").standard_normal((20, d))) * 0.45
    W = rs("pool3-directions").standard_normal((12, d)) * 0.11
    lab = r.randint(0, 20 if which != 1 else 14, size=n)
    z = r.standard_normal((n, 12))
    if which == 1:
        z = z * np.where(r.random_sample((n, 1)) < 0.12, 1.6, 0.85)
    x = centres[lab]
    for k in range(12):
        x = x + z[:, k : k + 1] * W[k]
    x = np.abs(x + 0.03 * r.standard_normal((n, d)))
    return x.astype(np.float32), lab


def logits_features(n, c=1008):
    """logits of a known peaky distribution: one hot class + noise"""
    r = rs(f"logits-{n}")
    lab = r.randint(0, 300, size=n)
    z = 1.5 * r.standard_normal((n, c))
    z[np.arange(n), lab] += 6.0 + 3.0 * r.standard_normal(n)
    return z.astype(np.float32)
