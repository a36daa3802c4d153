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
from typing import Any

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.settings import read_json

__all__ = ["Engine", "Job", "LocalEngine", "RayEngine", "SlurmEngine", "execute"]

POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True)
class Job:
    """One command in its run folder; picklable, so that it travels.

    Attributes:
        id: the run's id.
        argv: the command line.
        folder: the run folder, which exists.
        cwd: the working directory, as an absolute path.
    """

    id: str
    argv: tuple[str, ...]
    folder: str
    cwd: str

    @property
    def log(self) -> Path:
        """The file that takes what the run prints."""
        return Path(self.folder) / ".sweep.log"


class Engine(abc.ABC):
    """Runs jobs, at most `jobs` at a time. Never blocks; the sweep's loop asks it a few times a second."""

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._active: dict[str, Any] = {}  # id -> what runs the job

    def room(self) -> int:
        """Return how many more jobs may be started now."""
        return self._jobs - len(self._active)

    @abc.abstractmethod
    def start(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Start jobs; return those that were not, because another process works on them."""

    @abc.abstractmethod
    def end_of(self, running: Any) -> str | None:
        """Return how what runs a job ended, such as "exit code 1"; None while it runs."""

    @abc.abstractmethod
    def stop(self, signum: int, kill: bool) -> None:
        """Ask all jobs to save and stop; with `kill`, end them at once."""

    def finished(self) -> Mapping[str, str]:
        """Return the ids of jobs that ended since the last call, with how they ended."""
        ended = {key: end for key, running in self._active.items() if (end := self.end_of(running)) is not None}
        for key in ended:
            del self._active[key]
        return ended

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
                    job.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=job.cwd,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    process_group=0,
                    pass_fds=() if self._lock is None else (self._lock,),
                    preexec_fn=_child_setup(),
                )
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
    """Run a job to its end in this process, and return how it ended.

    Waits while another process works on the run. A Ctrl-C is passed on as SIGTERM, and the end waited for.

    Args:
        job: the job.
        running: told of the process when it has started.
    """
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

    def start(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Start a process for each job."""
        busy = []
        for job in jobs:
            try:
                self._active[job.id] = Process(job)
            except Busy:
                busy.append(job)
        return busy

    def end_of(self, running: Process) -> str | None:
        """Ask the process."""
        return running.poll()

    def stop(self, signum: int, kill: bool) -> None:
        """Pass the signal on."""
        for process in self._active.values():
            process.stop(signum, kill)


class SubmittedJob:
    """What submitit calls on the node. Preempted or out of time, the run saves, stops and is queued again."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._told = False

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


class SlurmEngine(Engine):
    """Jobs on a SLURM cluster, through submitit; `cluster="local"` runs submitit's own processes here.

    On SLURM all jobs are queued at once, as one array of which `jobs` run at a time. They outlive this process: their
    numbers are kept in the run folders (.sweep_job.json), and a later sweep waits for those still queued or running
    instead of submitting them again. Stopping cancels them, and SLURM gives them its KillWait (30 s unless the cluster
    says otherwise) to save.

    Args:
        out: the sweep's folder, on a file system that the nodes share.
        jobs: how many may run at the same time.
        cluster: "slurm" or "local".
        parameters: submitit's, such as {"timeout_min": 240, "slurm_partition": "gpu", "gpus_per_node": 1}.

    Raises:
        UserError: submitit is not installed, finds no SLURM, or refuses a parameter.
    """

    ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED", "STOPPED")

    def __init__(self, out: Path, jobs: int, cluster: str, parameters: Mapping[str, Any]):
        try:
            import submitit
        except ImportError:
            raise UserError("The engine slurm needs submitit: pip install 'paperloop-lab[slurm]'.") from None
        super().__init__(jobs)
        self._submitit, self._cluster = submitit, cluster
        self._folder = out.absolute() / ".sweep_slurm"
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster)
            self._executor.update_parameters(**parameters)
            if cluster == "slurm":
                self._executor.update_parameters(slurm_array_parallelism=jobs)
        except (RuntimeError, ValueError, NameError, AssertionError) as error:
            raise UserError(f"submitit refuses: {' '.join(str(error).split())}") from None

    def room(self) -> int:
        """Return how many more jobs may be queued: on a cluster, all."""
        return sys.maxsize if self._cluster == "slurm" else self._jobs - len(self._active)

    def start(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Queue jobs, and wait for those that an earlier sweep queued."""
        new = []
        for job in jobs:
            alive = self._alive(job)
            if alive is None:
                new.append(job)
            else:
                self._active[job.id] = alive
        if new:
            for job, submitted in zip(new, self._executor.map_array(SubmittedJob(), new), strict=True):
                self._active[job.id] = submitted
                record = {"cluster": self._cluster, "job_id": submitted.job_id}
                write_json(Path(job.folder) / ".sweep_job.json", record)
        return ()

    def end_of(self, running: Any) -> str | None:
        """Ask submitit."""
        if not running.done():
            return None
        try:
            return str(running.result())
        except Exception as error:  # submitit's own: time limit, node failure, a crash before our code ran
            return f"{running.state}: {(str(error).splitlines() or [type(error).__name__])[0]}"

    def stop(self, signum: int, kill: bool) -> None:
        """Cancel all."""
        for submitted in self._active.values():
            if self._cluster == "local" and not kill:
                # `cancel` gives a second only; a local job's number is its controller's, which passes SIGTERM on.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(submitted.job_id), signal.SIGTERM)
            else:
                submitted.cancel(check=False)

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


class RayEngine(Engine):
    """Tasks on a Ray cluster, at most `jobs` at a time. The nodes share the sweep's folder.

    Args:
        jobs: how many may run at the same time.
        address: a cluster's address or "auto"; None starts Ray on this machine, for this sweep only.
        cpus: CPU cores that a run reserves.
        gpus: GPUs that a run reserves; fractions share one.

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
        try:
            if address is None:
                ray.init(address="local", num_cpus=math.ceil(jobs * cpus), include_dashboard=False, log_to_driver=False)
            else:
                ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            raise UserError(f"There is no Ray cluster at {address}: {error}") from None
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(execute)

    def start(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Start a task for each job."""
        self._active.update({job.id: self._task.remote(job) for job in jobs})
        return ()

    def end_of(self, running: Any) -> str | None:
        """Ask Ray."""
        if not self._ray.wait([running], timeout=0)[0]:
            return None
        try:
            return str(self._ray.get(running))
        except self._ray.exceptions.RayError as error:  # the node died, the task was cancelled, ...
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def stop(self, signum: int, kill: bool) -> None:
        """Cancel all."""
        for reference in self._active.values():
            self._ray.cancel(reference, force=kill)  # without force, a KeyboardInterrupt inside `execute`

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


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
