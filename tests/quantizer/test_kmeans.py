"""k-means: what its answer always satisfies."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.quantizer.kmeans import kmeans


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 30), st.integers(1, 4), st.integers(0, 3))
def test_every_row_has_its_nearest_centroid_and_every_centroid_a_row(n: int, k: int, distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)[rng.integers(-(-n // distinct), size=n)]  # with repeated rows
    centroids, labels = kmeans(x, k, rng, sample=4)
    assert len(centroids) <= min(k, len(np.unique(x, axis=0)))
    assert set(labels) == set(range(len(centroids)))
    distances = np.linalg.norm(x[:, None] - centroids, axis=2)
    np.testing.assert_allclose(distances[np.arange(n), labels], distances.min(axis=1), atol=1e-5)


def test_separate_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 8
    x = (10 * np.eye(8)[truth] + 0.1 * rng.normal(size=(400, 8))).astype(np.float32)
    labels = kmeans(x, 8, rng)[1]
    assert len(set(zip(truth, labels, strict=True))) == 8


def test_the_same_seed_gives_the_same_clusters() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    one, two = (kmeans(x, 10, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
