//go:build unix

package transport

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// systemQuestions: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which the standard library
// reads once per process; nobody can change them later.
func systemQuestions() []question {
	return []question{{FromEnvironment, false, func(target *url.URL) (answer, error) {
		u, err := http.ProxyFromEnvironment(&http.Request{URL: target})
		if err != nil {
			// Its text quotes the setting, which may hold a password.
			return answer{}, errors.New("the environment's proxy is not a URL")
		}
		if u == nil {
			if !readable(target.Scheme) {
				return answer{}, errors.New("the environment's proxy is not a URL")
			}
			return answer{}, nil
		}
		return answer{found: true, choices: []*url.URL{u}}, nil
	}}}
}

// readable reports whether the variable for a scheme is one that the standard library
// can read: it takes one that it cannot for none.
func readable(scheme string) bool {
	value := os.Getenv(strings.ToUpper(scheme) + "_PROXY")
	if value == "" {
		value = os.Getenv(scheme + "_proxy")
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	_, err := url.Parse(value)
	return err == nil
}

// scriptQuestion refuses: nothing here evaluates PAC scripts.
func scriptQuestion(string) (func(*url.URL) (answer, error), error) {
	return nil, errors.New("proxy scripts are not evaluated on this system")
}

// watchNetwork reports no change: what the environment says depends on no network.
func watchNetwork() (changed func() bool, unwatch func()) {
	return func() bool { return false }, func() {}
}
