"""What every script of the workflow does around its work: log, device, errors."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trap2.runtime import plugins, provenance

if TYPE_CHECKING:
    pass


LOG = logging.getLogger("trap2")


TERMINAL_SECONDS = 20.0


@contextmanager
def running(snakemake: Any) -> Iterator[Callable[[str], None]]:
    """Check a job's inputs, log its lines, warnings and errors, and record how it went.

    Yields:
        A function that writes one line with the time to the log, and now and then, from a job
        that takes its time, to the terminal as well.

    A failure ends the job with one line on the terminal; the log has the traceback.
    """
    started = time.monotonic()
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        yield from _logged(snakemake, path, started)


def _logged(snakemake: Any, path: Path, started: float) -> Iterator[Callable[[str], None]]:
    logging.basicConfig(
        filename=path,
        filemode="w",
        format="%(asctime)s %(message)s",
        force=True,
    )
    logging.captureWarnings(True)
    # Of others' lines warnings are enough: a library that embeds fonts tells of every glyph.
    LOG.setLevel(logging.INFO)
    try:
        plugins.load(snakemake.config.get("plugins", []))
        _check_promised_gpu(snakemake)
        inputs = provenance.check_inputs(snakemake.input)
        yield _teller(snakemake)
        if snakemake.output:
            provenance.write_record(_described(snakemake), inputs, time.monotonic() - started)
    except Exception as error:
        LOG.error(traceback.format_exc())
        print(f"{snakemake.rule}: {error or type(error).__name__} (log: {path})", file=sys.stderr)
        sys.exit(1)
    finally:
        logging.shutdown()


def _teller(snakemake: Any) -> Callable[[str], None]:
    """Log a line; show it on the terminal if nothing was for :data:`TERMINAL_SECONDS`."""
    shown = time.monotonic()
    name = " ".join((snakemake.rule, *map(str, dict(snakemake.wildcards).values())))

    def log(line: str) -> None:
        nonlocal shown
        LOG.info(line)
        if time.monotonic() - shown >= TERMINAL_SECONDS:
            shown = time.monotonic()
            print(f"    {name}: {line.splitlines()[0]}", file=sys.stderr, flush=True)

    return log


@contextmanager
def _alone(log: Path) -> Iterator[None]:
    """Wait for an earlier run's process that still makes the same files.

    Killing Snakemake leaves its jobs at work; what they make is right, but two writers would mix
    the files of two runs.
    """
    with open(log, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for an earlier run's job that still writes {log}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks, as on some clusters, where SLURM's jobs are asked for
            # before a run starts.
            pass
        yield


def _described(snakemake: Any) -> provenance.Described:
    return {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards),
        "params": dict(snakemake.params),
        "outputs": list(map(str, snakemake.output)),
    }


def _check_promised_gpu(snakemake: Any) -> None:
    """End a job that waited for a GPU and got none, before a CPU spends days on its work."""
    resources, configured = snakemake.resources, snakemake.params.get("device", "cpu")
    options = (str(resources.get(name, "")) for name in ("gres", "slurm_extra"))
    promised = resources.get("gpu") or any("gpu" in text for text in options)
    if not promised or configured == "cpu":
        return
    import torch

    if torch.cuda.is_available():
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    raise RuntimeError(
        f"this job was promised a GPU, but PyTorch {torch.__version__} sees none on "
        f"{platform.node()} (CUDA_VISIBLE_DEVICES: {visible}). Check what the job asks for "
        "(gpu_jobs in slurm/site.yaml) and the node's driver (nvidia-smi), or allow the CPU "
        "with --config device=cpu"
    )
