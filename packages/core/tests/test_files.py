"""What a path is, before it is opened."""

import os
import socket

import pytest

from paperloop.errors import UserError
from paperloop.files import check_is_file


def test_a_regular_file_and_a_link_to_one_are_taken(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")
    (tmp_path / "link").symlink_to(file)
    assert check_is_file(str(file)) == file
    assert check_is_file(tmp_path / "link") == tmp_path / "link"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("below a file", "does not exist"),
        ("dangling", "is a link to a file that does not exist"),
        ("folder", "is a folder, and a file is expected"),
        ("pipe", "is a named pipe"),
        ("socket", "is a socket"),
        ("device", "is a device"),
        ("circle", "cannot be read: Too many levels of symbolic links"),
        ("long", "cannot be read: File name too long"),
        ("null", "is not a path"),
    ],
)
def test_everything_else_is_one_sentence(tmp_path, monkeypatch, kind, words):
    monkeypatch.chdir(tmp_path)  # a socket's path may have a hundred letters at most
    path = tmp_path / "x"
    if kind == "below a file":
        path.write_text("")
        path = path / "y"
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind("x")
    elif kind == "device":
        path = "/dev/null"
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "long":
        path = tmp_path / ("x" * 300)
    elif kind == "null":
        path = "a\0b"
    with pytest.raises(UserError, match=words):
        check_is_file(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_text("x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(UserError, match="you lack the permission"):
        check_is_file(file)
