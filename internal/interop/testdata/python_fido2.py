"""A platform and its relying parties on python-fido2 0.9, for foreign_test.go.

    python_fido2.py SOCKET ROOT [ALGORITHM...]

The key is at the other end of a SOCK_SEQPACKET socket, one report of 64 bytes
per packet. ROOT is the certificate, DER in hexadecimal, that attestation is
trusted by, or "-". The algorithms are COSE numbers; a credential is made with
each. Without any, the key has to be one of U2F alone. Every step writes one
line to stdout, a JSON object with the name of the step and, if it failed, what
went wrong. A line {"ask": ...} asks the person at the key for something; the
answer is a line on stdin.

Registrations and sign-ins go through Fido2Client and Fido2Server, which check
client data, challenge, RP ID hash, flags, attestation and signature. What they
have no way to say (no PIN where the key has one, no touch) goes through Ctap2.
"""

import json
import os
import socket
import sys
import threading
import time
import traceback

from fido2.attestation import Attestation, AttestationType, verify_x509_chain
from fido2.client import ClientError, Fido2Client
from fido2.cose import CoseKey
from fido2.ctap import STATUS, CtapError
from fido2.ctap1 import APDU, ApduError, Ctap1
from fido2.ctap2 import ClientPin, Ctap2, PinProtocolV1, PinProtocolV2
from fido2.ctap2.base import AttestationObject, AttestedCredentialData
from fido2.ctap2.bio import CaptureError, FPBioEnrollment
from fido2.ctap2.blob import LargeBlobs
from fido2.ctap2.config import Config
from fido2.ctap2.credman import CredentialManagement
from fido2.ctap2.extensions import CredProtectExtension, HmacSecretExtension
from fido2.hid import CAPABILITY, CTAPHID, TYPE_INIT, CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor
from fido2.server import Fido2Server
from fido2.utils import sha256

FIRST_PIN = "271828"
SECOND_PIN = "сова-6022"
THIRD_PIN = "2718281828"
WRONG_PIN = "000000"

POLICY = CredProtectExtension.POLICY
UP, UV, AT, ED = 0x01, 0x04, 0x40, 0x80

LARGEST_MESSAGE = 57 + 128 * 59  # of CTAPHID


class SocketConnection(CtapHidConnection):
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.touch_needed = 0  # keepalives that said so

    def read_packet(self):
        packet = self.socket.recv(65)
        if len(packet) != 64:
            raise OSError("a report of %d bytes" % len(packet))
        if packet[4] == TYPE_INIT | CTAPHID.KEEPALIVE:
            self.touch_needed += packet[7] == STATUS.UPNEEDED
        return packet

    def write_packet(self, data):
        self.socket.send(data)

    def close(self):
        self.socket.close()


def ask(what):
    print(json.dumps({"ask": what}), flush=True)
    if not sys.stdin.readline():
        raise EOFError


def check(condition, *seen):
    if not condition:
        raise AssertionError(*seen)


class refused:
    """A context in which the key answers with the given status."""

    def __init__(self, name):
        self.code = CtapError.ERR[name]

    def __enter__(self):
        pass

    def __exit__(self, kind, error, tb):
        check(error is not None, "not refused with %s" % self.code)
        if isinstance(error, ClientError):
            error = error.cause
        return isinstance(error, CtapError) and error.code == self.code


class Account:
    """What a relying party stores."""

    def __init__(self, rp_id, user, data, counter=0):
        self.rp_id = rp_id
        self.user = user
        self.data = data
        self.counter = counter
        self.protection = 1
        self.large_blob_key = None

    @property
    def descriptor(self):
        return {"type": "public-key", "id": self.data.credential_id}


UNKNOWN = {"type": "public-key", "id": b"nobody's credential".ljust(64)}


def new_user(name):
    return {
        "id": name.encode(),
        "name": name + "@example.com",
        "displayName": name + " Ångström",
    }


class Key:
    """A key that is plugged in, and what the program has found out about it."""

    def __init__(self, path, root):
        self.path = path
        self.root = root
        self.open()

    def open(self):
        descriptor = HidDescriptor("virtual", 0, 0, 64, 64)
        self.connection = SocketConnection(self.path)
        self.device = CtapHidDevice(descriptor, self.connection)
        self.ctap = self.pin = None
        if self.device.capabilities & CAPABILITY.CBOR:
            self.ctap = Ctap2(self.device)
            self.pin = ClientPin(self.ctap)

    def power_cycle(self):
        self.device.close()
        ask("power cycle")
        self.open()

    @property
    def old(self):
        """A key of before CTAP 2.1: no powerCycleState, no selection."""
        return "FIDO_2_1" not in self.ctap.info.versions

    def has(self, name):
        """Whether it has an extension, or an option that is not false."""
        info = self.ctap.get_info()
        return name in info.extensions or bool(info.options.get(name))

    def token(self, permission, pin=FIRST_PIN):
        return self.pin.get_pin_token(pin, ClientPin.PERMISSION[permission])

    def retries(self, n, blocked=False):
        check(
            self.pin.get_pin_retries() == (n, None if self.old else blocked),
            *self.pin.get_pin_retries()
        )

    def room(self):
        return self.ctap.get_info().remaining_disc_creds

    def client(self, rp_id):
        return Fido2Client(self.device, "https://" + rp_id)

    def verify_attestation(self, attestation, client_data_hash):
        result = Attestation.for_type(attestation.fmt)().verify(
            attestation.att_statement, attestation.auth_data, client_data_hash
        )
        self.attestation_type = result.attestation_type.name.lower()
        if result.attestation_type == AttestationType.BASIC:
            verify_x509_chain(result.trust_path + [self.root])

    def register(
        self, rp_id, name, pin=FIRST_PIN, rk=True, alg=-7, exclude=None, extensions=None
    ):
        server = Fido2Server(
            {"id": rp_id, "name": "Example"},
            attestation="direct",
            verify_attestation=self.verify_attestation,
        )
        server.allowed_algorithms = [
            p for p in server.allowed_algorithms if p.alg == alg
        ]
        user = new_user(name)
        options, state = server.register_begin(
            user, exclude, resident_key=rk, user_verification="required"
        )
        options["publicKey"]["extensions"] = extensions
        response = self.client(rp_id).make_credential(options["publicKey"], pin=pin)
        auth_data = server.register_complete(
            state, response.client_data, response.attestation_object
        )
        account = Account(rp_id, user, auth_data.credential_data, auth_data.counter)
        account.large_blob_key = response.attestation_object.large_blob_key
        return account, auth_data

    def sign_in(self, accounts, pin=FIRST_PIN, allow=None, extensions=None):
        """Signs in with user verification to one of the accounts, and returns
        all assertions, verified, and the extension outputs of the first."""
        rp_id = accounts[0].rp_id
        server = Fido2Server({"id": rp_id, "name": "Example"})
        options, state = server.authenticate_begin(allow, "required")
        options["publicKey"]["extensions"] = extensions
        selection = self.client(rp_id).get_assertion(options["publicKey"], pin=pin)
        assertions = selection.get_assertions()
        check(all(a.number_of_credentials is None for a in assertions[1:]))
        for i, assertion in enumerate(assertions):
            response = selection.get_response(i)
            server.authenticate_complete(
                state,
                [a.data for a in accounts],
                response.credential_id,
                response.client_data,
                response.authenticator_data,
                response.signature,
            )
        return assertions, selection.get_response(0).extension_results

    def sign(self, accounts, allow=None, extensions=None, options=None, uv=False):
        """A getAssertion without user verification, unless uv."""
        client_data_hash = os.urandom(32)
        param = version = None
        if uv:
            token = self.pin.get_pin_token(
                FIRST_PIN, ClientPin.PERMISSION.GET_ASSERTION, accounts[0].rp_id
            )
            param = self.pin.protocol.authenticate(token, client_data_hash)
            version = self.pin.protocol.VERSION
        assertions = self.ctap.get_assertions(
            accounts[0].rp_id,
            client_data_hash,
            allow,
            extensions,
            options,
            param,
            version,
        )
        for assertion in assertions:
            check(assertion.auth_data.rp_id_hash == sha256(accounts[0].rp_id.encode()))
            account = next(
                a
                for a in accounts
                if a.data.credential_id == assertion.credential["id"]
            )
            assertion.verify(client_data_hash, account.data.public_key)
        return assertions


# The steps. Each gets the key and what the steps before it have left; what it
# returns is added to its line.


def open_step(key):
    device = key.device
    check(device.version == 2)
    for n in 0, 1, 57, 58, LARGEST_MESSAGE:
        message = os.urandom(n)
        check(device.ping(message) == message, n)
    if device.capabilities & CAPABILITY.WINK:
        device.wink()
    device.lock(10)
    device.ping()
    device.lock(0)


def get_info(key):
    info, again = key.ctap.get_info().data, key.ctap.get_info().data
    check(info.keys() == again.keys())

    def said(member):
        value = info[member]
        if not isinstance(value, bytes):
            check(value == again[member])
            return value
        return value.hex() if value == again[member] else ["fresh", len(value)]

    return {"info": {int(member): said(member) for member in info}}


def set_pin(key):
    key.retries(8)
    check(key.ctap.info.options["clientPin"] is False)
    key.pin.set_pin(FIRST_PIN)
    check(key.ctap.get_info().options["clientPin"] is True)
    key.retries(8)
    # There is one now, which has to be known in order to be changed.
    with refused("PIN_AUTH_INVALID"):
        key.pin.set_pin(SECOND_PIN)
    key.retries(8)
    return {"protocol": key.pin.protocol.VERSION}


# One account with each algorithm, each at a relying party of its own. The first
# has to be named or its user verified, the second's user has to be verified in
# any case, and the others are there for everyone.
accounts = []


def protection(i):
    return list(POLICY)[(1, 2, 0)[min(i, 2)]]


def register(key, alg):
    i = len(accounts)
    extensions = {"hmacCreateSecret": True}
    outputs = {"hmac-secret": True}
    level = list(POLICY).index(protection(i)) + 1
    if key.has("credProtect"):
        extensions["credentialProtectionPolicy"] = protection(i)
        outputs["credProtect"] = level
    room = key.room()
    account, auth_data = key.register(
        "alg%d.example.com" % alg, "ada", alg=alg, extensions=extensions
    )
    account.protection = level
    accounts.append(account)
    check(key.room() == (room and room - 1))
    check(account.data.aaguid == key.ctap.info.aaguid)
    check(account.data.public_key.ALGORITHM == alg)
    check(auth_data.flags == UP | UV | AT | ED, auth_data.flags)
    check(auth_data.extensions == outputs, auth_data.extensions)
    return {"attestation": key.attestation_type}


def sign_in(key, i):
    account = accounts[i]
    for _ in range(2):
        assertions, _ = key.sign_in([account])
        check(len(assertions) == 1)
        assertion = assertions[0]
        check(assertion.number_of_credentials is None)
        check(assertion.auth_data.flags == UP | UV)
        check(assertion.auth_data.counter > account.counter)
        account.counter = assertion.auth_data.counter
        # Names are for choosing among several.
        check(assertion.user == {"id": b"ada"}, assertion.user)


def cred_protect(key):
    with_id, required, *optional = accounts
    with refused("NO_CREDENTIALS"):
        key.sign([with_id])
    (assertion,) = key.sign([with_id], [with_id.descriptor])
    check(assertion.auth_data.flags == UP)

    with refused("NO_CREDENTIALS"):
        key.sign([required])
    with refused("NO_CREDENTIALS"):
        key.sign([required], [required.descriptor])
    key.sign_in([required], allow=[required.data])

    for account in optional:
        key.sign([account])


def hmac_secret(key):
    account = accounts[0]
    a, b = os.urandom(32), os.urandom(32)

    def with_uv(*salts):
        salts = dict(zip(("salt1", "salt2"), salts))
        _, results = key.sign_in([account], extensions={"hmacGetSecret": salts})
        return list(results["hmacGetSecret"].values())

    def without_uv(*salts):
        # With the other protocol, if there is one.
        protocols = {1: PinProtocolV1, 2: PinProtocolV2}
        extension = HmacSecretExtension(
            key.ctap, protocols[min(key.ctap.info.pin_uv_protocols)]()
        )
        salts = dict(zip(("salt1", "salt2"), salts))
        (assertion,) = key.sign(
            [account],
            [account.descriptor],
            {"hmac-secret": extension.process_get_input({"hmacGetSecret": salts})},
        )
        check(assertion.auth_data.flags == UP | ED)
        outputs = extension.process_get_output(assertion.auth_data)
        return list(outputs["hmacGetSecret"].values())

    outputs = []
    for secret in with_uv, without_uv:
        (once,), (twice,), (other,) = secret(a), secret(a), secret(b)
        check(len(once) == 32)
        check(once == twice)
        check(secret(a, b) == [once, other])
        check(secret(b, a) == [other, once])
        outputs += [once, other]
    check(len(set(outputs)) == 4)


def wrong_pin(key):
    key.retries(8)
    with refused("PIN_INVALID"):
        key.sign_in(accounts[:1], pin=WRONG_PIN)
    key.retries(7)
    key.sign_in(accounts[:1])
    key.retries(8)


def pin_auth_blocked(key):
    with refused("PIN_INVALID"):
        key.sign_in(accounts[:1], pin=WRONG_PIN)
    key.retries(7)
    with refused("PIN_INVALID"):
        key.pin.change_pin(WRONG_PIN, SECOND_PIN)
    key.retries(6)
    with refused("PIN_AUTH_BLOCKED"):
        key.register(accounts[0].rp_id, "eve", pin=WRONG_PIN)
    key.retries(5, blocked=True)

    # Now the right one does not help, and costs nothing.
    with refused("PIN_AUTH_BLOCKED"):
        key.sign_in(accounts[:1])
    key.retries(5, blocked=True)
    key.device.close()
    key.open()
    with refused("PIN_AUTH_BLOCKED"):
        key.sign_in(accounts[:1])

    key.power_cycle()
    key.retries(5)
    key.sign_in(accounts[:1])
    key.retries(8)


# Three accounts at one relying party, oldest first.
SEVERAL = "several.example.com"
several = []


def three_accounts(key):
    room = key.room()
    for name, alg in ("ada", -7), ("grace", -8), ("mary", -7):
        account, _ = key.register(SEVERAL, name, alg=alg)
        several.append(account)
    check(key.room() == (room and room - 3))

    def ids(accounts):
        return [account.data.credential_id for account in accounts]

    newest_first = several[::-1]
    assertions, _ = key.sign_in(several)
    check(assertions[0].number_of_credentials == 3)
    check([a.credential["id"] for a in assertions] == ids(newest_first))
    check([a.user for a in assertions] == [a.user for a in newest_first])

    assertions = key.sign(several)
    check([a.credential["id"] for a in assertions] == ids(newest_first))
    check([a.user for a in assertions] == [{"id": a.user["id"]} for a in newest_first])

    # A new credential for the same account takes the place of the old.
    replaced = several[0]
    several[0], _ = key.register(SEVERAL, "ada")
    check(key.room() == (room and room - 3))
    with refused("NO_CREDENTIALS"):
        key.sign_in([replaced], allow=[replaced.data])
    assertions, _ = key.sign_in(several)
    check(
        [a.credential["id"] for a in assertions]
        == ids([several[0], several[2], several[1]])
    )

    # What getNextAssertion returns does not outlive the last one.
    with refused("NOT_ALLOWED"):
        key.ctap.get_next_assertion()


def change_pin(key):
    key.pin.change_pin(FIRST_PIN, SECOND_PIN)
    key.retries(8)
    with refused("PIN_INVALID"):
        key.sign_in(accounts[:1])
    key.retries(7)
    key.sign_in(accounts[:1], pin=SECOND_PIN)
    key.retries(8)
    key.pin.change_pin(SECOND_PIN, FIRST_PIN)
    key.sign_in(accounts[:1])


# A credential that is not discoverable.
LISTED = "listed.example.com"
listed = []


def make_credential(key, rp_id, exclude=None, options=None):
    """A makeCredential without user verification."""
    return key.ctap.make_credential(
        os.urandom(32),
        {"id": rp_id, "name": "Example"},
        new_user("ada"),
        [{"type": "public-key", "alg": -7}],
        exclude,
        None,
        options,
    )


def exclude_list(key):
    room = key.room()
    account, _ = key.register(LISTED, "ada", rk=False)
    listed.append(account)
    check(key.room() == room)
    with refused("CREDENTIAL_EXCLUDED"):
        key.register(LISTED, "ada", exclude=[UNKNOWN, account.descriptor])
    with refused("CREDENTIAL_EXCLUDED"):
        key.register(SEVERAL, "ada", exclude=[UNKNOWN, several[1].descriptor])
    # It is nothing to another relying party.
    several[0], _ = key.register(SEVERAL, "ada", exclude=[account.descriptor])

    # A key with a PIN asks for it, as all did in CTAP 2.0, unless it says
    # otherwise of credentials that are not discoverable.
    if not key.ctap.info.options.get("makeCredUvNotRqd"):
        with refused("PIN_REQUIRED"):
            make_credential(key, LISTED)
        return
    check(make_credential(key, LISTED).auth_data.flags == UP | AT)
    with refused("CREDENTIAL_EXCLUDED"):
        make_credential(key, LISTED, [UNKNOWN, account.descriptor])
    with refused("PIN_REQUIRED"):
        make_credential(key, LISTED, options={"rk": True})


def allow_list(key):
    account = listed[0]
    with refused("NO_CREDENTIALS"):
        key.sign_in(listed)
    with refused("NO_CREDENTIALS"):
        key.sign_in(listed, allow=[UNKNOWN])
    with refused("NO_CREDENTIALS"):
        key.sign_in(several, allow=[account.data])
    assertions, _ = key.sign_in(listed, allow=[UNKNOWN, account.data])
    check(len(assertions) == 1)
    check(len(key.sign(listed, [UNKNOWN, account.descriptor])) == 1)
    # Of several that match, one is used.
    assertions, _ = key.sign_in(
        several, allow=[UNKNOWN, several[1].data, several[2].data]
    )
    check(len(assertions) == 1)
    check(assertions[0].credential == several[1].descriptor)


def without_touch(key):
    before = key.connection.touch_needed
    allow = [listed[0].descriptor]
    silently = {"up": False}
    (assertion,) = key.sign(listed, [UNKNOWN] + allow, options=silently)
    check(assertion.auth_data.flags == 0)
    (assertion,) = key.sign(listed, allow, options=silently, uv=True)
    check(assertion.auth_data.flags == UV)
    with refused("NO_CREDENTIALS"):
        key.sign(listed, [UNKNOWN], options=silently)
    # §12.7: no secret without a touch.
    salt = {"hmacGetSecret": {"salt1": bytes(32)}}
    inputs = {"hmac-secret": HmacSecretExtension(key.ctap).process_get_input(salt)}
    with refused("UNSUPPORTED_OPTION"):
        key.sign(listed, allow, inputs, silently)
    check(key.connection.touch_needed == before)


def selection(key):
    before = key.connection.touch_needed
    # 0.9 has the command, but no function for it.
    if key.old:
        with refused("INVALID_COMMAND"):
            key.ctap.send_cbor(Ctap2.CMD.SELECTION)
    else:
        check(key.ctap.send_cbor(Ctap2.CMD.SELECTION) is None)
        check(key.connection.touch_needed > before)
        before = key.connection.touch_needed
    # What was there before it: a pinUvAuthParam of no length.
    with refused("PIN_INVALID"):
        key.ctap.make_credential(
            bytes(32),
            {"id": "select.example.com", "name": ""},
            new_user("nobody"),
            [{"type": "public-key", "alg": -7}],
            pin_uv_param=b"",
            pin_uv_protocol=key.pin.protocol.VERSION,
        )
    check(key.connection.touch_needed > before)


def cancel(key):
    room = key.room()
    ask("ignore")
    for command in (
        lambda event, heard: make_uv(key, event, heard),
        lambda event, heard: key.ctap.get_assertion(
            LISTED,
            os.urandom(32),
            [listed[0].descriptor],
            event=event,
            on_keepalive=heard,
        ),
    ):
        event = threading.Event()
        heard = []

        def on_keepalive(status):
            heard.append(status)
            if status == STATUS.UPNEEDED:
                event.set()

        with refused("KEEPALIVE_CANCEL"):
            command(event, on_keepalive)
        check(heard[-1] == STATUS.UPNEEDED, heard)
    check(key.room() == room)
    ask("touch")
    key.sign_in(accounts[:1])


def make_uv(key, event, on_keepalive):
    client_data_hash = os.urandom(32)
    token = key.pin.get_pin_token(
        FIRST_PIN, ClientPin.PERMISSION.MAKE_CREDENTIAL, "cancelled.example.com"
    )
    return key.ctap.make_credential(
        client_data_hash,
        {"id": "cancelled.example.com", "name": "Example"},
        new_user("ada"),
        [{"type": "public-key", "alg": -7}],
        options={"rk": True},
        pin_uv_param=key.pin.protocol.authenticate(token, client_data_hash),
        pin_uv_protocol=key.pin.protocol.VERSION,
        event=event,
        on_keepalive=on_keepalive,
    )


def built_in_uv(key):
    """The key's own user verification, a fingerprint say, instead of the PIN."""
    rp_id = "finger.example.com"
    left, _ = key.pin.get_uv_retries()
    check(left > 0)
    # By the option "uv" ...
    account, _ = key.register(rp_id, "ada", pin=None)
    key.sign_in([account], pin=None)

    # ... and for a token, if the key has any but for the PIN.
    def with_token():
        client_data_hash = os.urandom(32)
        token = key.pin.get_uv_token(ClientPin.PERMISSION.GET_ASSERTION, rp_id)
        assertion = key.ctap.get_assertion(
            rp_id,
            client_data_hash,
            pin_uv_param=key.pin.protocol.authenticate(token, client_data_hash),
            pin_uv_protocol=key.pin.protocol.VERSION,
        )
        assertion.verify(client_data_hash, account.data.public_key)
        check(assertion.auth_data.flags == UP | UV)

    verify, status = with_token, "UV_INVALID"
    if not key.has("pinUvAuthToken"):
        verify, status = lambda: key.sign_in([account], pin=None), "PIN_REQUIRED"
    verify()
    ask("wrong finger")
    with refused(status):
        verify()
    check(key.pin.get_uv_retries()[0] < left)
    ask("right finger")
    verify()
    check(key.pin.get_uv_retries()[0] == left)


LISTED_AS = CredentialManagement.RESULT


def credential_management(key):
    """What the key keeps is listed, renamed and deleted."""

    def manager(token=None):
        return CredentialManagement(
            key.ctap, key.pin.protocol, token or key.token("CREDENTIAL_MGMT")
        )

    def check_listed(listed, accounts):
        check(len(listed) == len(accounts), listed)
        check(listed[0][LISTED_AS.TOTAL_CREDENTIALS] == len(listed))
        by_id = {a.data.credential_id: a for a in accounts}
        for entry in listed:
            account = by_id.pop(entry[LISTED_AS.CREDENTIAL_ID]["id"])
            check(entry[LISTED_AS.CREDENTIAL_ID] == account.descriptor)
            check(entry[LISTED_AS.USER] == account.user, entry)
            check(entry[LISTED_AS.PUBLIC_KEY] == account.data.public_key)
            check(entry[LISTED_AS.CRED_PROTECT] == account.protection, entry)

    with refused("PIN_AUTH_INVALID"):
        manager(os.urandom(32)).get_metadata()
    manage = manager()
    metadata = manage.get_metadata()
    existing = metadata[LISTED_AS.EXISTING_CRED_COUNT]
    remaining = metadata[LISTED_AS.MAX_REMAINING_COUNT]
    check(existing == len(accounts) + len(several), existing)
    check(key.room() in (None, remaining))

    parties = manage.enumerate_rps()
    check(parties[0][LISTED_AS.TOTAL_RPS] == len(parties))
    check(
        {p[LISTED_AS.RP]["id"]: p[LISTED_AS.RP_ID_HASH] for p in parties}
        == {a.rp_id: sha256(a.rp_id.encode()) for a in accounts + several}
    )
    for account in accounts:
        listed = manage.enumerate_creds(sha256(account.rp_id.encode()))
        check_listed(listed, [account])
    check(manage.enumerate_creds(sha256(b"empty.example.com")) == [])
    check_listed(manage.enumerate_creds(sha256(SEVERAL.encode())), several)

    account = several[1]
    renamed = dict(account.user, name="hopper@example.com", displayName="Grace")
    if key.has("credMgmt"):
        manage.update_user_info(account.descriptor, renamed)
        account.user = renamed
    else:  # the prototype alone cannot rename
        with refused("INVALID_PARAMETER"):
            manage.update_user_info(account.descriptor, renamed)
    check_listed(manage.enumerate_creds(sha256(SEVERAL.encode())), several)

    manage.delete_cred(account.descriptor)
    with refused("NO_CREDENTIALS"):
        manage.delete_cred(account.descriptor)
    left = [several[0], several[2]]
    check_listed(manage.enumerate_creds(sha256(SEVERAL.encode())), left)
    metadata = manage.get_metadata()
    check(metadata[LISTED_AS.EXISTING_CRED_COUNT] == existing - 1)
    check(metadata[LISTED_AS.MAX_REMAINING_COUNT] == remaining + 1)
    with refused("NO_CREDENTIALS"):
        key.sign_in([account], allow=[account.data])

    # What comes next of a list needs its beginning.
    with refused("NOT_ALLOWED"):
        manage.enumerate_rps_next()


def fingerprints(key):
    """The key comes with one finger enrolled, and has one when this is over."""

    def enroller(token=None):
        return FPBioEnrollment(
            key.ctap, key.pin.protocol, token or key.token("BIO_ENROLL")
        )

    with refused("PIN_AUTH_INVALID"):
        enroller(os.urandom(32)).enumerate_enrollments()
    bio = enroller()
    check(bio.get_modality() == 1)
    sensor = bio.get_fingerprint_sensor_info()
    check(sensor[FPBioEnrollment.RESULT.FINGERPRINT_KIND] == 1)
    samples = sensor[FPBioEnrollment.RESULT.MAX_SAMPLES_REQUIRED]

    # 0.9 takes a name for granted, which a finger need not have.
    (first,) = bio._call(FPBioEnrollment.CMD.ENUMERATE_ENROLLMENTS)[
        FPBioEnrollment.RESULT.TEMPLATE_INFOS
    ]
    first = first[FPBioEnrollment.TEMPLATE_INFO.ID]
    bio.set_name(first, "первый")
    check(bio.enumerate_enrollments() == {first: "первый"})

    ask("clumsy finger")
    enrollment = bio.enroll(10000)
    try:
        enrollment.capture()
        check(False, "a sample that was too fast is good")
    except CaptureError as e:
        check(e.code == FPBioEnrollment.FEEDBACK.FP_TOO_FAST, e.code)
    check(enrollment.remaining == samples)
    for left in range(samples - 1, 0, -1):
        check(enrollment.capture() is None)
        check(enrollment.remaining == left, enrollment.remaining)
    thumb = enrollment.capture()
    check(thumb == enrollment.template_id)
    bio.set_name(thumb, "left thumb")
    both = {first: "первый", thumb: "left thumb"}
    check(bio.enumerate_enrollments() == both)

    enrollment = bio.enroll(10000)
    check(enrollment.capture() is None)
    given_up = enrollment.template_id
    enrollment.cancel()
    with refused("INVALID_OPTION"):
        bio.enroll_capture_next(given_up)
    check(bio.enumerate_enrollments() == both)

    # Without any it cannot verify its user.
    bio.remove_enrollment(first)
    with refused("INVALID_OPTION"):
        bio.remove_enrollment(first)
    check(key.has("uv"))
    bio.remove_enrollment(thumb)
    check(not key.has("uv"))
    check(bio.enumerate_enrollments() == {})
    enrollment = bio.enroll(10000)
    while enrollment.capture() is None:
        pass
    check(key.has("uv"))


def large_blobs(key):
    rp_id = "blob.example.com"
    wanted = {"largeBlobKey": True}
    ada, _ = key.register(rp_id, "ada", extensions=wanted)
    bob, _ = key.register(rp_id, "bob", extensions=wanted)
    check(len(ada.large_blob_key) == 32 and ada.large_blob_key != bob.large_blob_key)
    assertions, _ = key.sign_in([ada, bob], extensions=wanted)
    check(
        [a.large_blob_key for a in assertions]
        == [bob.large_blob_key, ada.large_blob_key]
    )

    blobs = LargeBlobs(key.ctap, key.pin.protocol, key.token("LARGE_BLOB_WRITE"))
    check(blobs.read_blob_array() == [])
    # 0.9 gives each fragment of a write a length, that of the fragment (§6.10.2
    # wants that of the whole, with the first): it cannot write more than one.
    at_once = blobs.max_fragment_length > key.ctap.info.max_large_blob
    noise, zeros = os.urandom(3000 if at_once else 800), bytes(100000)
    blobs.put_blob(ada.large_blob_key, noise)
    blobs.put_blob(bob.large_blob_key, zeros)
    check(blobs.get_blob(ada.large_blob_key) == noise)
    check(blobs.get_blob(bob.large_blob_key) == zeros)
    if at_once:
        with refused("LARGE_BLOB_STORAGE_FULL"):
            blobs.put_blob(bob.large_blob_key, noise)
    blobs.put_blob(ada.large_blob_key, b"short")
    blobs.put_blob(bob.large_blob_key, noise)
    check(blobs.get_blob(ada.large_blob_key) == b"short")
    check(blobs.get_blob(bob.large_blob_key) == noise)
    blobs.delete_blob(ada.large_blob_key)
    check(blobs.get_blob(ada.large_blob_key) is None)
    check(blobs.get_blob(bob.large_blob_key) == noise)
    with refused("PIN_REQUIRED"):
        LargeBlobs(key.ctap).write_blob_array([])
    with refused("PIN_AUTH_INVALID"):
        LargeBlobs(key.ctap, key.pin.protocol, os.urandom(32)).write_blob_array([])
    check(blobs.get_blob(bob.large_blob_key) == noise)


def cred_blob(key):
    blob = os.urandom(key.ctap.info.max_cred_blob_length)
    account, auth_data = key.register(
        "credblob.example.com", "ada", extensions={"credBlob": blob}
    )
    check(auth_data.extensions == {"credBlob": True}, auth_data.extensions)
    assertions, _ = key.sign_in([account], extensions={"getCredBlob": True})
    check(assertions[0].auth_data.extensions == {"credBlob": blob})


def u2f(key):
    """By U2F_REGISTER and U2F_AUTHENTICATE, whatever else the key speaks."""
    rp_id = "u2f.example.com"
    application = sha256(rp_id.encode())
    ctap1 = Ctap1(key.device)

    def touched(command, *args):
        for _ in range(100):
            try:
                return command(*args)
            except ApduError as e:
                check(e.code == APDU.USE_NOT_SATISFIED, hex(e.code))
            time.sleep(0.1)
        raise AssertionError("no touch")

    def status(command, *args):
        try:
            return command(*args)
        except ApduError as e:
            return e.code

    check(ctap1.get_version() == "U2F_V2")
    challenge = os.urandom(32)
    ask("ignore")
    check(status(ctap1.register, challenge, application) == APDU.USE_NOT_SATISFIED)
    ask("touch")
    key.power_cycle()  # who was asked already does nothing as long as we ask
    ctap1 = Ctap1(key.device)
    registration = touched(ctap1.register, challenge, application)
    registration.verify(application, challenge)
    verify_x509_chain([registration.certificate, key.root])
    handle, public_key = registration.key_handle, registration.public_key

    counter = 0
    for _ in range(2):
        challenge = os.urandom(32)
        signature = touched(ctap1.authenticate, challenge, application, handle)
        signature.verify(application, challenge, public_key)
        check(signature.user_presence == 1)
        check(signature.counter > counter)
        counter = signature.counter
    for app, key_handle, want in (
        (application, handle, APDU.USE_NOT_SATISFIED),
        (sha256(b"other.example.com"), handle, APDU.WRONG_DATA),
        (application, os.urandom(64), APDU.WRONG_DATA),
    ):
        got = status(ctap1.authenticate, challenge, app, key_handle, True)
        check(got == want, got)

    account = Account(
        rp_id, None, AttestedCredentialData.from_ctap1(handle, public_key), counter
    )
    if key.ctap is None:
        u2f_by_client(key, account)
        return {"attestation": "basic"}
    # Either protocol signs in with what the other has made.
    assertions, _ = key.sign_in([account], allow=[account.data])
    check(assertions[0].auth_data.counter > counter)
    point = listed[0].data.public_key
    signature = touched(
        ctap1.authenticate,
        challenge,
        sha256(LISTED.encode()),
        listed[0].data.credential_id,
    )
    signature.verify(
        sha256(LISTED.encode()), challenge, b"\4" + point[-2] + point[-3]
    )
    return {"attestation": "basic"}


def u2f_by_client(key, registered):
    """Fido2Client makes do with U2F, and the relying party notices nothing."""
    server = Fido2Server(
        {"id": registered.rp_id, "name": "Example"},
        attestation="direct",
        verify_attestation=key.verify_attestation,
    )
    client = key.client(registered.rp_id)
    options, state = server.register_begin(new_user("ada"))
    response = client.make_credential(options["publicKey"])
    auth_data = server.register_complete(
        state, response.client_data, response.attestation_object
    )
    check(response.attestation_object.fmt == "fido-u2f")
    check(key.attestation_type == "basic", key.attestation_type)
    check(auth_data.flags == UP | AT)

    both = [registered.data, auth_data.credential_data]
    for data in both:
        options, state = server.authenticate_begin([data])
        selection = client.get_assertion(options["publicKey"])
        response = selection.get_response(0)
        server.authenticate_complete(
            state,
            both,
            response.credential_id,
            response.client_data,
            response.authenticator_data,
            response.signature,
        )
        check(response.credential_id == data.credential_id)
        check(response.authenticator_data.flags == UP)

    # One that the account has already.
    options, state = server.register_begin(new_user("ada"), both)
    try:
        client.make_credential(options["publicKey"])
        check(False, "registered twice")
    except ClientError as e:
        check(e.code == ClientError.ERR.DEVICE_INELIGIBLE, e)


def configure(key, pin=FIRST_PIN):
    return Config(key.ctap, key.pin.protocol, key.token("AUTHENTICATOR_CFG", pin))


def enterprise_attestation(key):
    check(not key.has("ep"))
    # 0.9 has the command, but no function for it, nor for the parameter.
    configure(key)._call(Config.CMD.ENABLE_ENTERPRISE_ATT)
    check(key.has("ep"))
    rp_id = "enterprise.example.com"
    client_data_hash = os.urandom(32)
    token = key.pin.get_pin_token(
        FIRST_PIN, ClientPin.PERMISSION.MAKE_CREDENTIAL, rp_id
    )
    made = key.ctap.send_cbor(
        Ctap2.CMD.MAKE_CREDENTIAL,
        {
            1: client_data_hash,
            2: {"id": rp_id, "name": "Example"},
            3: new_user("ada"),
            4: [{"type": "public-key", "alg": -7}],
            8: key.pin.protocol.authenticate(token, client_data_hash),
            9: key.pin.protocol.VERSION,
            10: 2,  # managed by the platform
        },
        parse=AttestationObject,
    )
    check(made.ep_att is True)
    key.verify_attestation(made, client_data_hash)
    check(key.attestation_type == "basic", key.attestation_type)


minimum = None  # PIN length of the key as it came


def config(key):
    """The PIN is another one when this is over."""
    global minimum
    minimum = key.ctap.get_info().min_pin_length
    allow = [listed[0].descriptor]
    with refused("PIN_AUTH_INVALID"):
        Config(key.ctap, key.pin.protocol, os.urandom(32)).toggle_always_uv()
    with refused("PIN_REQUIRED"):
        Config(key.ctap).toggle_always_uv()
    check(not key.has("alwaysUv"))
    configure(key).toggle_always_uv()
    check(key.has("alwaysUv"))
    if key.has("uv"):
        (assertion,) = key.sign(listed, allow)
        check(assertion.auth_data.flags == UP | UV)
    else:
        with refused("PIN_REQUIRED"):
            key.sign(listed, allow)
    key.sign(listed, allow, uv=True)
    configure(key).toggle_always_uv()
    check(not key.has("alwaysUv"))
    (assertion,) = key.sign(listed, allow)
    check(assertion.auth_data.flags == UP)

    def told(rp_id, pin):
        wanted = {"minPinLength": True}
        _, auth_data = key.register(rp_id, "ada", pin=pin, rk=False, extensions=wanted)
        return (auth_data.extensions or {}).get("minPinLength")

    rp_ids = ["told%d.example.com" % i for i in range(9)]
    room = key.ctap.info.max_rpids_for_min_pin
    with refused("KEY_STORE_FULL"):
        configure(key).set_min_pin_length(rp_ids=rp_ids[: room + 1])
    check(told(rp_ids[0], FIRST_PIN) is None)
    configure(key).set_min_pin_length(rp_ids=rp_ids[:room])
    check(told(rp_ids[room - 1], FIRST_PIN) == minimum)
    check(told(rp_ids[room], FIRST_PIN) is None)

    # Longer than the PIN that there is.
    configure(key).set_min_pin_length(min_pin_length=7)
    info = key.ctap.get_info()
    check(info.min_pin_length == 7 and info.force_pin_change)
    with refused("PIN_POLICY_VIOLATION"):
        key.sign(listed, allow, uv=True)
    with refused("PIN_POLICY_VIOLATION"):
        key.pin.change_pin(FIRST_PIN, "161803")
    key.pin.change_pin(FIRST_PIN, SECOND_PIN)
    check(not key.ctap.get_info().force_pin_change)
    with refused("PIN_POLICY_VIOLATION"):
        configure(key, SECOND_PIN).set_min_pin_length(min_pin_length=6)
    check(told(rp_ids[0], SECOND_PIN) == 7)

    configure(key, SECOND_PIN).set_min_pin_length(force_change_pin=True)
    check(key.ctap.get_info().force_pin_change)
    with refused("PIN_POLICY_VIOLATION"):
        key.pin.change_pin(SECOND_PIN, SECOND_PIN)
    key.pin.change_pin(SECOND_PIN, THIRD_PIN)
    check(not key.ctap.get_info().force_pin_change)
    key.sign_in(accounts[:1], pin=THIRD_PIN)


def reset(key):
    # A reset is for the first seconds after power-up.
    key.power_cycle()
    key.ctap.reset()
    key.device.close()
    key.open()
    check(key.ctap.info.options["clientPin"] is False)
    check(minimum in (None, key.ctap.info.min_pin_length))
    check(not key.has("ep"))
    key.retries(8)
    with refused("PIN_NOT_SET"):
        key.pin.get_pin_token(FIRST_PIN, ClientPin.PERMISSION.GET_ASSERTION, SEVERAL)
    with refused("NO_CREDENTIALS"):
        key.sign(several)
    with refused("NO_CREDENTIALS"):
        key.sign(several, [several[1].descriptor])
    with refused("NO_CREDENTIALS"):
        key.sign(listed, [listed[0].descriptor])
    key.pin.set_pin(SECOND_PIN)
    account, _ = key.register(SEVERAL, "ada", pin=SECOND_PIN)
    key.sign_in([account], pin=SECOND_PIN)


def step(name, function, *args):
    line = {"step": name}
    try:
        line.update(function(*args) or {})
    except Exception as e:
        calls = traceback.extract_tb(e.__traceback__)[1:]
        here = [str(call.lineno) for call in calls if call.filename == __file__]
        line["error"] = "line %s: %r" % (", ".join(here), e)
    print(json.dumps(line), flush=True)


def main(path, root, *algorithms):
    key = Key(path, bytes.fromhex(root) if root != "-" else None)
    algorithms = [int(alg) for alg in algorithms]
    supported = CoseKey.supported_algorithms()
    check(all(alg in supported for alg in algorithms), supported)

    step("open", open_step, key)
    if key.ctap is None:
        step("U2F", u2f, key)
        return
    step("getInfo", get_info, key)
    step("set PIN", set_pin, key)
    for alg in algorithms:
        step("register %d" % alg, register, key, alg)
    for i, alg in enumerate(algorithms):
        step("sign in %d" % alg, sign_in, key, i)
    if key.has("credProtect"):
        step("credProtect", cred_protect, key)
    step("hmac-secret", hmac_secret, key)
    step("wrong PIN", wrong_pin, key)
    step("PIN_AUTH_BLOCKED", pin_auth_blocked, key)
    step("three accounts", three_accounts, key)
    step("change PIN", change_pin, key)
    step("excludeList", exclude_list, key)
    step("allowList", allow_list, key)
    step("without touch", without_touch, key)
    step("selection", selection, key)
    step("cancel", cancel, key)
    if key.has("credMgmt") or key.has("credentialMgmtPreview"):
        step("credential management", credential_management, key)
    if key.has("bioEnroll") or key.has("userVerificationMgmtPreview"):
        step("fingerprints", fingerprints, key)
    if key.has("uv"):
        step("built-in user verification", built_in_uv, key)
    if key.has("largeBlobs"):
        step("large blobs", large_blobs, key)
    if key.has("credBlob"):
        step("credBlob", cred_blob, key)
    if "U2F_V2" in key.ctap.info.versions:
        step("U2F", u2f, key)
    if "ep" in key.ctap.info.options:
        step("enterprise attestation", enterprise_attestation, key)
    if key.has("authnrCfg"):
        step("config", config, key)
    step("reset", reset, key)


if __name__ == "__main__":
    main(*sys.argv[1:])
