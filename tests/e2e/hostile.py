"""Clients that lie, frames that make no sense, clients ahead in time: a clear error or a closed connection, and the
server goes on serving everybody else."""

import os
import random
import socket
import struct

from ensemble import wait_until
from everyday import connect
from raw import Raw, buffer, frame

LIMIT = 0xFFFFF


def session(port):
    raw = Raw(port)
    assert raw.connect()["timeout"] > 0
    return raw


def lying_lengths(port):
    for length in (-1, -(2**31), LIMIT + 1, 2**31 - 1):
        raw = session(port)
        raw.send(struct.pack(">i", length) + b"xxxx")
        assert raw.closed(), f"a frame of {length} bytes closes the connection"
    raw = session(port)
    raw.request(1, 4, struct.pack(">i", 2**31 - 1) + b"/a")  # getData whose path claims 2 GiB
    assert raw.reply()[2] == -5, "undecodable body of a known opcode"
    raw.request(2, 14, b"\0" * 5)  # a multi that ends inside its first header
    assert raw.reply()[2] == -5
    raw.request(3, 14, b"\xff" * 9)  # only the end marker: an empty multi is legal
    assert raw.reply()[2] == 0


def the_largest_frame(port):
    raw = session(port)
    path = b"/largest"
    fixed = 8 + 4 + len(path) + 4 + len(struct.pack(">ii", 1, 31)) + 9 + 10 + 4
    answer = raw.create(1, path.decode(), b"z" * (LIMIT - fixed))
    assert answer and answer[2] == 0, f"exactly {LIMIT} bytes pass: {answer}"
    raw.request(2, 2, buffer(path) + struct.pack(">i", -1))
    assert raw.reply()[2] == 0


def unknown_words(port):
    for opcode in (9999, 13, 0):  # 13 is check, which only a multi may hold
        raw = session(port)
        raw.request(1, opcode, buffer(b"/") + struct.pack(">i", -1))
        answer = raw.reply()
        assert answer[2] == -6, f"opcode {opcode}: {answer}"
        assert raw.closed()
    for opcode in (-10, 20):  # internal ones
        raw = session(port)
        raw.request(1, opcode, struct.pack(">i", 1000))
        answer = raw.reply()
        assert answer is None or answer[2] == -6, f"internal opcode {opcode}: {answer}"


def handshakes(port):
    raw = Raw(port)
    assert raw.connect(read_only_byte=True)["length"] == 37
    raw = Raw(port)
    assert raw.connect(read_only_byte=False)["length"] == 36
    raw = Raw(port)
    assert raw.connect(last_zxid=2**62) is None, "a client that has seen a later zxid is refused without an answer"
    raw = Raw(port)
    refused = raw.connect(session=0x1234567890, password=b"q" * 16)
    assert refused["timeout"] == 0 and refused["session"] == 0, f"unknown session: {refused}"
    owner = Raw(port)
    mine = owner.connect(timeout_ms=6000)
    thief = Raw(port)
    assert thief.connect(session=mine["session"], password=b"q" * 16)["timeout"] == 0, "wrong password"
    again = Raw(port)
    assert again.connect(session=mine["session"], password=mine["password"])["session"] == mine["session"]
    assert owner.closed(), "the same session on a second connection closes the first"
    again.request(1, -11)
    assert again.reply()[2] == 0 and again.closed()
    low = Raw(port).connect(timeout_ms=1)["timeout"]
    high = Raw(port).connect(timeout_ms=3_600_000)["timeout"]
    assert (low, high) == (1000, 10000), "2 to 20 ticks"


def a_session_that_moved(ensemble):
    """Contract schedule 6: a write still under way from the old connection must not run after the move."""
    first, second = ensemble.servers[0].client_port, ensemble.servers[1].client_port
    old = Raw(first)
    mine = old.connect(timeout_ms=8000)
    new = Raw(second)
    assert new.connect(timeout_ms=8000, session=mine["session"], password=mine["password"])["timeout"] == 8000
    assert new.create(1, "/moved", b"")[2] == 0
    old.request(7, 5, buffer(b"/moved") + buffer(b"late") + struct.pack(">i", -1))
    assert old.closed(), "the old connection is closed without a reply"
    check = session(second)
    check.request(1, 4, buffer(b"/moved") + b"\0")
    assert check.reply()[3][:4] == struct.pack(">i", 0), "and its write did not run"


def garbage(port):
    rng = random.Random(7)
    for _ in range(150):
        raw = Raw(port) if rng.random() < 0.3 else session(port)
        junk = bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 400)))
        raw.send(frame(junk) if rng.random() < 0.7 else junk)
        raw.close()
    half = [Raw(port) for _ in range(20)]  # never say a word
    for h in half:
        h.send(b"\0\0")
        h.close()


def probes(port):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"ruok")
        s.shutdown(socket.SHUT_WR)
        assert s.recv(10) == b"imok", "a half-closed socket is answered"


def silent_clients(ensemble):
    raw = Raw(ensemble.followers()[0].client_port)
    assert raw.connect(timeout_ms=4000)["timeout"] == 4000
    assert raw.create(1, "/silent", b"", 1)[2] == 0
    alive = connect(ensemble.addresses(), timeout=4.0)
    alive.create("/heard", b"", ephemeral=True)
    wait_until("the silent session expires", lambda: alive.retry(alive.exists, "/silent") is None, 20)
    assert alive.retry(alive.exists, "/heard") is not None, "a session that sends its heartbeats never expires"
    ensemble.leader().kill()
    wait_until("another leader", lambda: any(s.process and s.mode() == "leader" for s in ensemble.servers), 20)
    alive.retry(alive.sync, "/")
    assert alive.retry(alive.exists, "/heard") is not None, "nor does it expire because of an election"
    alive.stop()
    alive.close()
    for s in ensemble.servers:
        if s.process is None:
            s.start()


def run(ensemble):
    zk = connect(ensemble.addresses())
    zk.create("/still", b"here")
    for server in ensemble.servers:
        pid = server.process.pid
        for scenario in (lying_lengths, the_largest_frame, unknown_words, handshakes, garbage, probes):
            print(f"  {scenario.__name__} on {server.number}", flush=True)
            if scenario is unknown_words and ensemble.system == "zookeeper":
                continue  # 3.8 takes internal words from anybody and closes where 3.9 answers
            scenario(server.client_port)
        os.kill(pid, 0)
        assert server.process.poll() is None, f"server {server.number} ended"
    a_session_that_moved(ensemble)
    silent_clients(ensemble)
    assert zk.retry(zk.get, "/still")[0] == b"here"  # its server may be the one that was killed
    zk.stop()
    zk.close()
    for server in ensemble.servers:
        assert "panic" not in server.tail(2000), server.tail()
