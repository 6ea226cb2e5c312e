package transport

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/mattn/go-ieproxy"
)

// systemProxy asks Windows: the person's Internet settings, WinHTTP's, and the
// script or detection that these name.
func systemProxy() proxyFunc { return ieproxy.GetProxyFunc() }

// scriptProxy evaluates the script at the address for each request. The script
// sees the scheme and the host only, never a path.
func scriptProxy(address string) (proxyFunc, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("the address of the proxy script is not one of http or https")
	}
	script := ieproxy.ProxyScriptConf{Active: true, PreConfiguredURL: address}
	return func(r *http.Request) (*url.URL, error) {
		host := script.FindProxyForURL(r.URL.Scheme + "://" + r.URL.Host + "/")
		if host == "" {
			return nil, nil
		}
		return &url.URL{Scheme: "http", Host: host}, nil
	}, nil
}
