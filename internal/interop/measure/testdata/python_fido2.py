"""Does one thing with a key many times, with python-fido2 0.9, and prints the
processor time of one, in nanoseconds.

    python_fido2.py OPERATION TIMES CREDENTIAL REPLIES

REPLIES is a folder with the key's answers, which are then all there is to the
key. If it is empty, the key is at the other end of the socket that the program
inherits as descriptor 3, one report in each packet.

The operation "print" is getInfo once, printed, with no figure.
"""

import os
import socket
import sys
import time

from fido2.ctap2 import ClientPin, Ctap2
from fido2.hid import CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor

LARGEST_MESSAGE = 57 + 128 * 59


class SocketConnection(CtapHidConnection):
    def __init__(self):
        self.socket = socket.socket(fileno=3)
        self.socket.settimeout(20)

    def read_packet(self):
        return self.socket.recv(64)

    def write_packet(self, data):
        self.socket.send(data)

    def close(self):
        self.socket.close()


class MemoryConnection(CtapHidConnection):
    def __init__(self, folder):
        def reports(name):
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            return [data[i : i + 64] for i in range(0, len(data), 64)]

        self.init = reports("init")[0]
        self.replies = {4: reports("getInfo"), 2: reports("getAssertion")}
        self.left = 0

    def write_packet(self, data):
        if data[4] == 0x86:
            self.next = iter([self.init[:7] + data[7:15] + self.init[15:]])
            return
        if data[4] & 0x80:
            self.command = data[7]
            self.left = int.from_bytes(data[5:7], "big") - 57
        else:
            self.left -= 59
        if self.left <= 0:
            self.next = iter(self.replies[self.command])

    def read_packet(self):
        return next(self.next)

    def close(self):
        pass


def main(name, times, credential, replies):
    descriptor = HidDescriptor("key", 0x1050, 0x0407, 64, 64)
    device = CtapHidDevice(descriptor, MemoryConnection(replies) if replies else SocketConnection())
    request = dict(
        rp_id="example.com",
        client_data_hash=bytes(32),
        allow_list=[{"type": "public-key", "id": bytes.fromhex(credential)}],
    )

    if name == "PING":
        data = bytes(LARGEST_MESSAGE)

        def operation():
            return device.ping(data)
    else:
        ctap = Ctap2(device)
        client_pin = ClientPin(ctap)

        def operation():
            if name == "getInfo":
                return "FIDO_2_1" in ctap.get_info().versions
            if name == "getAssertion":
                return ctap.get_assertion(**request).signature
            token = client_pin.get_pin_token("271828", ClientPin.PERMISSION.GET_ASSERTION, "example.com")
            return ctap.get_assertion(
                pin_uv_param=client_pin.protocol.authenticate(token, bytes(32)),
                pin_uv_protocol=client_pin.protocol.VERSION,
                **request
            ).signature

    if name == "print":
        print(ctap.get_info())
        return
    for _ in range(times // 10 + 1):
        operation()
    before = time.process_time_ns()
    for _ in range(times):
        if not operation():
            raise ValueError("the reply is not the one expected")
    print((time.process_time_ns() - before) // times)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
