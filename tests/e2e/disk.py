"""Wrong configurations, foreign directories, damaged and full disks: each gives a clear error, never a panic, never a
lost acknowledged write."""

import glob
import os
import shutil
import subprocess

from ensemble import Ensemble, wait_until
from everyday import connect


def run_alone(system, binary):
    for scenario in (wrong_configurations, foreign_directories, damaged_logs, a_full_disk):
        print(f"  {scenario.__name__}", flush=True)
        scenario(system, binary)


def refused(server, *words, command=None):
    """The server ends by itself with an error that names `words`, and without a panic."""
    done = subprocess.run(command or server.command(), capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode not in (0, -6), f"exit {done.returncode}: {said}"
    assert "panicked" not in said, said
    for word in words:
        assert word in said, f"'{word}' is not in: {said}"


def wrong_configurations(system, binary):
    ensemble = Ensemble(system, binary, size=1)
    server = ensemble.servers[0]
    with open(server.config) as f:
        good = f.read()

    def with_line(line, *words):
        with open(server.config, "w") as f:
            f.write(good + line + "\n")
        refused(server, *words)

    with_line("tickTime=soon", "tickTime")
    with_line("clientPort=99999", "clientPort")
    with_line("server.1=nonsense", "server.1")
    os.remove(server.config)
    refused(server, "zoo.cfg")
    with open(server.config, "w") as f:
        f.write(good + "jute.futureThing=1\nmetricsProvider.exportJvmInfo=true\n")
    server.start()
    assert "jute.futureThing" in server.tail(200), "an unknown key is named"
    ensemble.__exit__(None)


def foreign_directories(system, binary):
    with Ensemble(system, binary) as ensemble:
        zk = connect(ensemble.addresses())
        zk.create("/mine", b"1")
        zk.stop()
        zk.close()
        one, two, _ = ensemble.servers
        two.kill()
        other = {"zab": "raft", "raft": "paxos", "paxos": "zab"}[system]
        command = [*two.command()[:-1], other]
        refused(two, system, command=command)
        one.kill()
        saved = two.data + ".own"
        os.rename(two.data, saved)
        shutil.copytree(one.data, two.data)
        with open(os.path.join(two.data, "myid"), "w") as f:
            f.write("2\n")
        refused(two, "1", "2")
        shutil.rmtree(two.data)
        os.rename(saved, two.data)
        for s in (one, two):
            s.start()
        check(ensemble, {"/mine"})


def log_files(server):
    """Files of the log, largest first."""
    files = [f for f in glob.glob(server.data + "/**", recursive=True) if os.path.isfile(f) and "log" in f]
    return sorted(files, key=os.path.getsize, reverse=True)


def damaged_logs(system, binary):
    with Ensemble(system, binary) as ensemble:
        zk = connect(ensemble.addresses())
        zk.create("/d", b"")
        paths = {"/d"}
        for i in range(300):
            paths.add(zk.create(f"/d/n{i}", b"v" * 100))
        zk.stop()
        zk.close()
        victim = ensemble.followers()[0]
        victim.kill()
        log = next(f for f in log_files(victim) if b"/d/n150" in open(f, "rb").read())
        with open(log, "r+b") as f:
            at = f.read().index(b"/d/n150")
            f.seek(at)
            f.write(b"ROTTEN!")
        victim.start(wait=False)

        def settled():
            return victim.process.poll() is not None or victim.mode() in ("follower", "leader")

        wait_until("the damaged server serves again or explains itself", settled, 30)
        assert "panicked" not in victim.tail(500), victim.tail(500)
        if victim.process.poll() is not None:
            assert "damage" in victim.tail(500) or "corrupt" in victim.tail(500), victim.tail(500)
            victim.process = None
            check(ensemble, paths)
        else:
            check(ensemble, paths)
            leader = ensemble.leader()
            if leader is not victim:
                leader.kill()  # what the damaged server holds must be whole now
                check(ensemble, paths)
                leader.start()
        check(ensemble, paths)


def a_full_disk(system, binary):
    if os.geteuid() != 0:
        assert os.environ.get("CI") is None, "mounting a small tmpfs needs root; in CI this is a failure"
        print("SKIPPED: a_full_disk needs root to mount a small tmpfs")
        return
    ensemble = Ensemble(system, binary)
    small = ensemble.servers[0].data
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", small], check=True)
    try:
        with open(os.path.join(small, "myid"), "w") as f:
            f.write("1\n")
        with ensemble:
            zk = connect(ensemble.addresses(), timeout=8.0)
            zk.create("/full", b"")
            acked = {"/full"}
            for i in range(150):
                path = f"/full/n{i:04d}"
                zk.retry(create_once, zk, path)
                acked.add(path)
            victim = ensemble.servers[0]
            said = victim.tail(500)
            assert "panicked" not in said and "disk full" in said, said
            wait_until("the others serve", lambda: sum(s.serves() for s in ensemble.servers[1:]) == 2)
            check(ensemble, acked, ensemble.servers[1:])
            # Space returns: it goes on by itself, or after a restart if it stopped, and holds everything.
            subprocess.run(["mount", "-o", "remount,size=1g", small], check=True)
            if victim.process.poll() is not None:
                victim.process = None
                victim.start()
            check(ensemble, acked)
            zk.stop()
            zk.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def create_once(zk, path):
    if zk.exists(path) is None:
        zk.create(path, b"x" * 900_000)


def check(ensemble, paths, servers=None):
    """Every server that runs holds every path."""
    for server in servers or ensemble.servers:
        if server.process is None:
            continue
        wait_until(f"server {server.number} serves", server.serves)
        zk = connect(server.address())
        zk.retry(zk.sync, "/")
        lost = [p for p in sorted(paths) if zk.exists(p) is None]
        assert not lost, f"server {server.number} lost {lost[:5]}"
        zk.stop()
        zk.close()
