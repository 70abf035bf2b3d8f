"""A released file is the one that data.dvc, and with it Git, knows of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trap2.runtime import dvc, files, provenance


@pytest.fixture
def tracked(tmp_path, monkeypatch) -> Path:
    """A folder that DVC itself has added."""
    monkeypatch.chdir(tmp_path)
    files.write_json("data/demo/manifest.json", {"files": {"demo/a.bin": files_digest()}})
    files.write_bytes("data/demo/a.bin", b"a")
    files.write_bytes("data/demo/a-b/c.bin", b"c")
    command = [sys.executable, "-m", "dvc"]
    subprocess.run([*command, "init", "--no-scm", "--quiet"], check=True)
    subprocess.run([*command, "add", "data", "--quiet"], check=True)
    dvc._listing.cache_clear()
    return Path("data/demo/manifest.json")


def files_digest() -> str:
    return "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


@pytest.mark.parametrize("cached", [True, False])
def test_what_dvc_recorded_is_taken_with_and_without_its_cache(tracked, cached):
    if not cached:
        shutil.rmtree(".dvc/cache")
    dvc.check(tracked, Path("data"))
    assert provenance.check_inputs(["data/demo/a.bin"]) == {"data/demo/a.bin": files_digest()}


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_and_its_manifest_edited_together_are_refused(tracked, cached):
    if not cached:
        shutil.rmtree(".dvc/cache")
    files.write_bytes("data/demo/a.bin", b"b")
    digest = files.sha256("data/demo/a.bin")
    files.write_json(tracked, {"files": {"demo/a.bin": digest}})
    with pytest.raises(files.FileError, match=r"manifest\.json: not what data\.dvc"):
        provenance.check_inputs(["data/demo/a.bin"])


def test_make_gives_dvc_a_folder_that_can_be_written(monkeypatch):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    project = Path(__file__).parents[2]
    # The tests may be a recipe of make themselves; this make is not a part of that one.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)
    command = ["make", "--eval", "show: ; @echo $$DVC_SITE_CACHE_DIR", "show"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(project / ".dvc/tmp/site")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/own")
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "/own"


def test_a_damaged_pointer_is_named(tracked):
    Path("data.dvc").write_text("outs: 3\n", "utf-8")
    with pytest.raises(files.FileError, match=r"data\.dvc: not what `dvc add data` writes"):
        dvc.check(tracked, Path("data"))


def test_a_folder_that_is_not_tracked_is_taken_as_it_is(tracked):
    Path("data.dvc").unlink()
    tracked.write_text("{}", "utf-8")
    dvc.check(tracked, Path("data"))
