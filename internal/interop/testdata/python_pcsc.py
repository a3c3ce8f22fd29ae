"""A platform and a relying party on python-fido2 0.9 over pyscard, for nfc's
pcsc_stack_test.go.

    python_pcsc.py READER PROTOCOL LENGTH PIN

READER names the PC/SC reader that has the card. PROTOCOL, T=0 or T=1, is what
the service has to agree on with the card, and LENGTH, short or extended, the
form of APDU to use. Every step writes a line to stdout; the first that fails
ends the program.

Fido2Client and Fido2Server check client data, challenge, RP ID hash, flags,
attestation and signature.
"""

import os
import sys

from fido2.attestation import Attestation
from fido2.client import Fido2Client
from fido2.ctap import STATUS
from fido2.ctap2 import Ctap2
from fido2.pcsc import CtapPcscDevice
from fido2.server import Fido2Server
from smartcard import System
from smartcard.CardConnection import CardConnection

PROTOCOLS = {"T=0": CardConnection.T0_protocol, "T=1": CardConnection.T1_protocol}
UP, UV, AT, ED = 0x01, 0x04, 0x40, 0x80

RP_ID = "example.com"
# With the longest ID, and names that make a registration longer than a short
# APDU.
USER = {"id": os.urandom(64), "name": "n" * 300, "displayName": "Å" * 150}


def check(condition, *seen):
    if not condition:
        raise AssertionError(*seen)


def verify_attestation(attestation, client_data_hash):
    Attestation.for_type(attestation.fmt)().verify(
        attestation.att_statement, attestation.auth_data, client_data_hash
    )


server = Fido2Server(
    {"id": RP_ID, "name": "Example"},
    attestation="direct",
    verify_attestation=verify_attestation,
)


def connect(name, protocol):
    # Not list_devices, which keeps to itself why a card cannot be used.
    (reader,) = (r for r in System.readers() if r.name == name)
    connection = reader.createConnection()
    device = CtapPcscDevice(connection, name)
    check(connection.getProtocol() == PROTOCOLS[protocol], connection.getProtocol())
    check(device.version == 2)
    return device


def get_info(device):
    info = Ctap2(device).get_info()
    check(info.options["clientPin"] is True)
    check("hmac-secret" in info.extensions)


def register(client, pin):
    options, state = server.register_begin(
        USER, resident_key=True, user_verification="required"
    )
    options["publicKey"]["extensions"] = {"hmacCreateSecret": True}
    heard = []
    response = client.make_credential(
        options["publicKey"], pin=pin, on_keepalive=heard.append
    )
    check(STATUS.UPNEEDED in heard, heard)
    check(response.extension_results == {"hmacCreateSecret": True})
    auth_data = server.register_complete(
        state, response.client_data, response.attestation_object
    )
    check(auth_data.flags == UP | UV | AT | ED, auth_data.flags)
    return auth_data.credential_data


def sign_in(client, pin, credential, salt=None):
    """Signs in without naming the credential. With a salt, returns the secret
    that comes of it."""
    options, state = server.authenticate_begin(user_verification="required")
    if salt:
        options["publicKey"]["extensions"] = {"hmacGetSecret": {"salt1": salt}}
    selection = client.get_assertion(options["publicKey"], pin=pin)
    (assertion,) = selection.get_assertions()
    check(assertion.user["id"] == USER["id"], assertion.user)
    response = selection.get_response(0)
    server.authenticate_complete(
        state,
        [credential],
        response.credential_id,
        response.client_data,
        response.authenticator_data,
        response.signature,
    )
    flags = UP | UV | (ED if salt else 0)
    check(response.authenticator_data.flags == flags, response.authenticator_data.flags)
    if salt:
        return response.extension_results["hmacGetSecret"]["output1"]


def hmac_secret(client, pin, credential):
    a, b = os.urandom(32), os.urandom(32)
    once, twice, other = (sign_in(client, pin, credential, s) for s in (a, a, b))
    check(len(once) == 32)
    check(once == twice)
    check(once != other)


def step(name, function, *args):
    try:
        result = function(*args)
    except BaseException:
        print(name + ": failed", flush=True)
        raise
    print(name + ": ok", flush=True)
    return result


def main(reader, protocol, length, pin):
    device = step("connect", connect, reader, protocol)
    device.use_ext_apdu = length == "extended"
    step("getInfo", get_info, device)
    client = Fido2Client(device, "https://" + RP_ID)
    credential = step("register", register, client, pin)
    step("sign in", sign_in, client, pin, credential)
    step("hmac-secret", hmac_secret, client, pin, credential)
    device.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
