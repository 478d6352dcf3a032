"""Servers die under load: nothing acknowledged is lost, sessions and ephemerals survive or expire as they should."""

import threading

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

from ensemble import wait_until
from everyday import connect
from raw import Raw

WRITERS = 6


class Writer(threading.Thread):
    """Creates nodes with its own numbers one after the other and remembers which were acknowledged."""

    def __init__(self, addresses, name):
        super().__init__(daemon=True)
        self.zk = KazooClient(hosts=addresses, timeout=8.0)
        self.name_, self.acked, self.unknown, self.halt = name, [], [], False

    def run(self):
        self.zk.start(timeout=30)
        number = 0
        while not self.halt:
            path = f"/load/{self.name_}-{number:06d}"
            try:
                self.zk.create(path, b"x")
                self.acked.append(path)
            except (KazooException, KazooTimeoutError):
                self.unknown.append(path)
                wait_until("a connection", lambda: self.halt or self.zk.connected, 60)
            number += 1
        self.zk.stop()
        self.zk.close()


def await_progress(writers, more=30):
    before = [len(w.acked) for w in writers]
    wait_until(
        f"every writer gets {more} more acknowledgements, from {before}",
        lambda: all(len(w.acked) >= b + more for w, b in zip(writers, before)), 60,
    )


def no_write_is_lost(ensemble):
    setup = connect(ensemble.addresses())
    setup.create("/load", b"")
    writers = [Writer(ensemble.addresses(), f"w{i}") for i in range(WRITERS)]
    for w in writers:
        w.start()
    await_progress(writers)
    for round_ in range(2):
        victim = ensemble.leader()
        victim.kill()
        await_progress(writers)
        victim.start()
        victim = ensemble.followers()[round_ % 2]
        victim.kill()
        await_progress(writers)
        victim.start()
        await_progress(writers)
    for w in writers:
        w.halt = True
    for w in writers:
        w.join(30)
        assert not w.is_alive(), "a writer hangs"
    acked = {p for w in writers for p in w.acked}
    unknown = {p for w in writers for p in w.unknown}
    for server in ensemble.servers:
        zk = connect(server.address())
        zk.sync("/load")
        found = {"/load/" + c for c in zk.get_children("/load")}
        lost, phantom = acked - found, found - acked - unknown
        assert not lost, f"server {server.number} lost {len(lost)} acknowledged creates: {sorted(lost)[:5]}"
        assert not phantom, f"server {server.number} has {len(phantom)} nodes nobody created: {sorted(phantom)[:5]}"
        zk.stop()
        zk.close()
    setup.stop()
    setup.close()
    print(f"  {len(acked)} acknowledged, {len(unknown)} unknown, none lost")


def sessions_survive_their_server(ensemble):
    server = ensemble.followers()[0]
    order = ",".join([server.address(), *(s.address() for s in ensemble.servers if s is not server)])
    zk = KazooClient(hosts=order, timeout=8.0, randomize_hosts=False)
    zk.start(timeout=20)
    session = zk.client_id
    watcher = connect(ensemble.leader().address())
    zk.create("/kept", b"", ephemeral=True)
    fired = threading.Event()
    zk.get("/kept", watch=lambda event: fired.set())
    server.kill()
    wait_until("the session moves to another server", lambda: zk.connected and probe(zk), 20)
    assert zk.client_id == session, "the same session"
    watcher.sync("/kept")
    assert watcher.exists("/kept") is not None, "its ephemeral survived"
    watcher.set("/kept", b"changed")
    assert fired.wait(10), "the watch was set again on the new server"
    server.start()
    zk.stop()
    zk.close()
    watcher.sync("/kept")
    assert watcher.exists("/kept") is None
    watcher.stop()
    watcher.close()


def probe(zk):
    try:
        zk.sync("/")
        return True
    except (KazooException, KazooTimeoutError):
        return False


def everything_survives_a_full_restart(ensemble):
    zk = connect(ensemble.addresses(), timeout=8.0)
    session = zk.client_id
    zk.create("/before", b"data")
    zk.create("/before-e", b"", ephemeral=True)
    zxid = zk.last_zxid
    for s in ensemble.servers:
        s.kill()
    for s in ensemble.servers:
        s.start(wait=False)
    wait_until("service is back", lambda: zk.connected and probe(zk), 30)
    assert zk.client_id == session
    assert zk.get("/before")[0] == b"data"
    assert zk.exists("/before-e") is not None, "the session and its ephemeral survived"
    assert zk.last_zxid >= zxid, "time never runs backwards"
    zk.stop()
    zk.close()
    for s in ensemble.servers:
        wait_until(f"server {s.number} serves", s.serves)


def closes(ensemble, session):
    closer = Raw(ensemble.servers[0].client_port)
    answer = closer.connect(session=session[0], password=session[1])
    if answer is None or answer["timeout"] == 0:
        return answer is not None  # refused: it is gone already
    closer.request(1, -11)
    reply = closer.reply()
    closer.close()
    return reply is not None and reply[2] == 0


def an_expired_session_is_told_so(ensemble):
    zk = connect(ensemble.addresses(), timeout=2.0)
    states = []
    zk.add_listener(states.append)
    old = zk.client_id
    # Another connection of the same session closes it. The first handle may come back in between and take the
    # session over again (a close that is fenced gets no answer), so this may need more than one attempt.
    wait_until("the session is closed from elsewhere", lambda: closes(ensemble, old), 20)
    wait_until(f"the first handle learns that its session is gone, has {states}", lambda: "LOST" in states, 20)
    try:
        zk.get("/none-such")
    except (NoNodeError, SessionExpiredError, KazooException):
        pass
    wait_until("it goes on with a new session", lambda: zk.connected and zk.client_id != old, 20)
    zk.stop()
    zk.close()


def run(ensemble):
    for scenario in (
        no_write_is_lost, sessions_survive_their_server, an_expired_session_is_told_so,
        everything_survives_a_full_restart,
    ):
        print(f"  {scenario.__name__}", flush=True)
        scenario(ensemble)
