"""Columns of points are found by their names, and nothing is guessed where there are none."""

import pytest

from comhe.errors import DataError
from comhe.inputs.columns import choose_columns, find_axes


@pytest.mark.parametrize(
    ("header", "axes"),
    [
        ("x,y,z", [0, 1, 2]),
        (",x,y,z", [1, 2, 3]),
        ("nx,ny,nz,X,Y,Z", [3, 4, 5]),
        ("idx,px,py,pz", [1, 2, 3]),
        ("Normals:0,Normals:1,Normals:2,Points:0,Points:1,Points:2,Points_Magnitude", [3, 4, 5]),
        ("Point ID,X (m),Y (m),Z (m)", [1, 2, 3]),
        ("pos_z,pos_x,pos_y", [1, 2, 0]),
        ("x_coord,y_coord,z_coord,r,g,b", [0, 1, 2]),
        ("px,py,pz,x,y,z", [3, 4, 5]),  # the plain names come first
    ],
)
def test_axes_by_name(header, axes):
    assert find_axes(header.split(","), "file") == axes == choose_columns(header.split(","), "file")


def test_names_that_are_none():
    for header in ("nx,ny,nz", "a,b,c", "x,y,w", "0,1,2", "x0,x1,x2", ""):
        assert find_axes(header.split(","), "file") is None


@pytest.mark.parametrize(
    ("header", "columns"), [("a,b,c", [0, 1, 2]), ("id,a,b,c", [1, 2, 3]), (",0,1,2,3", [1, 2, 3])]
)
def test_three_columns_of_other_names(header, columns):
    assert choose_columns(header.split(","), "file") == columns


@pytest.mark.parametrize("header", ["a,b,c,d", "nx,ny,nz", "r,g,b", "idx,a,b", "px,py,pz,pos_x,pos_y,pos_z"])
def test_what_is_ambiguous_is_refused_in_one_line(header):
    with pytest.raises(DataError, match=r"^file: .*name (three of them|the right ones) x, y and z$"):
        choose_columns(header.split(","), "file")
