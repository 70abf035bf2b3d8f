"""Results that are dated in the future end a run, with a command that mends it."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from trap2.runtime.clock import Trap2Error, refuse_future_files


def test_a_file_of_the_future_is_named_and_the_remedy_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/a b"
    folder.mkdir(parents=True)
    for name in ("now.json", "late'r.json"):
        (folder / name).write_text("{}", "utf-8")
    refuse_future_files(["results", "absent"])
    tomorrow = time.time() + 86400
    os.utime(folder / "late'r.json", (tomorrow, tomorrow))
    with pytest.raises(
        Trap2Error, match=r"a file is dated in the future, such as results/a b/la"
    ) as e:
        refuse_future_files(["results", "absent"])
    command = str(e.value).splitlines()[-1]
    subprocess.run(command, shell=True, check=True)
    refuse_future_files(["results", "absent"])


def test_a_link_to_nowhere_does_not_matter(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refuse_future_files([tmp_path])
