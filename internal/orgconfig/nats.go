package orgconfig

import (
	"net"
	"net/url"
	"strings"
)

// values reports what is wrong with the section nats. Whoever reads along between us
// and a server reads credentials and may write: without TLS only this machine will do.
func (n NATS) values(fault func(key, what string)) {
	for _, server := range n.Servers {
		if what := natsServer(server); what != "" {
			fault("nats.servers", what)
			break
		}
	}
	cluster := len(n.Servers) > 0
	if !cluster {
		for key, value := range map[string]string{"credentials_file": n.CredentialsFile, "ca_file": n.CAFile, "cert_file": n.CertFile, "key_file": n.KeyFile} {
			if value != "" {
				fault("nats."+key, "it needs servers")
			}
		}
	}
	if (n.CertFile == "") != (n.KeyFile == "") {
		fault("nats.cert_file", "it and key_file belong together")
	}
	switch n.Replicas {
	case 0, 1:
	case 3, 5:
		if !cluster {
			fault("nats.replicas", "in this process there is one copy; more need servers")
		}
	default:
		fault("nats.replicas", "it is not 1, 3 or 5")
	}
	if cluster && n.Folder != "" {
		fault("nats.folder", "it and servers exclude each other: a cluster has folders of its own")
	}
	if len(n.SealKeyFiles) == 0 {
		switch {
		case cluster:
			fault("nats.seal_key_files", "there is none; with servers all backends need the same")
		case n.Folder != "":
			fault("nats.seal_key_files", "there is none; what is in folder is encrypted")
		}
	}
}

// natsServer says what is wrong with the address of a server.
func natsServer(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || strings.Contains(text, ",") || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return "one is not tls://host:port"
	case u.User != nil:
		return "one holds a user or a password; name a credentials_file"
	case u.Scheme == "tls":
		return ""
	case u.Scheme != "nats":
		return "one is not tls://host:port"
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return "one is reached without TLS; only a loopback address may be, write tls://"
	}
	return ""
}
