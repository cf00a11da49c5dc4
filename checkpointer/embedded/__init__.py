"""An embedded PostgreSQL 18 with pgvector, for machines that have no server of their own.

One server per folder (`.runtime` by default), shared by every command that asks for it, and gone a few seconds after
the last of them, however that one ended. Nothing listens on the network.

    `binaries`  where the server's programs are
    `trust`     folders and files that nobody else can change, opened so that no link leads elsewhere
    `accounts`  as which account of the operating system it runs
    `place`     which folders a server uses
    `cluster`   the command lines: creating the data folder, starting the server
    `watcher`   the parent process of the server; runs on its own, imports nothing of ours
    `probe`     "does it accept connections?", asked over the socket
    `locks`     the file locks that the other modules meet at
    `upgrade`   what happens once to a cluster that 0.1.0 made
    `server`    what callers use
"""

from superstep.checkpointer.embedded.binaries import bin_dir
from superstep.checkpointer.embedded.server import EmbeddedServer, ServerStatus, status, stop

__all__ = ["EmbeddedServer", "ServerStatus", "bin_dir", "status", "stop"]
