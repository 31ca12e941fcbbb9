"""A proxy before PostgreSQL that ends a connection at a chosen message, before it arrives or before its answer does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

SOCKET = ".s.PGSQL.5432"


class CutConnection:
    """Passes bytes between clients and the socket of a PostgreSQL, and breaks off once where it is told.

    Parameters
    ----------
    server : Path
        The Unix socket of the server.
    folder : Path
        The folder in which clients find the proxy's own socket; its path is short, as those of sockets must be.
    """

    def __init__(self, server: Path, folder: Path) -> None:
        self._server, self.folder = server, folder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        self._lock = threading.Lock()
        self._left, self._side = 0, ""
        self.cut = False
        """Whether a connection was ended since the last :meth:`arm`."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def arm(self, nth: int, side: str) -> None:
        """End the connection of the ``nth`` message from now, ``before`` it arrives or ``after`` it was carried out."""
        with self._lock:
            self._left, self._side, self.cut = nth, side, False

    def disarm(self) -> None:
        """Pass everything on."""
        self.arm(0, "")

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(str(self._server))
        with client, server, suppress(OSError):  # one end has gone
            silent = threading.Event()
            back = threading.Thread(target=self._answers, args=(server, client, silent), daemon=True)
            back.start()
            while message := client.recv(1 << 16):
                side = self._chosen()
                if side == "before":
                    break
                if side == "after":
                    silent.set()
                server.sendall(message)
                if side == "after":
                    # Who closes its end at once would cancel what the server has not begun.
                    server.shutdown(socket.SHUT_WR)
                    back.join(timeout=10)
                    break
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join(timeout=10)

    def _chosen(self) -> str:
        with self._lock:
            if not self._left:
                return ""
            self._left -= 1
            if self._left:
                return ""
            self.cut = True
            return self._side

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):  # one end has gone
            while answer := server.recv(1 << 16):
                if not silent.is_set():
                    client.sendall(answer)
