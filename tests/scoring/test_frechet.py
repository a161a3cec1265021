"""The Frechet distance, FID's standard error and FID at infinite N."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.interval_coverage import paired_difference
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate, trace_of_root
from ditgta.scoring.statistics import Moments, balanced_order, standard_error

GOLDEN = Path(__file__).parents[1] / "golden" / "inception"
EXPECTED = json.loads((GOLDEN / "metrics.json").read_text())["gauss64"]


@pytest.fixture(scope="module")
def sets():
    with np.load(GOLDEN / "gauss64.npz") as file:
        return file["ref"], file["sample"]


def _orthogonal(random, dimension):
    return np.linalg.qr(random.standard_normal((dimension, dimension)))[0]


def _by_factors(factor_1, factor_2):
    """The exact distance of centred Gaussians with covariances A A^T and B B^T."""
    root = np.linalg.svd(factor_1.T @ factor_2, compute_uv=False).sum()
    return np.square(factor_1).sum() + np.square(factor_2).sum() - 2 * root


def test_golden_value(sets):
    reference, samples = (Moments.of(features) for features in sets)
    value = frechet_distance(samples.mean, samples.covariance, reference.mean, reference.covariance)
    assert value == pytest.approx(EXPECTED["fid_exact_f64"], rel=1e-12)
    estimate = frechet_estimate(sets[1], reference.mean, reference.covariance)
    assert estimate.value == pytest.approx(value, rel=1e-12)
    assert estimate.se == pytest.approx(0.0246613, rel=1e-4)
    assert estimate.influence.shape == (1500,) and abs(estimate.influence.mean()) < 1e-12


def test_fewer_samples_than_features(sets):
    reference, samples = Moments.of(sets[0]), sets[1][:40].astype(np.float64)
    centred = (samples - samples.mean(0)) / np.sqrt(39)
    root = np.linalg.svd(centred @ np.linalg.cholesky(reference.covariance), compute_uv=False)[:-1].sum()
    shift = samples.mean(0) - reference.mean
    exact = shift @ shift + np.square(centred).sum() + np.trace(reference.covariance) - 2 * root
    estimate = frechet_estimate(samples, reference.mean, reference.covariance)
    assert estimate.value == pytest.approx(exact, rel=1e-10)
    assert estimate.se is None and "40 samples of 64 features" in estimate.reason


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10, 1e13])
@pytest.mark.parametrize("common_basis", [True, False])
def test_ill_conditioned(condition, common_basis):
    random, dimension = np.random.default_rng(0), 200
    bases = _orthogonal(random, dimension), _orthogonal(random, dimension)
    spectra = (
        np.geomspace(1, 1 / condition, dimension),
        random.permutation(np.geomspace(3, 3 / condition, dimension)),
    )
    factors = bases[0] * np.sqrt(spectra[0]), bases[0 if common_basis else 1] * np.sqrt(spectra[1])
    covariances = [(factor @ factor.T + (factor @ factor.T).T) / 2 for factor in factors]
    zero = np.zeros(dimension)
    value = frechet_distance(zero, covariances[0], zero, covariances[1])
    assert value == pytest.approx(_by_factors(*factors), rel=1e-9)


@pytest.mark.parametrize("ranks", [(60, 200), (200, 60), (60, 60), (199, 199), (30, 120), (1, 1)])
def test_singular(ranks):
    random, dimension = np.random.default_rng(1), 200
    factors = [random.standard_normal((dimension, rank)) / np.sqrt(rank) for rank in ranks]
    covariances = [factor @ factor.T for factor in factors]
    zero = np.zeros(dimension)
    value = frechet_distance(zero, covariances[0], zero, covariances[1])
    assert value == pytest.approx(_by_factors(*factors), rel=1e-9)


def test_null_spaces_that_do_not_meet():
    factor_1, factor_2 = np.zeros((90, 50)), np.zeros((90, 50))
    random = np.random.default_rng(2)
    factor_1[:50], factor_2[40:] = random.standard_normal((50, 50)), random.standard_normal((50, 50))
    rotation = _orthogonal(random, 90)
    factors = rotation @ factor_1, rotation @ factor_2
    value = trace_of_root(factors[0] @ factors[0].T, factors[1] @ factors[1].T)
    assert value == pytest.approx(np.linalg.svd(factor_1.T @ factor_2, compute_uv=False).sum(), rel=1e-9)


def test_constant_features_change_only_the_traces(sets):
    reference, samples = sets[0].copy(), sets[1].copy()
    reference[:, :5], samples[:, 3:9] = 0, 0
    a, b = Moments.of(reference), Moments.of(samples)
    kept = np.arange(9, 64)
    expected = trace_of_root(a.covariance[np.ix_(kept, kept)], b.covariance[np.ix_(kept, kept)])
    assert trace_of_root(a.covariance, b.covariance) == pytest.approx(expected, rel=1e-12)
    assert trace_of_root(np.zeros((4, 4)), np.eye(4)) == 0


@pytest.mark.parametrize(
    ("in_reference", "in_samples"),
    [(slice(0, 0), slice(3, 9)), (slice(0, 5), slice(0, 0)), (slice(0, 5), slice(3, 9))],
    ids=["in samples", "in the reference", "in both"],
)
def test_units_that_never_fire_leave_fid_its_error(sets, in_reference, in_samples):
    reference, samples = sets[0].copy(), sets[1].copy()
    reference[:, in_reference], samples[:, in_samples] = 0, 0
    moments, others = Moments.of(reference), Moments.of(samples)
    estimate = frechet_estimate(samples, moments.mean, moments.covariance)
    exact = frechet_distance(others.mean, others.covariance, moments.mean, moments.covariance)
    assert estimate.reason is None and estimate.value == pytest.approx(exact, rel=1e-12)
    _check_derivative(estimate.influence, samples.astype(np.float64), moments)
    order = np.random.default_rng(0).permutation(len(samples))
    infinite = frechet_at_infinity(samples, moments.mean, moments.covariance, order)
    assert infinite.se == pytest.approx(estimate.se) and infinite.value < estimate.value


def test_units_that_never_fire_do_not_count_among_the_features(sets):
    samples, moments = sets[1][:60].copy(), Moments.of(sets[0])
    assert frechet_estimate(samples, moments.mean, moments.covariance).se is None
    samples[:, 30:] = 0
    assert frechet_estimate(samples, moments.mean, moments.covariance).se > 0
    found = frechet_at_infinity(samples, moments.mean, moments.covariance, np.arange(60))
    assert found.value is None and "halves of 30 samples" in found.reason and "(30 features)" in found.reason


def test_features_that_depend_on_each_other_have_no_error(sets):
    samples, moments = sets[1].copy(), Moments.of(sets[0])
    samples[:, 3] = samples[:, 4]
    estimate = frechet_estimate(samples, moments.mean, moments.covariance)
    assert estimate.value > 0 and estimate.se is None and "depend on each other" in estimate.reason
    nothing = frechet_estimate(np.zeros((9, 2)), np.zeros(2), np.eye(2))
    assert nothing.value == pytest.approx(2.0)


def test_same_statistics_are_at_no_distance(sets):
    moments = Moments.of(sets[0])
    assert frechet_distance(moments.mean, moments.covariance, moments.mean, moments.covariance) < 1e-12


def test_influence_is_the_derivative_by_an_items_weight(sets):
    reference, samples = Moments.of(sets[0]), sets[1].astype(np.float64)
    influence = frechet_estimate(samples, reference.mean, reference.covariance).influence
    _check_derivative(influence, samples, reference)


def _check_derivative(influence, samples, reference):
    """Compares influence values with finite differences of the distance by the weights of single items."""

    def reweighted(item, amount):
        weights = np.full(len(samples), (1 - amount) / len(samples))
        weights[item] += amount
        mean = weights @ samples
        covariance = (samples - mean).T * weights @ (samples - mean) * len(samples) / (len(samples) - 1)
        return frechet_distance(mean, covariance, reference.mean, reference.covariance)

    for item in (0, 77, 1499):
        derivative = (reweighted(item, 1e-5) - reweighted(item, -1e-5)) / 2e-5
        assert influence[item] == pytest.approx(derivative, abs=2e-3)


def test_influence_agrees_with_a_jackknife():
    random = np.random.default_rng(3)
    samples, reference = (
        random.standard_normal((300, 8)) * 1.3 + 0.2,
        Moments.of(random.standard_normal((500, 8))),
    )
    estimate = frechet_estimate(samples, reference.mean, reference.covariance)
    left_out = []
    for item in range(300):
        moments = Moments.of(np.delete(samples, item, axis=0))
        left_out.append(
            frechet_distance(moments.mean, moments.covariance, reference.mean, reference.covariance)
        )
    jackknife = np.sqrt(299 / 300 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    assert estimate.se == pytest.approx(jackknife, rel=0.03)


def test_paired_difference_is_tighter_than_its_parts():
    random, reference = (
        np.random.default_rng(4),
        Moments.of(np.random.default_rng(5).standard_normal((900, 6))),
    )
    noise = random.standard_normal((700, 6))
    a = frechet_estimate(noise * 1.30 + 0.1, reference.mean, reference.covariance)
    b = frechet_estimate(noise * 1.25 + 0.1, reference.mean, reference.covariance)
    difference = paired_difference(a, b)
    assert difference.value == a.value - b.value
    assert difference.se < 0.35 * np.hypot(a.se, b.se)
    assert difference.se == pytest.approx(standard_error(a.influence - b.influence))


def test_infinite_count_removes_the_bias():
    random, dimension = np.random.default_rng(6), 12
    zero, identity = np.zeros(dimension), np.eye(dimension)
    finite, infinite = [], []
    for _ in range(60):
        features = random.standard_normal((240, dimension)) * 1.2
        estimate = frechet_estimate(features, zero, identity)
        finite.append(estimate.value)
        infinite.append(
            frechet_at_infinity(features, zero, identity, random.permutation(240), estimate).value
        )
    truth, noise = dimension * 0.2**2, np.std(infinite) / np.sqrt(60)
    assert np.mean(finite) - truth > 8 * noise
    assert abs(np.mean(infinite) - truth) < 3 * noise


def _classes(random, labels, dimension=6):
    """Features of which nine tenths of the variance lie between classes."""
    centres = 3 * np.random.default_rng(9).standard_normal((5, dimension))
    return centres[labels] + random.standard_normal((len(labels), dimension))


def test_errors_of_balanced_labels_are_the_spread_over_repetitions():
    reference, labels = (
        Moments.of(_classes(np.random.default_rng(8), np.arange(20_000) % 5)),
        np.arange(300) % 5,
    )
    values, differences, errors, paired, independent = [], [], [], [], []
    for repeat in range(300):
        features = _classes(np.random.default_rng(repeat), labels)
        a, b = (
            replace(frechet_estimate(x, reference.mean, reference.covariance), strata=labels)
            for x in (1.1 * features + 0.2, features)
        )
        difference = paired_difference(a, b)
        values.append(a.value)
        errors.append(a.se)
        independent.append(standard_error(a.influence))
        differences.append(difference.value)
        paired.append(difference.se)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)
    assert np.mean(paired) == pytest.approx(np.std(differences), rel=0.12)
    assert np.mean(independent) > 1.5 * np.std(values)


def test_halves_within_classes_find_the_limit_that_random_halves_miss():
    reference, labels = (
        Moments.of(_classes(np.random.default_rng(8), np.arange(200_000) % 5)),
        np.arange(100) % 5,
    )
    found = {"within": [], "random": []}
    for repeat in range(200):
        random = np.random.default_rng(repeat)
        features, order = 1.05 * _classes(random, labels), random.permutation(100)
        estimate = frechet_estimate(features, reference.mean, reference.covariance)
        for name, strata in (("within", labels), ("random", None)):
            halves = balanced_order(order, strata)
            infinite = frechet_at_infinity(features, reference.mean, reference.covariance, halves, estimate)
            found[name].append(infinite.value)
    truth = frechet_distance(
        1.05 * reference.mean, 1.05**2 * reference.covariance, reference.mean, reference.covariance
    )
    error = np.std(found["within"]) / np.sqrt(200)
    assert abs(np.mean(found["within"]) - truth) < 3 * error
    assert np.mean(found["random"]) < truth - 10 * error


def test_infinite_count_needs_regular_halves():
    features = np.random.default_rng(7).standard_normal((30, 16))
    found = frechet_at_infinity(features, np.zeros(16), np.eye(16), np.arange(30))
    assert found.value is None and "halves of 15" in found.reason


@pytest.mark.parametrize(
    ("mean", "covariance", "words"),
    [
        (np.zeros(3), np.eye(4), "do not match"),
        (np.zeros(5), np.eye(5), "different scorers"),
        (np.full(4, np.nan), np.eye(4), "NaN"),
    ],
)
def test_faults(mean, covariance, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(np.zeros(4), np.eye(4), mean, covariance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["regular", "both singular (N = d/2)", "constant features", "condition 1e10"]
)
def test_large_cases_of_the_benchmark(name):
    from benchmarks.frechet_speed import by_eigendecomposition, cases

    arguments = cases(1024)[name]
    assert frechet_distance(*arguments) == pytest.approx(by_eigendecomposition(*arguments), rel=1e-9)
