package conformance

import (
	"bytes"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// enterprise is an authenticator that is capable of enterprise attestation.
var enterprise = option(ctap2.OptionEnterpriseAttestation)

// mcEnterprise asks makeCredential for enterprise attestation.
func mcEnterprise(value int) edit { return set(10, value) }

// unlistedRPID is a relying party that is on no authenticator's list.
const unlistedRPID = "unlisted.example.org"

func (d *drivers) enterpriseAttestation() {
	d.simple("ea-not-capable", plain.and(not(enterprise, "is capable of enterprise attestation"), from21), mcEnterprise(1))
	d.simple("ea-not-capable-value", plain.and(not(enterprise, "is capable of enterprise attestation"), from21), mcEnterprise(7))
	d.simple("ea-disabled", plain.and(enterprise, lacks(ctap2.OptionEnterpriseAttestation)), mcEnterprise(1))
	// Whether it grants what it is asked for is at the authenticator's discretion.
	enabled := func(id string, may bool, rpID func(x *trial) string, value int) {
		d.add("ea-"+id, plain.and(enterprise, authnrCfg), func(x *trial) error {
			answer, err := x.askEnterprise(rpID(x), value)
			switch granted := answer[mcEpAtt] == true; {
			case err != nil:
			case granted && !may:
				x.errorf("epAtt is true, must not be")
			case may && !granted:
				x.skip("grants no enterprise attestation there, as it may")
			}
			return err
		})
	}
	unlisted := func(*trial) string { return unlistedRPID }
	enabled("value", false, unlisted, 3)
	enabled("value-zero", false, unlisted, 0)
	enabled("vendor-listed", true, (*trial).enterpriseRPID, 1)
	enabled("vendor-unlisted", false, unlisted, 1)
	enabled("platform", true, unlisted, 2)

	capable := plain.and(enterprise, authnrCfg)
	d.add("ea-certificate", capable, func(x *trial) error {
		ordinary := x.certificate(x.made(set(2, fields{"id": unlistedRPID})))
		answer, err := x.askEnterprise(unlistedRPID, 2)
		x.must(err)
		certificate := x.certificate(answer)
		if answer[mcEpAtt] != true {
			if !bytes.Equal(ordinary, certificate) {
				x.errorf("an attestation without epAtt has another certificate than an ordinary one")
			}
			x.skip("grants no enterprise attestation there, as it may")
		}
		if certificate == nil || bytes.Equal(ordinary, certificate) {
			x.errorf("the enterprise attestation has the certificate of an ordinary one, or none")
		}
		again, err := x.askEnterprise(unlistedRPID, 2)
		x.must(err)
		if !bytes.Equal(certificate, x.certificate(again)) {
			x.errorf("a second enterprise attestation has another certificate")
		}
		return nil
	})
	d.add("ea-ordinary", capable, func(x *trial) error {
		x.must(x.key.EnableEnterpriseAttestation(x.ctx, nil))
		answer := x.made(set(2, fields{"id": unlistedRPID}))
		if _, there := answer[mcEpAtt]; there {
			x.errorf("epAtt is %v in a registration that did not ask for it", answer[mcEpAtt])
		}
		certificate := x.certificate(answer)
		attested, err := x.askEnterprise(unlistedRPID, 2)
		x.must(err)
		if certificate != nil && attested[mcEpAtt] == true && bytes.Equal(certificate, x.certificate(attested)) {
			x.errorf("a registration that did not ask for it has the certificate of enterprise attestation")
		}
		return nil
	})
	d.add("ea-unlisted-certificate", capable, func(x *trial) error {
		ordinary := x.certificate(x.made(set(2, fields{"id": unlistedRPID})))
		answer, err := x.askEnterprise(unlistedRPID, 1)
		x.must(err)
		if !bytes.Equal(ordinary, x.certificate(answer)) {
			x.errorf("a relying party that is not on the list gets another certificate than without enterpriseAttestation")
		}
		return nil
	})
}

// certificate is the attestation certificate in an answer of makeCredential, nil
// if there is none.
func (x *trial) certificate(answer members) []byte {
	statement, _ := answer[mcStatement].(map[any]any)
	chain, _ := statement["x5c"].([]any)
	if len(chain) == 0 {
		return nil
	}
	leaf, _ := chain[0].([]byte)
	return leaf
}

// askEnterprise enables enterprise attestation and asks for it.
func (x *trial) askEnterprise(rpID string, value int) (members, error) {
	x.must(x.key.EnableEnterpriseAttestation(x.ctx, nil))
	return x.ask(ctap.CmdMakeCredential, mcRequest(set(2, fields{"id": rpID}), mcEnterprise(value)))
}

// enterpriseRPID is a relying party on the authenticator's list.
func (x *trial) enterpriseRPID() string {
	if x.h.config.Target.EnterpriseRPID == "" {
		x.skip("no relying party is known to be on its list for enterprise attestation")
	}
	return x.h.config.Target.EnterpriseRPID
}
