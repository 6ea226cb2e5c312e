package orgconfig

import (
	"slices"
	"testing"
)

func TestTheSectionNATSIsRefusedForEveryFaultByItsKey(t *testing.T) {
	cluster := NATS{Servers: []string{"tls://n1.example:4222", "tls://n2.example"}, SealKeyFiles: []string{"k"}}
	with := func(change func(*NATS)) NATS {
		n := cluster
		change(&n)
		return n
	}
	servers := func(s ...string) NATS { return with(func(n *NATS) { n.Servers = s }) }
	const address, noTLS, password = "one is not tls://host:port", "one is reached without TLS; only a loopback address may be, write tls://", "one holds a user or a password; name a credentials_file"
	for name, c := range map[string]struct {
		nats NATS
		want []string
	}{
		"nothing":                   {NATS{}, nil},
		"a cluster":                 {cluster, nil},
		"with all that it can have": {with(func(n *NATS) { n.CredentialsFile, n.CAFile, n.CertFile, n.KeyFile, n.Replicas = "a", "b", "c", "d", 5 }), nil},
		"a folder":                  {NATS{Folder: "f", SealKeyFiles: []string{"k"}, Replicas: 1}, nil},
		"without TLS on loopback":   {servers("nats://127.0.0.1:4222", "nats://[::1]:4222"), nil},
		"without TLS elsewhere":     {servers("nats://n1.example:4222"), []string{"nats.servers: " + noTLS}},
		"without TLS by a name":     {servers("nats://localhost:4222"), []string{"nats.servers: " + noTLS}},
		"one of two without TLS":    {servers("tls://n1.example", "nats://10.0.0.1"), []string{"nats.servers: " + noTLS}},
		"a password":                {servers("tls://user:password@n1.example"), []string{"nats.servers: " + password}},
		"a token":                   {servers("tls://token@n1.example"), []string{"nats.servers: " + password}},
		"no scheme":                 {servers("n1.example:4222"), []string{"nats.servers: " + address}},
		"a web socket":              {servers("wss://n1.example"), []string{"nats.servers: " + address}},
		"a path":                    {servers("tls://n1.example/x"), []string{"nats.servers: " + address}},
		"two in one":                {servers("tls://n1.example,tls://n2.example"), []string{"nats.servers: " + address}},
		"an empty one":              {servers(""), []string{"nats.servers: " + address}},
		"two copies":                {with(func(n *NATS) { n.Replicas = 2 }), []string{"nats.replicas: it is not 1, 3 or 5"}},
		"fewer than none":           {with(func(n *NATS) { n.Replicas = -1 }), []string{"nats.replicas: it is not 1, 3 or 5"}},
		"copies in this process":    {NATS{Replicas: 3}, []string{"nats.replicas: in this process there is one copy; more need servers"}},
		"folder and servers":        {with(func(n *NATS) { n.Folder = "f" }), []string{"nats.folder: it and servers exclude each other: a cluster has folders of its own"}},
		"no seal key":               {with(func(n *NATS) { n.SealKeyFiles = nil }), []string{"nats.seal_key_files: there is none; with servers all backends need the same"}},
		"a folder without seal key": {NATS{Folder: "f"}, []string{"nats.seal_key_files: there is none; what is in folder is encrypted"}},
		"half a certificate":        {with(func(n *NATS) { n.CertFile = "c" }), []string{"nats.cert_file: it and key_file belong together"}},
		"files without servers":     {NATS{CredentialsFile: "a", CAFile: "b"}, []string{"nats.ca_file: it needs servers", "nats.credentials_file: it needs servers"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			c.nats.values(func(key, what string) { got = append(got, key+": "+what) })
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
