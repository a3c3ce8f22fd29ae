package webauthn

import (
	"crypto/sha256"
	"net/url"

	"golang.org/x/net/publicsuffix"

	"github.com/tapstone/fido/ctap2"
)

// checkAppID refuses with ErrSecurity an AppID that the origin has no right to
// (FIDO AppID and Facet Specification §3.1.2): it has to be of the same site. As
// in browsers, no list of trusted facets is fetched.
func (o origin) checkAppID(appID string) error {
	u, err := url.Parse(appID)
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil {
		facet, err := parseOrigin(u.Scheme + "://" + u.Host)
		if err == nil && sameSite(facet.host, o.host) {
			return nil
		}
	}
	return refuse(ErrSecurity, "AppID %q is not for origin %s", appID, o.text)
}

func sameSite(a, b string) bool {
	if a == b {
		return true
	}
	siteA, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	siteB, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && siteA == siteB
}

// appIDExclude looks for ExcludeCredentials among those made with the U2F API
// (WebAuthn §10.1.2). A key that does not speak U2F may hold them as well.
func (r *registration) appIDExclude() error {
	appID := r.options.Extensions.AppIDExclude
	if appID == "" {
		return nil
	}
	if err := r.origin.checkAppID(appID); err != nil {
		return err
	}
	r.outputs.AppIDExclude = true
	if len(r.request.ExcludeList) == 0 {
		return nil
	}
	r.before = append(r.before, func() error {
		found, ok, err := r.find(r.key, appID, r.request.ExcludeList, ctap2.Discouraged)
		if err != nil {
			return r.failure(err)
		}
		if !ok {
			return nil
		}
		// The person's touch consents to telling the site.
		nothing := sha256.Sum256(nil)
		_, err = r.key.GetAssertion(r.ctx, &ctap2.GetAssertionRequest{
			RPID:             appID,
			ClientDataHash:   nothing[:],
			AllowList:        []ctap2.CredentialDescriptor{found},
			UserVerification: ctap2.Discouraged,
		})
		if err != nil {
			return r.failure(err)
		}
		return refuse(ErrInvalidState, "the key holds one of excludeCredentials, made for AppID %q", appID)
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
	if err := a.origin.checkAppID(appID); err != nil {
		return err
	}
	used := new(bool)
	a.outputs.AppID = used
	if len(a.request.AllowList) == 0 {
		return nil
	}
	a.before = append(a.before, func() error {
		for _, id := range []string{a.rpID, appID} {
			found, ok, err := a.find(a.key, id, a.request.AllowList, ctap2.Discouraged)
			if err != nil {
				return a.failure(err)
			}
			if ok {
				*used = id == appID
				a.request.RPID = id
				a.request.AllowList = []ctap2.CredentialDescriptor{found}
				break
			}
		}
		return nil
	})
	return nil
}
