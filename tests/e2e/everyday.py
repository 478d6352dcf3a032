"""The everyday commands of a real third-party client, kazoo, on every server of an ensemble."""

import threading

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError, BadVersionError, NoAuthError, NoChildrenForEphemeralsError, NodeExistsError, NoNodeError,
    NotEmptyError, RolledBackError, RuntimeInconsistency, InvalidACLError,
)
from kazoo.security import ACL, Id, make_digest_acl

from ensemble import wait_until


def raises(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call} {args} did not raise {error.__name__}")


def connect(addresses, **kwargs):
    client = KazooClient(hosts=addresses, timeout=kwargs.pop("timeout", 4.0), **kwargs)
    client.start(timeout=20)
    return client


def nodes(zk, root):
    stat = zk.create(root, b"one", include_data=True)[1]
    assert (stat.version, stat.cversion, stat.numChildren, stat.dataLength) == (0, 0, 0, 3), stat
    raises(NodeExistsError, zk.create, root, b"")
    raises(NoNodeError, zk.create, root + "/x/y", b"")
    changed = zk.set(root, b"three")
    assert (changed.version, changed.dataLength, changed.czxid) == (1, 5, stat.czxid), changed
    assert changed.mzxid > stat.mzxid
    raises(BadVersionError, zk.set, root, b"", version=0)
    data, seen = zk.get(root)
    assert (data, seen) == (b"three", changed), (data, seen)
    for name in ("a", "b"):
        zk.create(f"{root}/{name}", b"")
    assert sorted(zk.get_children(root)) == ["a", "b"]
    assert zk.get_children(root, include_data=True)[1].numChildren == 2
    raises(NotEmptyError, zk.delete, root)
    zk.delete(root + "/b")
    raises(NoNodeError, zk.delete, root + "/b")
    # two creates and a delete: reported cversion 3, the next sequence number counts creates only
    assert zk.exists(root).cversion == 3
    assert zk.create(root + "/s-", sequence=True) == root + "/s-0000000002"
    assert zk.exists(root + "/none") is None
    raises(NoNodeError, zk.get, root + "/none")
    raises(BadArgumentsError, zk.delete, "/zookeeper")
    assert zk.get("/zookeeper")[1].czxid == 0


def transactions(zk, root):
    t = zk.transaction()
    t.create(root + "/t", b"1")
    t.create(root + "/t/c", b"2")
    t.set_data(root + "/t", b"3")
    t.check(root + "/t", version=1)
    made = t.commit()
    assert made[0] == root + "/t" and made[1] == root + "/t/c" and made[2].version == 1 and made[3] is True, made
    assert zk.exists(root + "/t").czxid == zk.exists(root + "/t/c").czxid
    t = zk.transaction()
    t.create(root + "/u", b"")
    t.check(root + "/t", version=7)
    t.delete(root + "/t/c")
    failed = t.commit()
    kinds = [type(f) for f in failed]
    assert kinds == [RolledBackError, BadVersionError, RuntimeInconsistency], kinds
    assert zk.exists(root + "/u") is None and zk.exists(root + "/t/c") is not None


def watches(zk, other, root):
    events, seen = [], threading.Event()

    def record(event):
        events.append((event.type, event.path))
        seen.set()

    def expect(*wanted):
        wait_until(f"{wanted}, have {events}", lambda: sorted(events) == sorted(wanted), 10)
        events.clear()

    node = root + "/w"
    assert zk.exists(node, watch=record) is None
    other.create(node, b"")
    expect(("CREATED", node))
    zk.sync(node)
    zk.get(node, watch=record)
    zk.get_children(node, watch=record)
    other.set(node, b"1")
    expect(("CHANGED", node))
    other.set(node, b"2")  # one-shot: no second event
    other.create(node + "/c", b"")
    expect(("CHILD", node))
    zk.get(node, watch=record)
    other.delete(node + "/c")
    other.delete(node)
    expect(("DELETED", node))


def ephemerals(addresses, zk, root):
    owner = connect(addresses)
    path = owner.create(root + "/e", b"", ephemeral=True)
    zk.sync(path)
    assert zk.exists(path).ephemeralOwner == owner.client_id[0]
    raises(NoChildrenForEphemeralsError, owner.create, path + "/child", b"")
    owner.stop()
    owner.close()
    zk.sync(path)
    assert zk.exists(path) is None, "closing the session deletes its ephemerals before the reply"


def acls(addresses, zk, root):
    acl = make_digest_acl("user1", "12345", all=True)
    assert acl.id.id == "user1:+owfoSBn/am19roBPzR1/MfCblE="
    zk.create(root + "/secret", b"s", acl=[acl])
    raises(NoAuthError, zk.get, root + "/secret")
    raises(NoAuthError, zk.set, root + "/secret", b"")
    raises(InvalidACLError, zk.create, root + "/bad", b"", acl=[ACL(31, Id("nope", "x"))])
    friend = connect(addresses, auth_data=[("digest", "user1:12345")])
    friend.sync(root)
    assert friend.get(root + "/secret")[0] == b"s"
    assert friend.get_acls(root + "/secret")[0] == [acl]
    friend.stop()
    friend.close()


def pipeline(zk, root):
    zk.create(root + "/p", b"")
    pending = [zk.set_async(root + "/p", str(i).encode()) for i in range(500)]
    reads = zk.get_async(root + "/p")
    versions = [p.get(20).version for p in pending]
    assert versions == list(range(1, 501))
    assert reads.get(20)[0] == b"499", "a read waits for the earlier writes of its session"


def run(ensemble):
    for server in ensemble.servers:
        root = f"/day{server.number}"
        zk, other = connect(server.address()), connect(ensemble.addresses())
        nodes(zk, root)
        transactions(zk, root)
        watches(zk, other, root)
        ephemerals(server.address(), zk, root)
        acls(server.address(), zk, root)
        pipeline(zk, root)
        for client in (zk, other):
            client.stop()
            client.close()
    assert ensemble.servers[0].ask("ruok") == "imok"
    for server in ensemble.servers:
        assert "Zxid: 0x" in server.ask("stat")
        assert all(line.startswith("zk_") for line in server.ask("mntr").splitlines())
