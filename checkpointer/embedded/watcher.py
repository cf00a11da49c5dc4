"""The parent process of the embedded server: starts it, counts its users, stops it.

Run by path as `python -I -S watcher.py` with the plan on standard input, in a session of its own, so that Ctrl-C in a
terminal does not reach it. Imports the standard library only, and little of it: the first command of the day waits for
this interpreter.

The server ends when
- no process has held the users' lock for `grace` seconds, or for longer if a user has asked for that, and no client is
  connected. The lock is kept exclusively while the server stops, so a command that comes too late waits, and then
  starts the server again;
- another process asks for it (`stop` file, SIGTERM);
- the home folder is deleted;
- this process dies, by `kill -9` too (Linux: PR_SET_PDEATHSIG).

A server that is killed is started again as long as it has users, unless it dies at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOOK = 0.1  # seconds between two looks at users, requests and the server
NEW_DATA = "{data}"  # in a command of the plan: the data folder while it is being created
BUSY = 75  # exit status: another watcher is at work (EX_TEMPFAIL)
PR_SET_PDEATHSIG = 1


def own(path: Path) -> int:
    """Opens a lock file of ours, never through a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def take(path: Path, seconds: float) -> int | None:
    """Takes an exclusive lock within `seconds`; the time is for those who only look whether it is held."""
    fd = own(path)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.005)
        else:
            return fd


def asked_for(fd: int) -> float:
    """Reads from the users' lock for how long a server is to outlast its last user; 0 if nobody has said."""
    try:
        return float(os.pread(fd, 40, 0) or 0)
    except ValueError:
        return 0.0


def say(text: str) -> None:
    """Writes a line to the server's log."""
    sys.stderr.write(f"watcher: {text}\n")
    sys.stderr.flush()


def connected(sockets: str) -> bool:
    """Whether any client has a connection, such as a psql that holds no lock. Known on Linux only; else no."""
    try:
        table = Path("/proc/net/unix").read_text()
    except OSError:
        return False
    rows = (line.split() for line in table.splitlines()[1:])
    established = "03"
    return any(len(row) > 7 and row[5] == established and row[7].startswith(f"{sockets}/.s.PGSQL.") for row in rows)


class Users:
    """The processes that share the users' lock, and clients that are connected without it."""

    def __init__(self, path: Path, grace: float, sockets: str) -> None:
        self.sockets = sockets
        self.fd = own(path)
        self.grace = grace
        self.idle_since: float | None = None
        self.stamp = 0

    def gone(self) -> bool:
        """Says whether no user has been here for the grace time. If so, the lock stays with us and none can come."""
        info = os.fstat(self.fd)
        if info.st_nlink == 0:
            say("the home folder was deleted")
            return True
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.idle_since = None
            return False
        now = time.monotonic()
        if self.idle_since is None or info.st_mtime_ns != self.stamp:  # a user came and went between two looks
            self.idle_since, self.stamp = now, info.st_mtime_ns
        if now - self.idle_since >= max(self.grace, asked_for(self.fd)):
            if not connected(self.sockets):
                return True
            self.idle_since = now
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False


class Server:
    """The server's process, as the plan describes it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.home = Path(plan["home"])
        self.data = self.home / "data"

    def popen(self, command: list[str], *, named: bool = False, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program as the server's account, or as the named one in its group, that dies with this process."""
        me, libc = os.getpid(), None
        if sys.platform == "linux":
            import ctypes

            libc = ctypes.CDLL(None)

        def die_with_parent() -> None:  # after the change of account, which would clear it
            if libc is not None:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
                if os.getppid() != me:
                    os._exit(1)

        if self.plan["user"] is not None:
            user = self.plan["named" if named else "user"]
            options |= {"user": user, "group": self.plan["group"], "extra_groups": []}
        return subprocess.Popen(  # noqa: S603 - the plan is ours
            command, env=self.plan["environment"], cwd=self.home, preexec_fn=die_with_parent, **options
        )

    def initialise(self) -> None:
        """Creates the data folder in another one first, so that it is complete or not there at all.

        The programs look themselves up in the password database, where the server's account has no entry. So they run
        as a named account, in the server's group, and no process outside the group can enter the folder around them.
        """
        for left_over in self.home.glob("init-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        around = self.home / f"init-{os.getpid()}"
        partial = around / "data"
        around.mkdir(mode=0o700)
        partial.mkdir(mode=0o700)
        if self.plan["user"] is not None:
            os.chown(partial, self.plan["named"], self.plan["group"])
            os.chown(around, -1, self.plan["group"])
            around.chmod(0o710)
        steps = ((self.plan["initdb"], ""), (self.plan["create"], self.plan["create_sql"]))
        for words, text in steps:
            command = [str(partial) if word == NEW_DATA else word for word in words]
            running = self.popen(command, named=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            running.communicate(text.encode())
            if running.returncode:
                say(f"{command[0]} failed with status {running.returncode}")
                sys.exit(1)
        if self.plan["user"] is not None:
            self.give(partial)
        partial.rename(self.data)
        around.rmdir()
        folder = os.open(self.home, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def give(self, folder: Path) -> None:
        """Makes everything in a folder that no other process is working in the server account's."""
        for _, _, files, fd in os.fwalk(folder):
            os.fchown(fd, self.plan["user"], self.plan["group"])
            for each in files:
                os.chown(each, self.plan["user"], self.plan["group"], dir_fd=fd, follow_symlinks=False)

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the server once every process of the one before is gone, and clears what that one left."""
        lock = take(self.home / "server.lock", 0)
        if lock is None:
            lock = self.outlive()
        if not self.data.exists():
            self.initialise()
        self.clear_stale(self.data / "postmaster.pid")
        for left_over in Path(self.plan["sockets"]).glob(".s.PGSQL.*.lock"):
            self.clear_stale(left_over)
        process = self.popen(self.plan["postgres"], stdin=subprocess.DEVNULL, pass_fds=[lock])
        os.close(lock)  # now held by the server and its backends alone
        return process

    def outlive(self) -> int:
        """Waits for processes of an earlier server, whose watcher was killed."""
        if sys.platform != "linux":  # there it got SIGQUIT already
            self.quit_orphan()
        lock = take(self.home / "server.lock", 30)
        if lock is None:
            say("processes of an earlier server do not end")
            sys.exit(1)
        return lock

    def quit_orphan(self) -> None:
        """Stops a server that outlived its watcher, on systems where it cannot be made to die with it."""
        try:
            pid = (self.data / "postmaster.pid").read_text().split()[0]
            command = ["/bin/ps", "-o", "comm=", "-p", str(int(pid))]
            if b"postgres" in subprocess.run(command, capture_output=True, check=False).stdout:  # noqa: S603
                os.kill(int(pid), signal.SIGQUIT)
        except (OSError, ValueError, IndexError):
            return

    def clear_stale(self, path: Path) -> None:
        """Removes the pid file of a dead server, whose number may belong to another program by now.

        PostgreSQL alone would refuse to start then. We hold the lock that every process of our servers holds, so the
        file is stale, unless a server was started on this data by hand: that one works in the data folder.
        """
        try:
            pid = int(path.read_text().split()[0])
            os.kill(pid, 0)
            by_hand = self.data.samefile(f"/proc/{pid}/cwd")
        except FileNotFoundError:
            by_hand = path.exists() and not Path("/proc/self").exists()
        except (OSError, ValueError, IndexError):
            by_hand = False
        if not by_hand:
            path.unlink(missing_ok=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stops the server: cleanly if that is quick, by force if it is not."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 6), (signal.SIGKILL, 5)):
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            say(f"the server did not end within {seconds} s of signal {number}")
        else:
            return


def watch(server: Server, users: Users) -> int:
    """Keeps the server running until it is not wanted any more. Returns an exit status."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _frame: asked.append(signum))
    request = server.home / "stop"
    request.unlink(missing_ok=True)
    while True:
        process = server.start()
        started = time.monotonic()
        while (status := process.poll()) is None:
            if asked or request.exists() or users.gone():
                end(process)
                request.unlink(missing_ok=True)
                os.ftruncate(users.fd, 0)  # what users have asked for was asked of this server
                return 0
            time.sleep(LOOK)
        say(f"the server ended with status {status}")
        if status >= 0 or time.monotonic() - started < 1:
            return 1


def main() -> int:
    """Takes the watcher's lock, detaches from the caller, and watches."""
    plan: dict[str, Any] = json.load(sys.stdin)
    here = Path().stat()
    if [here.st_dev, here.st_ino] != plan["identity"]:
        say(f"the current folder is not {plan['home']}, or not the one that was checked")
        return 1
    plan["home"] = "."  # whatever becomes of its path now, this folder it is
    server = Server(plan)
    if take(server.home / "watcher.lock", 0.5) is None:
        return BUSY
    # The caller waits for this process only: when it ends, the lock is held, and it has no child to look after.
    if os.fork():
        os._exit(0)
    return watch(server, Users(server.home / "users.lock", plan["grace"], plan["sockets"]))


if __name__ == "__main__":
    sys.exit(main())
