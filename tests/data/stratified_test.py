"""Rows drawn by class are those that scikit-learn draws."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from dlcore.data import DataError, load, stratified


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_rows_are_those_of_scikit_learn(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)) * 3 - 5, counts))
    least, most = len(counts), len(labels) - len(counts)
    count = round(least + share * (most - least))
    rest, chosen = stratified(labels, count, seed)
    wanted = train_test_split(np.arange(len(labels)), test_size=count, random_state=seed, stratify=labels)
    for found, expected in zip((rest, chosen), wanted, strict=True):
        np.testing.assert_array_equal(found, np.sort(expected))


def test_the_splits_of_fashion_mnists_size():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6_000))
    wanted = train_test_split(np.arange(60_000), test_size=5_000, random_state=0, stratify=labels)
    np.testing.assert_array_equal(stratified(labels, 5_000, 0)[1], np.sort(wanted[1]))


def test_scikit_learn_is_not_imported_for_its_digits():
    program = "import sys\nfrom dlcore import data\ndata.load('digits')\nprint('sklearn' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_missing_digits_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr("dlcore.data._files.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        load("digits")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr("dlcore.data._files.find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"digits\.csv\.gz"):
        load("digits")


def test_damaged_digits_are_named(monkeypatch, tmp_path):
    folder = tmp_path / "datasets" / "data"
    folder.mkdir(parents=True)
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr("dlcore.data._files.find_spec", lambda name: spec)
    whole = gzip.compress(b"0,1,2\n" * 10_000)
    for content in (b"", b"no gzip", whole[:-20], gzip.compress(b"0,x\n")):
        (folder / "digits.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"digits\.csv\.gz is damaged"):
            load("digits")
