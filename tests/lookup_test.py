"""One message for every name that is not known: the nearest, and all there are."""

import re

import pytest

from dlcore.lookup import check_name, choices, lookup

COLOURS = {"red": 1, "green": 2, "blue": None}


def test_what_is_there_is_found_whatever_it_is():
    assert [lookup("colour", name, COLOURS) for name in COLOURS] == [1, 2, None]
    assert check_name("colour", "blue", COLOURS) is None


MESSAGES = {
    "gren": "unknown colour 'gren'; did you mean 'green'? There are red, green, blue",
    "Blue": "unknown colour 'Blue'; did you mean 'blue'? There are red, green, blue",
    "xyz": "unknown colour 'xyz'; there are red, green, blue",
    "": "unknown colour ''; there are red, green, blue",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_name_that_is_none_of_them(name):
    for refused in (lambda: lookup("colour", name, COLOURS), lambda: check_name("colour", name, COLOURS)):
        with pytest.raises(ValueError, match=f"^{re.escape(MESSAGES[name])}$"):
            refused()


def test_names_may_come_once_only():
    with pytest.raises(ValueError, match=r"did you mean 'a1'\? There are a1, b2"):
        check_name("part", "a", iter(["a1", "b2"]))
    check_name("part", "b2", iter(["a1", "b2"]))


def test_the_table_is_not_asked_for_more_than_its_names():
    class Table(dict):
        def __missing__(self, name):
            return "made up"

    with pytest.raises(ValueError, match="unknown colour 'pink'"):
        lookup("colour", "pink", Table(COLOURS))


def test_the_nearest_of_several():
    names = ["encoder/dense_0/kernel", "encoder/dense_1/bias", "head/kernel"]
    assert choices("encoder/dense_1/bais", names).startswith("did you mean 'encoder/dense_1/bias'? There are encoder/")
