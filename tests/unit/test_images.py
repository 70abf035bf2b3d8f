"""Images that cannot be read are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from trap2.data.images import open_image
from trap2.runtime import files


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", r"empty \(0 bytes\)"),
        (lambda content: content[: len(content) // 2], "damaged or truncated image"),
        (lambda content: b"<html>not found</html>", "not an image of any known format"),
    ],
)
def test_a_damaged_image_is_named(damage, message: str, laid_out, tmp_path: Path) -> None:
    image = next((laid_out("dtd") / "dtd" / "images").rglob("*.jpg"))
    path = tmp_path / "picture.jpg"
    path.write_bytes(damage(image.read_bytes()))
    with pytest.raises(files.FileError, match=rf"picture\.jpg: .*{message}"):
        open_image(path)
    with pytest.raises(files.FileError, match=r"none\.jpg: cannot be read"):
        open_image(tmp_path / "none.jpg")
