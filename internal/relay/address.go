package relay

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Address is the URL of a sink, read strictly. The user stands in it, and the password either too or in a file.
type Address struct {
	*url.URL
	User, Password string
	parameters     url.Values
}

// passwordFile is the parameter that names a file with the password.
const passwordFile = "passwordFile"

// ParseAddress reads the URL of a sink, which may have these parameters besides passwordFile. Errors do not show
// secrets.
func ParseAddress(text string, parameters ...string) (*Address, error) {
	u, err := parseURL(text)
	if err != nil {
		return nil, errors.New("the URL of the sink cannot be read: percent-encode what is special in the user, password and names")
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters of the sink cannot be read: percent-encode them")
	}
	if strings.Contains(u.Path, "@") { // a password with a slash, say
		return nil, errors.New("the URL of the sink has an @ behind its host: percent-encode what is special in the user and password")
	}
	a := &Address{URL: u, User: u.User.Username(), parameters: values}
	a.Password, _ = u.User.Password()
	for name, list := range values {
		if name != passwordFile && !slices.Contains(parameters, name) {
			return nil, fmt.Errorf("the sink %s has no parameter %s: it takes %s", a.Name(), name,
				strings.Join(append(parameters, passwordFile), ", "))
		}
		if len(list) > 1 {
			return nil, fmt.Errorf("the sink %s has the parameter %s more than once", a.Name(), name)
		}
	}
	if file := values.Get(passwordFile); file != "" {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the password of the sink %s: %w", a.Name(), err)
		}
		a.Password = strings.TrimRight(string(secret), "\r\n")
	}
	return a, nil
}

// withHosts takes a URL apart: what stands before its hosts, these, and the rest.
var withHosts = regexp.MustCompile(`^([a-z+]+://(?:[^/?#]*@)?)([^/?#]*)(.*)$`)

// parseURL reads a URL that may have several hosts with ports, which Go takes for no URL.
func parseURL(text string) (*url.URL, error) {
	parts := withHosts.FindStringSubmatch(text)
	if parts == nil {
		return url.Parse(text)
	}
	for host := range strings.SplitSeq(parts[2], ",") {
		if _, err := url.Parse("host://" + host); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(parts[1] + "host" + parts[3])
	if err == nil {
		u.Host = parts[2]
	}
	return u, err
}

// Parameter is the value of a parameter, or empty.
func (a *Address) Parameter(name string) string { return a.parameters.Get(name) }

// Flag reads a parameter that is true or false; left out, it is false.
func (a *Address) Flag(name string) (bool, error) {
	switch a.parameters.Get(name) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, fmt.Errorf("the parameter %s of the sink %s must be true or false", name, a.Name())
}

// Name is the address without user and password, and without create, which only the first start may need: under it the
// position is kept, and it may be logged.
func (a *Address) Name() string {
	bare := *a.URL
	bare.User = nil
	values := bare.Query()
	values.Del(passwordFile)
	values.Del("create")
	bare.RawQuery = values.Encode()
	return bare.String()
}
