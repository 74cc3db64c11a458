"""LIBSVM text: labels, weights, queries, and hostile lines."""

import numpy
import pytest

from clary.workloads.formats import libsvm


def test_rows_keep_their_indices_and_labels() -> None:
    features, labels = libsvm.read(b"1 0:1.5 3:2\n0 1:-1e3\n")
    assert features.toarray().tolist() == [[1.5, 0, 0, 2], [0, -1000, 0, 0]]
    assert labels.tolist() == [1.0, 0.0]
    assert features.dtype == numpy.float32


def test_weights_queries_and_comments_are_understood() -> None:
    rows = libsvm.parse("1:0.5 qid:7 2:3 # note\n\n0:2 qid:8 1:4\n")
    assert rows.weights is not None and rows.weights.tolist() == [0.5, 2.0]
    assert rows.query_ids is not None and rows.query_ids.tolist() == [7, 8]
    assert rows.features.shape == (2, 3)


def test_a_row_without_features_is_a_row_of_zeros() -> None:
    features, labels = libsvm.read(b"1\n0 1:1\n")
    assert features.toarray().tolist() == [[0, 0], [0, 1]]
    assert labels.tolist() == [1, 0]


def test_a_known_width_widens_the_matrix_and_bounds_it() -> None:
    assert libsvm.read(b"1 0:1", columns=5)[0].shape == (1, 5)
    with pytest.raises(libsvm.LibsvmError, match="feature index 9 is beyond the 5 known"):
        libsvm.read(b"1 9:1", columns=5)


@pytest.mark.parametrize(
    "line",
    [
        b"1 0:1:2",
        b"1 a:2",
        b"1 2",
        b"cat 0:1",
        b"1 0:",
        b"1 :2",
        b"\x00\xff 1:2",
        b"1 1:0x10",
    ],
)
def test_a_broken_pair_is_refused_with_its_line(line: bytes) -> None:
    with pytest.raises(libsvm.LibsvmError, match="line 2 of the LIBSVM text"):
        libsvm.read(b"1 0:1\n" + line)


def test_impossible_indices_and_empty_text_are_refused() -> None:
    for text in (b"1 -1:2", b"1 99999999999999999999:2"):
        with pytest.raises(libsvm.LibsvmError, match="outside 0 to"):
            libsvm.read(text)
    with pytest.raises(libsvm.LibsvmError, match="no rows"):
        libsvm.read(b"\n # only a comment\n")


def test_weights_on_some_lines_only_are_refused() -> None:
    with pytest.raises(libsvm.LibsvmError, match="lines of the LIBSVM text have a weight"):
        libsvm.read(b"1:2 0:1\n1 0:1")
