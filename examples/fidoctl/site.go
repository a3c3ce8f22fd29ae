package main

import (
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// siteOf reads SITE, a domain or the address of a page there, and returns the
// origin and the RP ID that it has unless it says another one.
func siteOf(text string) (origin, rpID string, err error) {
	address := text
	if !strings.Contains(text, "://") {
		address = "https://" + text
	}
	u, err := url.Parse(address)
	web := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil &&
		u.Hostname() != "" && !strings.Contains(u.Hostname(), ":") && !strings.HasSuffix(u.Host, ":") // as of "ssh:"
	if web {
		rpID, err = inASCII.ToASCII(u.Hostname())
	}
	if !web || err != nil {
		return "", "", usagef("%q is no site: SITE is a domain such as example.com, or an address such as http://localhost:8080;"+
			" RP IDs of programs that are not on the web, such as ssh:, are for fidoctl secret alone", text)
	}
	origin = u.Scheme + "://" + rpID
	if u.Port() != "" {
		origin += ":" + u.Port()
	}
	return origin, rpID, nil
}

// inASCII maps the names of hosts as browsers do, to lower case among others.
var inASCII = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false), idna.CheckHyphens(false))

// rpIDOf returns the RP ID that SITE stands for where no browser's rules hold:
// that of the site, or the text itself where that is none, such as "ssh:" or "App".
func rpIDOf(text string) string {
	_, rpID, err := siteOf(text)
	if err != nil || rpID != "localhost" && !strings.Contains(rpID, ".") && !strings.Contains(text, "://") {
		return text
	}
	return rpID
}
