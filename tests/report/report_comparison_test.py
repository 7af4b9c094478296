"""Groups of runs beside each other: whose point it is can be read in every panel."""

from dlcore.report.comparison import dots

VALUES = {
    "time": {"a": [1.0, 2.0], "b": [2.0], "c": [3.0]},
    "error": {"a": [1.0], "b": [2.0], "c": [3.0]},
    "memory": {"c": [3.0, 5.0]},
}


def test_a_group_that_is_missing_moves_no_name_and_no_colour():
    panels = dots(VALUES).axes
    assert [[tick.get_text() for tick in axes.get_yticklabels()] for axes in panels] == [["a", "b", "c"], [], ["c"]]
    colours = [[line.get_color() for line in axes.lines if line.get_marker() == "."] for axes in panels]
    assert colours[0] == colours[1] and colours[2] == colours[0][2:]
    assert len(set(colours[0])) == 3
