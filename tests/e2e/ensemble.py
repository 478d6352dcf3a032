"""Real servers on loopback for end-to-end tests: three processes, their own directories, killed by pid only.

An ensemble of `zookeeper` runs the same tests against Apache ZooKeeper (Debian's package), which is how the tests
themselves are checked: what they demand is what the original does.
"""

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TICK_MS = 500


def free_ports(count):
    """Ports that nobody else is about to take: below those that the system hands out by itself (a server that is down
    would lose its port to an outgoing connection), and apart from those of a scenario that starts at the same moment."""
    first = 10_000 + os.getpid() % 1_000 * 20
    free = []
    for port in range(first, 32_000):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise AssertionError(f"no {count} free ports from {first} on")


def wait_until(what, condition, seconds=30.0):
    """Polls `condition` until it holds; fails loudly after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Server:
    def __init__(self, ensemble, number, ports):
        self.ensemble, self.number = ensemble, number
        self.client_port = ports[0]
        self.directory = os.path.join(ensemble.directory, f"s{number}")
        self.data = os.path.join(self.directory, "data")
        self.config = os.path.join(self.directory, "zoo.cfg")
        self.log = os.path.join(self.directory, "server.log")
        self.process = None
        os.makedirs(self.data)

    def write_config(self, members, extra=""):
        with open(os.path.join(self.data, "myid"), "w") as f:
            f.write(f"{self.number}\n")
        lines = [
            f"tickTime={TICK_MS}", "initLimit=10", "syncLimit=5", f"dataDir={self.data}",
            f"clientPort={self.client_port}", "clientPortAddress=127.0.0.1", "4lw.commands.whitelist=*",
            "admin.enableServer=false", *members, extra,
        ]
        with open(self.config, "w") as f:
            f.write("\n".join(lines) + "\n")

    def command(self):
        if self.ensemble.system == "zookeeper":
            jars = ":".join(["/etc/zookeeper/conf", *glob.glob("/usr/share/java/*.jar")])
            return ["java", "-Xmx256m", "-cp", jars, "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.config]
        return [self.ensemble.binary, "serve", "--config", self.config, "--consensus", self.ensemble.system]

    def start(self, wait=True):
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            wait_until(f"server {self.number} serves\n{self.tail()}", self.serves)

    def kill(self):
        """As a power cut of the process: SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def ask(self, word, timeout=2.0):
        """A four-letter command; the empty string if nobody answers."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.client_port), timeout) as s:
            s.sendall(word.encode())
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
            return answer.decode()
        return ""

    def mode(self):
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:]
        return None

    def serves(self):
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"server {self.number} ended with {self.process.returncode}:\n{self.tail()}")
        return self.mode() is not None

    def address(self):
        return f"127.0.0.1:{self.client_port}"

    def tail(self, lines=30):
        with contextlib.suppress(OSError), open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
        return ""


class Ensemble:
    """`with Ensemble(system, binary) as e:` starts `size` servers and ends them all."""

    def __init__(self, system, binary=None, size=3):
        self.system, self.binary = system, binary
        self.directory = tempfile.mkdtemp(prefix="menagerie-e2e-")
        ports = free_ports(3 * size)
        self.servers = [Server(self, i + 1, ports[3 * i:3 * i + 3]) for i in range(size)]
        members = [f"server.{i + 1}=127.0.0.1:{ports[3 * i + 1]}:{ports[3 * i + 2]}" for i in range(size)]
        for s in self.servers:
            s.write_config(members if size > 1 else [])

    def __enter__(self):
        try:
            for s in self.servers:
                s.start(wait=False)
            for s in self.servers:
                wait_until(f"server {s.number} serves", s.serves, 60)
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, kind, *_):
        for s in self.servers:
            if s.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    s.thaw()
                s.kill()
        if kind is not None:
            for s in self.servers:
                print(f"---- server {s.number} ----\n{s.tail()}")
        if os.environ.get("E2E_KEEP") is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def addresses(self):
        return ",".join(s.address() for s in self.servers)

    def leader(self):
        """The leading server, once there is one."""
        found = []

        def one():
            found[:] = [s for s in self.servers if s.process is not None and s.mode() == "leader"]
            return bool(found)

        wait_until("a leader", one)
        return found[0]

    def followers(self):
        leader = self.leader()
        return [s for s in self.servers if s is not leader and s.process is not None]
