"""Where the runs of a sweep are executed: processes here, jobs on SLURM, tasks on Ray.

All engines run the same `Job`, a command in its run folder. Whether the run is done is for run.json to say.
"""

from __future__ import annotations

import abc
import contextlib
import ctypes
import dataclasses
import fcntl  # POSIX only, and so are the machines that train
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.settings import read_json

__all__ = ["Engine", "Job", "LocalEngine", "RayEngine", "Running", "SlurmEngine", "execute"]

POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True)
class Job:
    """One command in its run folder; picklable, so that it travels."""

    id: str
    argv: tuple[str, ...]
    folder: str  # exists
    cwd: str  # the working directory, as an absolute path

    @property
    def log(self) -> Path:
        """The file that takes what the run prints."""
        return Path(self.folder) / ".sweep.log"


class Running(Protocol):
    """A job that was started. Neither call blocks."""

    def poll(self) -> str | None:
        """Return how the job ended, such as "exit code 1"; None while it runs."""

    def stop(self, signum: int, kill: bool) -> None:
        """Ask the job to save and stop; with `kill`, end it at once."""


class Engine(abc.ABC):
    """Where jobs run, at most `jobs` of them at a time."""

    def __init__(self, jobs: int):
        self.jobs = jobs

    @abc.abstractmethod
    def start(self, jobs: Sequence[Job]) -> Sequence[Running | None]:
        """Start jobs, without waiting for them; None stands for one that another process works on."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Release what the engine holds."""


class Busy(Exception):
    """Another process works on the run."""


class Process:
    """A job's process on this machine, with its log and its lock.

    The process has a process group of its own, so that a Ctrl-C on the terminal reaches it once, through `stop`, and
    not twice. It inherits the lock, so that the run stays locked for as long as anybody works on it, also when the
    sweep was killed.

    Raises:
        Busy: another process holds the run's lock.
    """

    def __init__(self, job: Job):
        folder = Path(job.folder)
        self._lock = _acquire(folder / ".sweep.lock")
        try:
            with job.log.open("ab") as log:
                log.write(f"# {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {' '.join(job.argv)}\n".encode())
                log.flush()
                self._popen = subprocess.Popen(
                    job.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=job.cwd,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"}, process_group=0, preexec_fn=_child_setup(),
                    pass_fds=() if self._lock is None else (self._lock,),
                )  # fmt: skip
        except BaseException:
            self.release()
            raise

    def poll(self) -> str | None:
        """How the process ended, or None while it runs."""
        code = self._popen.poll()
        if code is None:
            return None
        self.release()
        return f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"

    def stop(self, signum: int, kill: bool) -> None:
        """Send the process `signum`, or kill its whole group."""
        with contextlib.suppress(ProcessLookupError):
            if self._popen.poll() is None:
                if kill:
                    os.killpg(self._popen.pid, signal.SIGKILL)
                else:
                    self._popen.send_signal(signum)

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def execute(job: Job, running: Callable[[Process], None] = lambda process: None) -> str:
    """Run a job to its end in this process, and return how it ended; tell `running` of its process.

    Waits while another process works on the run. A Ctrl-C is passed on as SIGTERM, and the end waited for.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us in the background
    while True:
        try:
            process = Process(job)
            break
        except Busy:
            time.sleep(1.0)
    running(process)
    while True:
        try:
            while (end := process.poll()) is None:
                time.sleep(POLL_SECONDS)
            return end
        except KeyboardInterrupt:
            process.stop(signal.SIGTERM, kill=False)


class LocalEngine(Engine):
    """Processes on this machine."""

    def start(self, jobs: Sequence[Job]) -> list[Process | None]:
        """Start a process for each job."""
        started: list[Process | None] = []
        for job in jobs:
            try:
                started.append(Process(job))
            except Busy:
                started.append(None)
        return started


class SubmittedJob:
    """What submitit calls on the node. Preempted or out of time, the run saves, stops and is queued again."""

    _process: Process | None = None
    _told = False

    def __call__(self, job: Job) -> str:
        """Run the job to its end."""
        signal.signal(signal.SIGTERM, self._terminate)  # submitit only logs it
        return execute(job, self._running)

    def checkpoint(self, job: Job) -> Any:
        """Submitit calls this before it queues the job again: wait until the run has saved and stopped."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        while self._process is not None and self._process.poll() is None:
            time.sleep(POLL_SECONDS)
        return DelayedSubmission(SubmittedJob(), job)

    def _terminate(self, signum: int, frame: Any) -> None:
        if os.environ.get("SUBMITIT_EXECUTOR") == "local":
            self._stop()
        self._told = True  # SLURM signals every process of the job; a second signal would end the run unsaved

    def _stop(self) -> None:
        if self._process is not None and not self._told:
            self._process.stop(signal.SIGTERM, kill=False)
        self._told = True

    def _running(self, process: Process) -> None:
        self._process = process
        if self._told:
            process.stop(signal.SIGTERM, kill=False)


class _Submitted:
    """A job of submitit's."""

    def __init__(self, job: Any, local: bool):
        self._job, self._local = job, local

    def poll(self) -> str | None:
        if not self._job.done():
            return None
        try:
            return str(self._job.result())
        except Exception as error:  # submitit's own: time limit, node failure, a crash before our code ran
            return f"{self._job.state}: {_first_line(error)}"

    def stop(self, signum: int, kill: bool) -> None:
        if self._local and not kill:
            # `cancel` gives a second only; a local job's number is its controller's, which passes SIGTERM on.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self._job.job_id), signal.SIGTERM)
        else:
            self._job.cancel(check=False)


class SlurmEngine(Engine):
    """Jobs on a SLURM cluster, through submitit; `cluster="local"` runs submitit's own processes here.

    On SLURM all jobs are queued at once, as one array of which `jobs` run at a time. They outlive this process: their
    numbers are kept in the run folders (.sweep_job.json), and a later sweep waits for those still queued or running
    instead of submitting them again. Stopping cancels them, and SLURM gives them its KillWait (30 s unless the cluster
    says otherwise) to save.

    The sweep's folder `out` is on a file system that the nodes share; `parameters` are submitit's.

    Raises:
        UserError: submitit is not installed, finds no SLURM, or refuses a parameter.
    """

    ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED", "STOPPED")

    def __init__(self, out: Path, jobs: int, cluster: str, parameters: Mapping[str, Any]):
        try:
            import submitit
        except ImportError:
            raise UserError("The engine slurm needs submitit: pip install 'paperloop-lab[slurm]'.") from None
        super().__init__(sys.maxsize if cluster == "slurm" else jobs)
        self._submitit, self._cluster = submitit, cluster
        self._folder = out.absolute() / ".sweep_slurm"
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster)
            self._executor.update_parameters(**parameters)
            if cluster == "slurm":
                self._executor.update_parameters(slurm_array_parallelism=jobs)
        except (RuntimeError, ValueError, NameError, AssertionError) as error:
            raise UserError(f"submitit refuses: {' '.join(str(error).split())}") from None

    def start(self, jobs: Sequence[Job]) -> list[_Submitted]:
        """Queue jobs, and find those that an earlier sweep queued."""
        found = {job.id: self._alive(job) for job in jobs}
        new = [job for job in jobs if found[job.id] is None]
        for job, submitted in zip(new, self._executor.map_array(SubmittedJob(), new) if new else (), strict=True):
            found[job.id] = submitted
            record = {"cluster": self._cluster, "job_id": submitted.job_id}
            write_json(Path(job.folder) / ".sweep_job.json", record)
        return [_Submitted(found[job.id], self._cluster == "local") for job in jobs]

    def _alive(self, job: Job) -> Any:
        """The job of an earlier sweep that is still queued or running on the cluster, or None."""
        path = Path(job.folder) / ".sweep_job.json"
        if self._cluster != "slurm" or not path.exists():
            return None
        record = read_json(path)
        if record.get("cluster") != "slurm":
            return None
        submitted = self._submitit.SlurmJob(folder=self._folder, job_id=record["job_id"])
        return submitted if submitted.state.split(" ")[0] in self.ALIVE else None


class _Task:
    """A task of Ray's."""

    def __init__(self, ray: Any, reference: Any):
        self._ray, self._reference = ray, reference

    def poll(self) -> str | None:
        if not self._ray.wait([self._reference], timeout=0)[0]:
            return None
        try:
            return str(self._ray.get(self._reference))
        except self._ray.exceptions.RayError as error:  # the node died, the task was cancelled, ...
            return f"{type(error).__name__}: {_first_line(error)}"

    def stop(self, signum: int, kill: bool) -> None:
        self._ray.cancel(self._reference, force=kill)  # without force, a KeyboardInterrupt inside `execute`


class RayEngine(Engine):
    """Tasks on a Ray cluster, at most `jobs` at a time, each of which reserves CPU cores and GPUs.

    The nodes share the sweep's folder. The address is a cluster's or "auto"; None starts Ray on this machine, for this
    sweep only.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, jobs: int, address: str | None = None, cpus: float = 1, gpus: float = 0):
        try:
            import ray  # ty: ignore[import-not-found]
        except ImportError:
            raise UserError("The engine ray needs Ray: pip install 'paperloop-lab[ray]'.") from None
        super().__init__(jobs)
        self._ray = ray
        here = {"num_cpus": math.ceil(jobs * cpus), "include_dashboard": False} if address is None else {}
        try:
            ray.init(address=address or "local", log_to_driver=False, **here)
        except ConnectionError as error:
            raise UserError(f"There is no Ray cluster at {address}: {error}") from None
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(execute)

    def start(self, jobs: Sequence[Job]) -> list[_Task]:
        """Start a task for each job."""
        return [_Task(self._ray, self._task.remote(job)) for job in jobs]

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _acquire(path: Path) -> int | None:
    """A descriptor that holds the lock; None where the file system has no locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(str(path)) from None
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _child_setup() -> Callable[[], None]:
    """What the child does before it becomes the command: ask Linux for a SIGTERM when its parent dies.

    Without that, a sweep ended by `kill -9` or by the memory killer would leave its runs behind. SLURM's warning
    signals go to every process of a job, and would end the run before it is asked to save.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def setup() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:  # it died in between
                os._exit(143)

    return setup
