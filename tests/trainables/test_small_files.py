from __future__ import annotations

from pathlib import Path

import pytest

from kdsearch.trainables.small_files import write_whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "1-2.pt"
    write_whole(path, {"epoch": 2})

    def full(self, text, encoding):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, {"epoch": 3})
    monkeypatch.undo()
    assert [each.read_text() for each in tmp_path.iterdir()] == ['{"epoch": 2}']
