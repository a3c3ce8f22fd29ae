package webauthn

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// An origin is a site that may use WebAuthn: a secure context whose host is a
// domain (WebAuthn §5.1.3, steps 6 and 7).
type origin struct {
	text string // serialized in ASCII (HTML, "ASCII serialization of an origin")
	host string // the effective domain
}

// parseOrigin reads "https://example.com:8443". It refuses with ErrSecurity
// what is no origin, what is not a secure context (https, or http on this
// machine), and a host that is an address or not in ASCII.
func parseOrigin(s string) (origin, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return origin{}, refuse(ErrSecurity, "%.64q is not an origin, such as https://example.com", s)
	}
	// Some letters that are not in ASCII become such in lower case.
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }) {
		return origin{}, refuse(ErrSecurity, "the host of origin %.64q is not a domain name in ASCII", s)
	}
	o := origin{host: strings.ToLower(u.Hostname())}
	local := o.host == "localhost" || strings.HasSuffix(o.host, ".localhost")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return origin{}, refuse(ErrSecurity, "origin %.64q is not a secure context: neither https nor localhost", s)
	}
	if !validDomain(o.host) {
		return origin{}, refuse(ErrSecurity, "the host of origin %.64q is not a domain name in ASCII", s)
	}
	o.text = u.Scheme + "://" + o.host
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return origin{}, refuse(ErrSecurity, "the port of origin %.64q is out of range", s)
		}
		if n != map[string]uint64{"https": 443, "http": 80}[u.Scheme] {
			o.text += ":" + strconv.FormatUint(n, 10)
		}
	}
	return o, nil
}

// validDomain reports whether s is a domain name in ASCII and lower case, and
// not one that a browser takes for an IP address.
func validDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	number, hexadecimal := strings.CutPrefix(last, "0x")
	return strings.Trim(last, "0123456789") != "" && !(hexadecimal && strings.Trim(number, "0123456789abcdef") == "")
}

// mayClaim reports whether rpID is the origin's domain or a registrable suffix
// of it (HTML, "is a registrable domain suffix of or is equal to").
func (o origin) mayClaim(rpID string) bool {
	if rpID == o.host {
		return true
	}
	suffix, _ := publicsuffix.PublicSuffix(o.host)
	return strings.HasSuffix(o.host, "."+rpID) && strings.HasSuffix(rpID, "."+suffix)
}

// relyingParty returns the RP ID of a request, which its origin must be entitled
// to (WebAuthn §5.1.3, step 8).
func (c *Client) relyingParty(ctx context.Context, o origin, rpID string) (string, error) {
	switch {
	case rpID == "":
		return o.host, nil
	case !validDomain(rpID):
		return "", refuse(ErrSecurity, "RP ID %.64q is not a domain name in ASCII and lower case", rpID)
	case o.mayClaim(rpID):
		return rpID, nil
	}
	why := "is not a suffix of"
	if strings.HasSuffix(o.host, "."+rpID) {
		why = "is a public suffix, and not for"
	}
	if c.RelatedOrigins == nil || !strings.HasPrefix(o.text, "https:") {
		return "", refuse(ErrSecurity, "RP ID %q %s origin %s", rpID, why, o.text)
	}
	document, err := c.RelatedOrigins(ctx, rpID)
	if err != nil {
		return "", refuse(ErrSecurity, "RP ID %q %s origin %s, and its related origins could not be had: %w", rpID, why, o.text, err)
	}
	if !o.relatedIn(document) {
		return "", refuse(ErrSecurity, "RP ID %q %s origin %s, nor is that among its related origins", rpID, why, o.text)
	}
	return rpID, nil
}

// maxRelatedLabels is how many names of sites count in a list of related
// origins; what stands behind them, under further names, does not (WebAuthn
// §5.11).
const maxRelatedLabels = 5

// urlHosts writes hosts in ASCII as browsers do that read a URL (URL, "domain to
// ASCII", not beStrict).
var urlHosts = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.BidiRule())

// relatedIn reports whether a document of related origins names the origin
// (WebAuthn §5.11.1).
func (o origin) relatedIn(document []byte) bool {
	var err error
	var list []*string
	readObject("", document, &err).read("origins", &list)
	if err != nil || slices.Contains(list, nil) {
		return false
	}
	var seen []string
	for _, s := range list {
		u, err := url.Parse(*s)
		if err != nil {
			continue
		}
		host, err := urlHosts.ToASCII(u.Hostname())
		if err != nil {
			continue
		}
		site, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(host))
		if err != nil {
			continue
		}
		label, _, _ := strings.Cut(site, ".")
		if !slices.Contains(seen, label) {
			if len(seen) == maxRelatedLabels {
				continue
			}
			seen = append(seen, label)
		}
		// Their path does not matter.
		related, err := parseOrigin(u.Scheme + "://" + strings.Replace(u.Host, u.Hostname(), host, 1))
		if err == nil && related.text == o.text {
			return true
		}
	}
	return false
}
