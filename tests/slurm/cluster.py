"""A SLURM of one node on this machine: two processors, two pretended GPUs, no systemd, no database.

Configuration, key, sockets, state and logs are in one folder; the ports are free ones.  So
a cluster that the machine may be part of is neither seen nor disturbed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue", "srun")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
SEARCH_PATH = os.environ["PATH"] + os.pathsep + "/usr/sbin:/sbin"

# cred_expire is also how long a requeued job waits, KillWait the grace between SIGTERM and SIGKILL.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=15
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=15
ReturnToService=0
SlurmdTimeout=30
InactiveLimit=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=24:00:00 DefaultTime=60 State=UP
"""

# The executor plugin drops SLURM_CONF before it calls srun.  Clusters have their configuration in
# /etc/slurm and do not mind.
SRUN = """\
#!/bin/sh
SLURM_CONF={configuration} exec {srun} "$@"
"""

# Notes the queries that got no answer, for the test that stops the controller.
SQUEUE = """\
#!/bin/sh
{squeue} "$@" && exit 0
date >> {folder}/unanswered
exit 1
"""

# There is no accounting here, and the plugin turns to sacct when squeue does not answer.
SACCT = """\
#!/bin/sh
while [ $# -gt 0 ]; do
  [ "$1" = --name ] && exec squeue --format='%i|%T' --states=all --noheader --name "$2"
  shift
done
"""


class ClusterError(RuntimeError):
    """SLURM is missing, or did not do what was asked of it."""


def install() -> None:
    """Find SLURM, or install it where that is allowed: as root, with apt.

    Raises:
        ClusterError: SLURM is missing and cannot be installed.
    """
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCH_PATH)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ClusterError(
            f"SLURM is not installed ({', '.join(missing)} missing). On Debian or Ubuntu: "
            f"sudo apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        )
    command = ("apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(command, env=quiet, capture_output=True, check=False).returncode != 0:
        subprocess.run(("apt-get", "update"), env=quiet, capture_output=True, check=False)
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        ClusterError: it did not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.2)


@dataclass(frozen=True)
class Job:
    """A job in the queue: its number, state and what Snakemake says of it."""

    number: str
    state: str
    comment: str


@dataclass(frozen=True)
class Cluster:
    """A cluster whose files are in ``folder``."""

    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "etc" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's commands reach this cluster and no other."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SNAKEMAKE_"))
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{SEARCH_PATH}"
        return kept | {"PATH": path, "SLURM_CONF": str(self.configuration)}

    def run(self, *command: str) -> str:
        """Run one of SLURM's commands and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout

    def start(self) -> None:
        """Write the configuration and start the three daemons."""
        for name in ("bin", "etc", "log", "run", "spool", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o755)
        self.folder.chmod(0o755)
        self._write_configuration()
        run, log = self.folder / "run", self.folder / "log"
        self.run(
            "munged",
            "--force",
            f"--key-file={self.folder / 'etc' / 'munge.key'}",
            f"--socket={run / 'munge.socket'}",
            f"--pid-file={run / 'munged.pid'}",
            f"--log-file={log / 'munged.log'}",
            f"--seed-file={run / 'munged.seed'}",
            "--num-threads=2",
        )
        self.start_controller()
        self.run("slurmd")
        wait_until(self._is_up, 30, f"no node is up; see {log}")

    def stop(self) -> None:
        """End all jobs and the daemons that :meth:`start` started."""
        if self._pid("slurmctld") is not None:
            numbers = [job.number for job in self.jobs()]
            if numbers:
                self.run("scancel", *numbers)
                wait_until(lambda: not self.jobs(), 60, "cancelled jobs go on")
        for daemon in ("slurmd", "slurmctld", "munged"):
            self._end(daemon)

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self.run("slurmctld")
        wait_until(self._answers, 30, "slurmctld does not answer")

    def stop_controller(self) -> None:
        self._end("slurmctld")

    def set_node(self, state: str) -> None:
        """Set the node DOWN, or take it back with RESUME."""
        host = _host()
        self.run("scontrol", "update", f"nodename={host}", f"state={state}", "reason=test")

    def jobs(self, *options: str) -> list[Job]:
        """The jobs that wait, run or end; with ``--states=all`` also those that ended."""
        lines = self.run("squeue", "--noheader", "--format=%i|%T|%k", *options).splitlines()
        return [Job(*line.split("|", 2)) for line in lines]

    def running(self, *words: str) -> Job | None:
        """A running job whose comment has all these words."""
        for job in self.jobs("--states=RUNNING"):
            if all(word in job.comment for word in words):
                return job
        return None

    def unanswered(self) -> int:
        """How many squeue calls got no answer so far."""
        file = self.folder / "unanswered"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def _write_configuration(self) -> None:
        etc, programs = self.folder / "etc", self.folder / "bin"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
        controller_port, node_port = _free_ports()
        text = CONFIGURATION.format(
            folder=self.folder,
            host=_host(),
            user=_user(),
            memory=memory,
            controller_port=controller_port,
            node_port=node_port,
        )
        self.configuration.write_text(text)
        devices = "".join(f"Name=gpu File={file}\n" for file in ("/dev/null", "/dev/zero"))
        (etc / "gres.conf").write_text(devices)
        key = etc / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        places = {name: shutil.which(name, path=SEARCH_PATH) for name in ("srun", "squeue")}
        places |= {"configuration": str(self.configuration), "folder": str(self.folder)}
        scripts = {"srun": SRUN.format(**places), "squeue": SQUEUE.format(**places), "sacct": SACCT}
        for name, script in scripts.items():
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)

    def _answers(self) -> bool:
        try:
            return "UP" in self.run("scontrol", "ping")
        except ClusterError:
            return False

    def _is_up(self) -> bool:
        try:
            states = self.run("sinfo", "--noheader", "--format=%T").split()
        except ClusterError:
            return False
        return bool(states) and states[0] in ("idle", "mixed", "allocated")

    def _pid(self, daemon: str) -> int | None:
        """The process of a daemon that was started here and lives."""
        try:
            pid = int((self.folder / "run" / f"{daemon}.pid").read_text())
            # "pid (name) state …"; a dead process stays as Z where nobody collects it.
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(") ")
        except (OSError, ValueError):
            return None
        alive = name.endswith(daemon[:15]) and not rest.startswith("Z")
        return pid if alive else None

    def _end(self, daemon: str) -> None:
        pid = self._pid(daemon)
        if pid is not None:
            os.kill(pid, 15)
            wait_until(lambda: self._pid(daemon) is None, 30, f"{daemon} does not end")


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _user() -> str:
    return subprocess.run(("id", "-un"), capture_output=True, text=True, check=True).stdout.strip()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
