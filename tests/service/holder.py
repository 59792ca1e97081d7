"""A server on descriptor 0, a listening socket that others may have too. The first argument says how it
behaves; what it does is written to the file of the second one, a line each."""

import array
import ctypes
import os
import signal
import socket
import sys
import threading
import time

how, log = sys.argv[1], sys.argv[2]
listener = socket.socket(fileno=0) if how != "daemon" else None


def note(word):
    with open(log, "a") as file:
        file.write(word + "\n")


def heard(conn):
    """Whether a whole question has come; nobody may say anything."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        more = conn.recv(4096)
        if not more:
            return False
        text += more
    return True


def answer(conn, more=""):
    body = "pid %d\n" % os.getpid()
    status = "302 Found" if more else "200 OK"
    head = "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, more, len(body))
    try:
        conn.sendall((head + body).encode())
        note("answered")
    except OSError:
        pass


def serve(more="", keep=False, late=0):
    kept = []
    while True:
        time.sleep(late)
        conn, _ = listener.accept()
        note("accepted")
        if heard(conn):
            answer(conn, more)
        if keep:
            kept.append(conn)
        else:
            conn.close()


def children(count, act):
    for _ in range(count):
        if os.fork() == 0:
            act()
            os._exit(0)


def passing(lends):
    """What was accepted is passed on to a child, which does not listen; or it is lent, and both have it."""
    ours, theirs = socket.socketpair()
    kept = []
    child = os.fork()
    if child == 0:
        listener.close()
        ours.close()
        while True:
            _, lists, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
            fd = array.array("i")
            fd.frombytes(lists[0][2])
            conn = socket.socket(fileno=fd[0])
            kept.append(conn)
            if not lends and heard(conn):
                answer(conn)
    note("passes to %d" % child)
    while True:
        conn, _ = listener.accept()
        rights = array.array("i", [conn.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        if not lends:
            conn.close()
        elif heard(conn):
            answer(conn)
            kept.append(conn)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.002)


def daemon(address, status):
    """It ends when the file LOG.end is there; its child serves at ADDRESS when LOG.serve is."""
    global listener
    child = os.fork()
    if child != 0:
        note("child %d" % child)
        wait_for(log + ".end")
        os._exit(int(status))
    os.setsid()
    wait_for(log + ".serve")
    listener = socket.create_server((address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1])))
    serve()


def leaderless():
    """The first thread ends, another serves on (SYS_exit of x86_64 and of others)."""
    threading.Thread(target=serve, kwargs={"keep": True, "late": 0.3}).start()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)


def shy():
    """Nobody but root may look into it (PR_SET_DUMPABLE)."""
    ctypes.CDLL(None).prctl(4, 0)
    note("hidden")
    serve(keep=True, late=0.3)


def hang_up():
    while True:
        conn, _ = listener.accept()
        conn.close()


signal.signal(signal.SIGPIPE, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
note("begun")
if how == "hold":
    time.sleep(1000)
elif how == "serve":
    serve()
elif how == "keep":
    serve(keep=True)
elif how == "redirect":
    serve("Location: %s\r\n" % sys.argv[3])
elif how == "prefork":
    children(3, serve)
    time.sleep(1000)
elif how in ("pass", "lend"):
    passing(how == "lend")
elif how == "leaderless":
    leaderless()
elif how == "shy":
    shy()
elif how == "hang-up":
    hang_up()
elif how == "daemon":
    daemon(sys.argv[3], sys.argv[4])
