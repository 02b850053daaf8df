"""k-means of many nodes at once, as a GPU does it, is as good as k-means of one node after another."""

import numpy as np
import pytest
import torch

from genrecall.assignment import nearest
from genrecall.config.quantizer import QuantizerSection
from trainer.quantizer import device_kmeans, hierarchical
from trainer.quantizer.kmeans import kmeans


def clustered(rows, dim=8, centres=12, seed=0):
    rng = np.random.default_rng(seed)
    means = 3 * rng.standard_normal((centres, dim))
    return (means[rng.integers(centres, size=rows)] + rng.standard_normal((rows, dim))).astype(np.float32)


def inertia(x, centroids, labels):
    return float(np.square(x - centroids[labels]).sum())


def split(x, members, children, seed=0):
    return device_kmeans.split(torch.from_numpy(x), members, children, seed)


def test_nodes_of_any_size_are_split_as_well_as_alone():
    x = clustered(3000)
    members = np.split(np.random.default_rng(1).permutation(3000), [5, 6, 900, 1000, 2400])
    children = [3, 4, 20, 10, 25, 12]
    labels, centroids = split(x, members, children)
    ours = theirs = 0.0
    for rows, k, own in zip(members, children, centroids, strict=True):
        expected, alone = kmeans(x[rows], k, np.random.default_rng(0))
        assert len(own) <= k
        assert sorted(set(labels[rows])) == list(range(len(own))), "a centroid without a row"
        assert (labels[rows] == nearest(x[rows], own)).mean() > 0.99, "rows are at their nearest centroid"
        ours += inertia(x[rows], own, labels[rows])
        theirs += inertia(x[rows], expected, alone)
    assert ours < 1.05 * theirs


def test_equal_rows_make_fewer_clusters_than_asked():
    x = np.repeat(clustered(3), 10, axis=0)
    labels, (centroids,) = split(x, [np.arange(30)], [8])
    assert len(centroids) == 3
    assert len({*zip(labels.tolist(), np.repeat(range(3), 10).tolist(), strict=True)}) == 3


def test_a_node_larger_than_the_sample_is_labelled_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_kmeans, "SAMPLE", 20)
    monkeypatch.setattr(device_kmeans, "_ROWS", 512)
    x = clustered(2000)
    labels, (centroids,) = split(x, [np.arange(2000)], [12])
    assert (labels == nearest(x, centroids)).mean() > 0.99
    expected, alone = kmeans(x, 12, np.random.default_rng(0))
    assert inertia(x, centroids, labels) <= 1.3 * inertia(x, expected, alone)


def test_the_same_seed_gives_the_same_split():
    x = clustered(500)
    members = np.split(np.arange(500), [120, 300])
    one, other, third = (split(x, members, [9, 9, 9], seed)[0] for seed in (4, 4, 5))
    assert (one == other).all()
    assert (one != third).any()


def test_a_tree_grown_so_is_as_full_as_one_grown_node_by_node(monkeypatch: pytest.MonkeyPatch):
    from trainer.quantizer import fit

    x = clustered(4000, centres=40)
    by_node = fit("hierarchical", x, [[]] * 4000, None, QuantizerSection(), 3, progress=False)
    together = hierarchical.split_nodes

    def on_device(vectors, members, children, seed, device, done=None):
        return split(vectors, members, children, seed[0] + seed[1])

    monkeypatch.setattr(hierarchical, "split_nodes", on_device)
    at_once = fit("hierarchical", x, [[]] * 4000, None, QuantizerSection(), 3, progress=False)
    assert hierarchical.split_nodes is not together
    assert at_once.level_sizes[0] == by_node.level_sizes[0]
    assert len(at_once.space) == pytest.approx(len(by_node.space), rel=0.1)
