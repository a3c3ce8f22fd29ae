"""Relying parties on python-fido2 0.9, for webauthn_test.go.

Each line of stdin is a ceremony: what the site remembers of the options that it
sent, and the response that came back. The line of stdout for it has the error
that python-fido2 refuses it with, empty if there is none.

Fido2Server checks type, challenge, origin, RP ID hash, flags, attestation with
its chain, and signature.
"""

import json
import sys

from fido2.client import ClientData
from fido2.ctap2 import AttestationObject, AttestedCredentialData, AuthenticatorData
from fido2.server import AttestationVerifier, Fido2Server, U2FFido2Server
from fido2.utils import websafe_decode
from fido2.webauthn import UserVerificationRequirement

# The credentials that were registered, by ID.
credentials = {}


class Verifier(AttestationVerifier):
    """Trusts one root."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def ca_lookup(self, result, auth_data):
        return [self.root]


def judge(ceremony):
    rp = {"id": ceremony["rpID"], "name": "Example"}
    if ceremony["appID"]:
        server = U2FFido2Server(ceremony["appID"], rp)
    else:
        server = Fido2Server(
            rp,
            attestation=ceremony["attestation"] or None,
            verify_attestation=Verifier(websafe_decode(ceremony["root"])),
        )
    state = {
        "challenge": ceremony["challenge"],
        "user_verification": UserVerificationRequirement(ceremony["userVerification"]),
    }
    credential = ceremony["response"]
    response = {
        name: websafe_decode(value)
        for name, value in credential["response"].items()
        if isinstance(value, str)
    }
    client_data = ClientData(response["clientDataJSON"])
    if "attestationObject" in response:
        auth_data = server.register_complete(
            state, client_data, AttestationObject(response["attestationObject"])
        )
        credentials[auth_data.credential_data.credential_id] = auth_data.credential_data
        return
    credential_id = websafe_decode(credential["rawId"])
    if ceremony["u2fKey"]:
        credentials[credential_id] = AttestedCredentialData.from_ctap1(
            credential_id, websafe_decode(ceremony["u2fKey"])
        )
    server.authenticate_complete(
        state,
        credentials.values(),
        credential_id,
        client_data,
        AuthenticatorData(response["authenticatorData"]),
        response["signature"],
    )


for line in sys.stdin:
    error = ""
    try:
        judge(json.loads(line))
    except Exception as e:
        error = repr(e)
    print(json.dumps(error), flush=True)
