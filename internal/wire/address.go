package wire

import (
	"encoding/binary"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Requests that a caller may have sent to an address of his choice must not reach what only this machine or its network
// can: other servers behind the firewall, the metadata service of a cloud. What counts is the address that is connected
// to, after its name was looked up. What shows in a URL already is refused at once.

// notPublic are the blocks that are not globally routable, or belong to a technique that leads elsewhere: the special
// purpose registries of IANA (RFC 6890), without those that netip knows by name.
var notPublic = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	translated    = netip.MustParsePrefix("64:ff9b::/96") // NAT64 (RFC 6052): the last four bytes are where it leads
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// IsPublic reports whether an address is globally routable and of one receiver.
func IsPublic(a netip.Addr) bool {
	a = a.Unmap()
	if translated.Contains(a) {
		bytes := a.As16()
		return IsPublic(netip.AddrFrom4([4]byte(bytes[12:])))
	}
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !globalUnicast.Contains(a) || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, block := range notPublic {
		if block.Contains(a) {
			return false
		}
	}
	return true
}

// parseAddress reads an address in every spelling that resolvers take, so also 0x7f.1 and 2130706433 (inet_aton).
func parseAddress(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	sum := uint64(0)
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // the last part stands for all that are left
		}
		n, err := strconv.ParseUint(part, 0, 33)
		isHex := strings.HasPrefix(strings.ToLower(part), "0x")
		if err != nil || n>>bits != 0 || strings.ContainsAny(part, "_+bBoO") && !isHex {
			return netip.Addr{}, false
		}
		sum = sum<<bits | n
	}
	var four [4]byte
	binary.BigEndian.PutUint32(four[:], uint32(sum))
	return netip.AddrFrom4(four), true
}

// checkReceiver says what is wrong with the URL of a webhook; nothing if deliveries to it can be tried.
func checkReceiver(text string, private bool) string {
	if len(text) > inventory.MaxWebhookURLBytes {
		return "must have at most 2,048 characters"
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return "must be printable ASCII: percent-encode what is special, and write names of hosts in punycode"
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || !isPort(u.Port()):
		return "must be a URL such as https://shop.example/hook"
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return "must begin with https://"
	case u.User != nil:
		return "must not have a user or password"
	case strings.Contains(text, "#"):
		return "must not have a fragment"
	case !private && !mayBePublic(u.Hostname()):
		return "must not lead to this machine or a private network"
	}
	return ""
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

// mayBePublic reports whether the name or address of a host does not show that it is not public.
func mayBePublic(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, is := parseAddress(host); is {
		return IsPublic(a)
	}
	return host != "localhost" && !strings.HasSuffix(host, ".localhost")
}
