package webauthn

import (
	"bytes"
	"crypto/sha256"
	"net/url"
	"slices"

	"golang.org/x/net/publicsuffix"

	"github.com/tapstone/fido/ctap2"
)

// checkAppID refuses with ErrSecurity an AppID that the origin has no right to
// (FIDO AppID and Facet Specification §3.1.2): it has to be of the same site. As
// in browsers, no list of trusted facets is fetched. An empty one is none.
func (o origin) checkAppID(appID string) error {
	if appID == "" {
		return nil
	}
	u, err := url.Parse(appID)
	if err == nil && u.User == nil {
		facet, err := parseOrigin(u.Scheme + "://" + u.Host)
		if err == nil && sameSite(facet.host, o.host) {
			return nil
		}
	}
	return refuse(ErrSecurity, "AppID %.64q is not for origin %s", appID, o.text)
}

func sameSite(a, b string) bool {
	if a == b {
		return true
	}
	siteA, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	siteB, _ := publicsuffix.EffectiveTLDPlusOne(b) // empty if there is none
	return siteA == siteB
}

// appIDExclude looks for ExcludeCredentials among those made with the U2F API
// (WebAuthn §10.1.2). A key that does not speak U2F may hold them as well.
func (r *registration) appIDExclude() error {
	appID := r.options.Extensions.AppIDExclude
	if appID == "" {
		return nil
	}
	r.outputs.AppIDExclude = true
	if len(r.request.ExcludeList) == 0 {
		return nil
	}
	r.before = append(r.before, func() error {
		found, ok, err := r.find(r.key, &ctap2.GetAssertionRequest{RPID: appID, AllowList: r.request.ExcludeList, UserVerification: ctap2.Discouraged})
		if err != nil {
			return r.failure(err)
		}
		if !ok {
			return nil
		}
		// The person's touch consents to telling the site.
		nothing := sha256.Sum256(nil)
		err = r.patiently(func() error {
			_, err := r.key.GetAssertion(r.ctx, &ctap2.GetAssertionRequest{
				RPID:             appID,
				ClientDataHash:   nothing[:],
				AllowList:        []ctap2.CredentialDescriptor{found},
				UserVerification: ctap2.Discouraged,
			})
			return err
		})
		if err != nil {
			return r.failure(err)
		}
		return refuse(ErrInvalidState, "the key holds one of excludeCredentials, made for AppID %.64q", appID)
	})
	return nil
}

// appID lets a credential sign that was made with the U2F API, if the key holds
// none of AllowCredentials for the RP ID (WebAuthn §10.1.1).
func (a *authentication) appID() error {
	appID := a.options.Extensions.AppID
	if appID == "" {
		return nil
	}
	used := new(bool)
	a.outputs.AppID = used
	if len(a.request.AllowList) == 0 {
		return nil
	}
	a.before = append(a.before, func() error {
		rpID, found, ok, err := a.search(appID)
		if err != nil || !ok {
			return err
		}
		a.request.AllowList = []ctap2.CredentialDescriptor{found}
		if *used = rpID == appID; *used {
			a.request.RPID = appID
			a.dropToken() // which is for the RP ID
		}
		return nil
	})
	return nil
}

// search returns which of the allowed credentials the key holds, and for which
// of the two IDs. One for the RP ID goes first, also one that the key does not
// admit to before it has verified the user, if it is to do that.
func (a *authentication) search(appID string) (rpID string, found ctap2.CredentialDescriptor, ok bool, err error) {
	list := a.request.AllowList
	for _, rpID = range []string{a.rpID, appID} {
		found, ok, err = a.find(a.key, &ctap2.GetAssertionRequest{RPID: rpID, AllowList: list, UserVerification: ctap2.Discouraged})
		if err != nil {
			return "", found, false, a.failure(err)
		}
		if ok {
			break
		}
	}
	list = slices.DeleteFunc(slices.Clone(list), func(d ctap2.CredentialDescriptor) bool { return bytes.Equal(d.ID, found.ID) })
	if !ok || rpID == a.rpID || len(list) == 0 || !a.info.HasExtension("credProtect") {
		return rpID, found, ok, nil
	}
	if err := a.authorize(); err != nil {
		return "", found, false, err
	}
	if a.request.Token == nil && a.request.UserVerification != ctap2.Required {
		return rpID, found, true, nil
	}
	hidden, ok, err := a.find(a.key, &ctap2.GetAssertionRequest{RPID: a.rpID, AllowList: list, UserVerification: a.request.UserVerification, Token: a.request.Token})
	switch {
	case err != nil:
		return "", found, false, a.failure(err)
	case ok:
		return a.rpID, hidden, true, nil
	}
	return rpID, found, true, nil
}
