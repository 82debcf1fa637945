"""Ports on the loopback address."""

import errno
import socket

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 1.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different. Whoever uses one must be ready to find it taken."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_taken(port: int) -> bool:
    """Whether a server could not bind this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def bind_problem(host: str, port: int) -> str | None:
    """Why a server could not listen there now; None if it could."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()  # of two sockets that may share a port, only one can listen
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} is taken"
            if error.errno == errno.EADDRNOTAVAIL:
                return "is not an address of this machine"
            return error.strerror or str(error)
    return None


def someone_listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
