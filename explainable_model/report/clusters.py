"""Groups the maps of one class: spectral clustering on a graph of neighbors, as in SpRAy."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import MissingRuntimeError
from explainable_model.report.grids import Levels, as_shares

FEWEST = 10  # maps of a class; fewer are one group
MOST_CLUSTERS = 8
SAMPLED = 600  # the graph is made of so many maps; the others join the groups of their neighbors
NEIGHBORS = 5
ALIKE = 0.75  # groups whose averages have this share of their heat in the same places are one


def check_scikit_learn() -> None:
    """Check that scikit-learn is there.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    if find_spec("sklearn") is None:
        raise MissingRuntimeError(
            "The search for shortcuts needs scikit-learn: pip install 'explainable-model[batch]'."
        )


def cluster_maps(maps: Levels, seed: int = 0) -> NDArray[np.int64]:
    """Group maps by the places of their heat.

    Args:
        maps: ``(n, h, w)``, none of them zero everywhere.
        seed: of the sample and of k-means.

    Returns:
        The group of each map, ``(n,)``: 0 is the largest. The number of groups, at most eight, is where the
        eigenvalues of the graph's Laplacian have their largest gap.

    Raises:
        MissingRuntimeError: scikit-learn is not installed.

    Source: Lapuschkin et al. 2019, Unmasking Clever Hans predictors, arXiv 1902.10178; Ng, Jordan and Weiss 2001.
        The distance of two maps is that of Hellinger: they are compared as shares of their heat.
    """
    check_scikit_learn()
    features = np.sqrt(as_shares(maps)).reshape(len(maps), -1)
    if len(features) < FEWEST or not np.ptp(features, axis=0).any():
        return np.zeros(len(features), np.int64)
    chosen = np.arange(len(features))
    if len(features) > SAMPLED:
        chosen = np.sort(np.random.default_rng(seed).choice(len(features), SAMPLED, replace=False))
    groups = _cut_graph(features[chosen], seed)
    if len(chosen) < len(features):
        neighbors = import_module("sklearn.neighbors").KNeighborsClassifier(NEIGHBORS)
        groups = neighbors.fit(features[chosen], groups).predict(features)
    groups = _join_alike(maps, groups)
    order = np.argsort(-np.bincount(groups), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    numbered: NDArray[np.int64] = rank[groups]
    return numbered


def _join_alike(maps: Levels, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groups whose averages are alike, the most alike first: the graph of one crowded place may fall apart."""
    joined = groups.copy()
    while True:
        names = np.unique(joined)
        averages = np.stack([as_shares(maps[joined == name]).mean(0) for name in names])
        common = np.minimum(averages[:, None], averages[None]).sum((2, 3))
        np.fill_diagonal(common, 0)
        one, other = np.unravel_index(int(common.argmax()), common.shape)
        if common[one, other] < ALIKE:
            return np.unique(joined, return_inverse=True)[1]
        joined[joined == names[other]] = names[one]


def _cut_graph(features: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Cut the graph that joins each map with its nearest ones."""
    count = len(features)
    neighbors = min(count - 1, max(NEIGHBORS, round(np.sqrt(count))))
    graph = import_module("sklearn.neighbors").kneighbors_graph(features, neighbors).toarray()
    affinity = (graph + graph.T) / 2
    degree = 1 / np.sqrt(affinity.sum(1))
    laplacian = np.eye(count) - degree[:, None] * affinity * degree
    values, vectors = np.linalg.eigh(laplacian)
    most = min(MOST_CLUSTERS, count // NEIGHBORS)
    clusters = int(np.argmax(np.diff(values[: most + 1]))) + 1
    if clusters == 1:
        return np.zeros(count, np.int64)
    embedding = vectors[:, :clusters]
    embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    kmeans = import_module("sklearn.cluster").KMeans(clusters, n_init=10, random_state=seed)
    groups: NDArray[np.int64] = kmeans.fit_predict(embedding).astype(np.int64)
    return groups
