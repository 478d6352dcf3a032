"""ZooKeeper's wire protocol by hand, for clients that misbehave on purpose: silent, malformed, lying, ahead of time."""

import socket
import struct

OPEN_ACL = struct.pack(">ii", 1, 31) + struct.pack(">i5s", 5, b"world") + struct.pack(">i6s", 6, b"anyone")


def frame(body):
    return struct.pack(">i", len(body)) + body


def buffer(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


class Raw:
    """One TCP connection; nothing is sent unless asked for, not even heartbeats."""

    def __init__(self, port, timeout=5.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next frame's body, or None when the server closed the connection."""
        head = self.exactly(4)
        return None if head is None else self.exactly(struct.unpack(">i", head)[0])

    def exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                chunk = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            data += chunk
        return data

    def connect(self, timeout_ms=2000, session=0, password=bytes(16), last_zxid=0, read_only_byte=True):
        body = struct.pack(">iqiq", 0, last_zxid, timeout_ms, session) + buffer(password)
        self.send(frame(body + (b"\0" if read_only_byte else b"")))
        answer = self.receive()
        if answer is None:
            return None
        _, timeout, session, length = struct.unpack(">iiqi", answer[:20])
        return {"timeout": timeout, "session": session, "password": answer[20:20 + length], "length": len(answer)}

    def request(self, xid, opcode, body=b""):
        self.send(frame(struct.pack(">ii", xid, opcode) + body))

    def reply(self):
        """(xid, zxid, error, body), or None at the end of the connection."""
        answer = self.receive()
        return None if answer is None else (*struct.unpack(">iqi", answer[:16]), answer[16:])

    def create(self, xid, path, data=b"", flags=0):
        self.request(xid, 1, buffer(path.encode()) + buffer(data) + OPEN_ACL + struct.pack(">i", flags))
        return self.reply()

    def closed(self):
        """Whether the server closes the connection without another frame."""
        return self.receive() is None

    def close(self):
        self.socket.close()
