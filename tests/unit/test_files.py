"""Files are whole, sealed, and the same bytes for the same content."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from trap2.runtime import files

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "b": torch.ones(5, dtype=torch.bfloat16),
    "step": torch.tensor(3),
}
METADATA = {"format": "pt", "names": "é\nb", "x": "1"}


@pytest.fixture
def sealed(tmp_path) -> Path:
    path = tmp_path / "sealed.safetensors"
    files.write_tensors(path, TENSORS, METADATA)
    return path


def test_tensors_and_metadata_come_back(sealed):
    read = files.read_tensors(sealed)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)
    assert METADATA.items() <= files.read_metadata(sealed).items()


def test_another_reader_opens_a_sealed_file(sealed):
    with safe_open(sealed, framework="pt") as file:
        assert torch.equal(file.get_tensor("a.weight"), TENSORS["a.weight"])


def test_equal_tensors_are_equal_bytes_in_every_process(sealed, tmp_path):
    """The safetensors library orders metadata by chance."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from trap2.runtime import files; import json;"
        "t = files.read_tensors(sys.argv[2]); files.write_tensors(sys.argv[3], t, "
        "json.loads(sys.argv[4]))"
    )
    other = tmp_path / "other.safetensors"
    arguments = [str(SCRIPTS), str(sealed), str(other), json.dumps(METADATA)]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    assert other.read_bytes() == sealed.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_detected(sealed, seed):
    content = bytearray(sealed.read_bytes())
    place = random.Random(seed).randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    sealed.write_bytes(content)
    with pytest.raises(files.FileError, match=r"sealed\.safetensors.*[Dd]elete it"):
        files.read_tensors(sealed)


@pytest.mark.parametrize("length", [0, 7, 60, -1])
def test_a_truncated_file_is_detected(sealed, length):
    sealed.write_bytes(sealed.read_bytes()[:length])
    with pytest.raises(files.FileError, match=r"sealed\.safetensors"):
        files.read_tensors(sealed)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_named_safetensors_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "model.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(files.FileError, match=r"model\.safetensors.*not a readable safetensors"):
        files.read_tensors(path)
    assert not marker.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(path, {"a": float("nan")})

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_whole(path, fail)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]
