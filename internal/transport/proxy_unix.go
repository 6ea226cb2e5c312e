//go:build unix

package transport

import (
	"errors"
	"net/http"
)

// systemProxy reads HTTPS_PROXY, HTTP_PROXY and NO_PROXY, once per process.
func systemProxy() proxyFunc { return http.ProxyFromEnvironment }

// scriptProxy refuses: nothing here evaluates PAC scripts.
func scriptProxy(string) (proxyFunc, error) {
	return nil, errors.New("proxy scripts are not evaluated on this system")
}
