package orgconfig

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"
)

//go:generate go run ../cmd/org-backend config-reference --force --output ../../docs/org-backend-configuration.md
//go:generate go run ../cmd/org-backend config-reference --example --force --output ../../build/backend/config.yaml.example

// Key is one key of the configuration, for people.
type Key struct {
	// Path is the key below its sections; "[]" stands for an entry of a list.
	Path string
	// Type is a word for people: text, file, duration, number, yes or no, list of these.
	Type string
	// Default is what holds when the key is absent; empty means that there is none.
	Default string
	// Sentence says what it is for, with a full stop.
	Sentence string
	// Example is a value in YAML. Without one the example file leaves the key out.
	Example string
	// Since is the first version that knows the key.
	Since string
	// Needed says that nothing works without it. Set says that the example sets it.
	Needed, Set bool
}

// section is a heading of the reference.
type section struct {
	title, text string
	keys        []Key
}

// sections are the whole reference. TestTheReferenceNamesEveryKeyOfTheConfiguration
// holds them against the structs.
var sections = []section{
	{"Listening", "", []Key{
		{Path: "listen", Needed: true, Set: true, Example: "127.0.0.1:8443", Sentence: "Where to listen, as host:port. Without TLS files the host must be a loopback address, unless behind_proxy is set."},
		{Path: "behind_proxy", Default: "false", Example: "true", Sentence: "Says that something in front does TLS, so that plain HTTP may be served on other addresses too. No header of the proxy's is believed."},
		{Path: "tls_cert_file", Example: "/etc/org-backend/tls/fullchain.pem", Sentence: "Certificate and chain (PEM). Read again within seconds when it changes; a broken new file is logged and the old one stays."},
		{Path: "tls_key_file", Example: "/etc/org-backend/tls/key.pem", Sentence: "Private key (PEM) of the certificate; only its owner may read it."},
		{Path: "client_ca_file", Example: "/etc/org-backend/tls/ehr-ca.pem", Sentence: "Authorities (PEM) of the client certificates of EHR servers; needs tls_cert_file. Read again when it changes."},
		{Path: "admin_socket", Example: "/run/org-backend/admin.sock", Sentence: "Unix socket (0600) for `org-backend deliveries`."},
		{Path: "public_url", Needed: true, Set: true, Example: "https://encounters.hospital.example/launcher", Sentence: "BackendURL as launchers know it, without a slash at the end. Its path is the prefix of every route."},
		{Path: "drain_delay", Default: "5s with nats.servers, else 0s", Example: "10s", Sentence: "How long calls are still taken after SIGTERM while /readyz says no, so that a load balancer turns away first. At most 1m."},
	}},
	{"Clinicians", "Who a clinician is comes from the access token and from nowhere else.", []Key{
		{Path: "issuer", Needed: true, Set: true, Example: "https://idp.hospital.example", Sentence: "OIDC issuer of the access tokens, compared letter by letter."},
		{Path: "audience", Needed: true, Set: true, Example: "org-backend", Sentence: "What aud of an access token must hold; never the launcher's client id."},
		{Path: "launcher_client_id", Needed: true, Set: true, Example: "encounter-launcher", Sentence: "The launcher's client id at the issuer."},
		{Path: "claims.provider_email", Default: "email", Example: "email", Sentence: "Claim with the clinician's e-mail address, under which Nabla knows them."},
		{Path: "claims.external_provider_id", Default: "external_provider_id", Example: "employee_number", Sentence: "Claim with the EHR's id of the clinician."},
		{Path: "claims.tenant", Example: "hospital", Sentence: "Claim with the clinician's tenant; without it clinicians have none."},
		{Path: "mapping_file", Example: "clinicians.yaml", Sentence: "Names the clinicians by issuer and subject, and is then the only source: a list of subject, provider_email, external_provider_id and issuer."},
	}},
	{"EHR servers", "Each may register launches (`POST /launches`), and proves who it is by exactly one of secret_file, client_id and certificate_name.", []Key{
		{Path: "ehr_tokens.issuer", Default: "issuer", Example: "https://idp.hospital.example", Sentence: "Issuer of the EHR servers' access tokens (client credentials)."},
		{Path: "ehr_tokens.audience", Default: "audience", Example: "org-backend", Sentence: "What aud of such a token must hold."},
		{Path: "ehr_tokens.client_claim", Default: "client_id, or azp", Example: "client_id", Sentence: "Claim with the id of the client."},
		{Path: "ehrs[].name", Needed: true, Set: true, Example: "main-ehr", Sentence: "How logs and audit call it."},
		{Path: "ehrs[].tenant", Example: "north", Sentence: "The tenant whose clinicians may use its links; without it, those who have none."},
		{Path: "ehrs[].secret_file", Set: true, Example: "/etc/org-backend/secrets/main-ehr", Sentence: "File with a bearer secret: one line of at least 32 characters."},
		{Path: "ehrs[].client_id", Example: "ehr-server", Sentence: "Its OAuth client at the issuer of ehr_tokens: one of its own, for client credentials only."},
		{Path: "ehrs[].scope", Default: "launches", Example: "launches", Sentence: "What its token must grant, in scope, or in a list scp or roles."},
		{Path: "ehrs[].certificate_name", Example: "ehr.hospital.example", Sentence: "DNS name in its client certificate, which an authority of client_ca_file has signed. Not behind a proxy that ends TLS."},
		{Path: "ehrs[].link_issuer", Example: "ehr.hospital.example", Sentence: "The iss under which it signs requests, as in link_keys_file."},
		{Path: "ehrs[].provider_prefixes", Example: "[N-]", Sentence: "How the external_provider_id of each of its launches must begin."},
	}},
	{"Links", "", []Key{
		{Path: "link_scheme", Default: "encounter-launcher", Example: "encounter-launcher", Sentence: "Scheme of the links that are handed to EHR servers."},
		{Path: "handle_life", Default: "10m", Example: "10m", Sentence: "How long a handle lives: more than 5m, at most 1h."},
		{Path: "link_keys_file", Example: "link-keys.json", Sentence: "Keys of signed requests: the JWK set that the launcher's policy calls LinkKeys. Without it signed requests are refused."},
		{Path: "context_file", Example: "patients.yaml", Sentence: "Patients' details for links that carry only ids, for trials; excludes fhir as their source."},
		{Path: "identifiers_allowed", Default: "false", Example: "true", Sentence: "Takes links that carry three plain ids, which anybody can write."},
	}},
	{"FHIR server", "A FHIR R4 server, reached by SMART Backend Services: the source of patients' details, and a place for exported notes.", []Key{
		{Path: "fhir.base_url", Example: "https://fhir.hospital.example/r4", Sentence: "Address of the server; without it there is none."},
		{Path: "fhir.token_url", Default: "that of .well-known/smart-configuration", Example: "https://fhir.hospital.example/token", Sentence: "Its token endpoint."},
		{Path: "fhir.client_id", Example: "org-backend", Sentence: "Our client there."},
		{Path: "fhir.key_files", Example: "[fhir.pem]", Sentence: "Private keys (PEM, RSA or P-384), none of Nabla's; the first signs, all are published with Nabla's."},
		{Path: "fhir.scopes", Default: "system/Patient.r, or .rs with patient_system; and system/DocumentReference.c with deliver.fhir", Example: "[system/Patient.r]", Sentence: "Scopes to ask for."},
		{Path: "fhir.patient_system", Example: "urn:oid:2.16.756.5.32", Sentence: "Says that external_patient_id is an identifier of this system, not the id of the resource."},
		{Path: "fhir.ca_file", Example: "ca.pem", Sentence: "Further authorities (PEM) for this server."},
	}},
	{"Nabla Connect", "Exactly one of base_url and region.", []Key{
		{Path: "nabla.base_url", Example: "https://api.nabla.example/v1/connect/server", Sentence: "Address of Nabla Connect's server API."},
		{Path: "nabla.region", Set: true, Example: "eu", Sentence: "us or eu, instead of an address."},
		{Path: "nabla.client_id", Needed: true, Set: true, Example: "00000000-0000-4000-8000-000000000000", Sentence: "Our OAuth client at Nabla."},
		{Path: "nabla.key_files", Needed: true, Set: true, Example: "[/etc/org-backend/secrets/nabla.pem]", Sentence: "Private keys (PEM, RSA or P-256); the first signs, all are published at /.well-known/jwks.json, so that they can be rotated."},
		{Path: "nabla.version", Default: "2026-02-13", Example: "2026-02-13", Sentence: "Dated version of the calls for encounters."},
		{Path: "nabla.users_version", Default: "2026-03-23", Example: "2026-03-23", Sentence: "Dated version of the calls for users."},
	}},
	{"Callbacks from Nabla", "", []Key{
		{Path: "callbacks.path", Default: "/nabla/callbacks", Example: "/nabla/callbacks", Sentence: "Route below that of public_url."},
		{Path: "callbacks.secret_files", Example: "[/etc/org-backend/secrets/callback]", Sentence: "Secrets shared with Nabla, one line each; any may have signed. Without one there is no route for callbacks."},
		{Path: "callbacks.bearer.issuer", Example: "https://idp.hospital.example", Sentence: "When set, Nabla must show an access token of this issuer too."},
		{Path: "callbacks.bearer.audience", Example: "org-backend-callbacks", Sentence: "What aud of that token must hold."},
		{Path: "callbacks.bearer.client_id", Example: "nabla", Sentence: "The client that it must have been given to."},
	}},
	{"Delivery to the EHR", "Where exported notes go: to every place that is set, and to at least one where callbacks are taken.", []Key{
		{Path: "deliver.webhook.url", Example: "https://ehr.hospital.example/notes", Sentence: "An endpoint of the EHR's."},
		{Path: "deliver.webhook.secret_file", Example: "/etc/org-backend/secrets/webhook", Sentence: "Secret with which the calls are signed."},
		{Path: "deliver.webhook.ca_file", Example: "ca.pem", Sentence: "Further authorities (PEM) for this endpoint."},
		{Path: "deliver.fhir", Default: "false", Example: "true", Sentence: "Files a DocumentReference at the server of the section fhir."},
		{Path: "deliver.folder", Example: "/var/lib/org-backend/exports", Sentence: "Folder (0700) in which each export becomes a file (0600)."},
		{Path: "deliver.give_up_after", Default: "24h", Example: "24h", Sentence: "How long a delivery is tried before it is put aside for a person."},
		{Path: "deliver.remember", Default: "168h", Example: "168h", Sentence: "How long it is known that a callback was delivered; its content is not kept."},
	}},
	{"Storage (NATS JetStream)", "Without servers JetStream runs inside the process and listens on no port.", []Key{
		{Path: "nats.servers", Example: "[tls://nats-1.hospital.example:4222]", Sentence: "The organisation's cluster, for several backends."},
		{Path: "nats.credentials_file", Example: "/etc/org-backend/secrets/nats.creds", Sentence: "Credentials file of NATS."},
		{Path: "nats.ca_file", Example: "nats-ca.pem", Sentence: "Further authorities (PEM) for the cluster."},
		{Path: "nats.cert_file", Example: "nats-client.pem", Sentence: "Client certificate (PEM)."},
		{Path: "nats.key_file", Example: "nats-client-key.pem", Sentence: "Private key (PEM) of the client certificate."},
		{Path: "nats.replicas", Default: "3 with servers, else 1", Example: "3", Sentence: "How many servers of the cluster hold everything: 1, 3 or 5."},
		{Path: "nats.folder", Example: "/var/lib/org-backend/queue", Sentence: "Folder (0700) of the delivery queue; needed where callbacks are taken without a cluster."},
		{Path: "nats.seal_key_files", Example: "[/etc/org-backend/secrets/seal]", Sentence: "Keys of 32 bytes in base64, one line each: what is stored is sealed with the first and opened with any. Needed with servers, alike on all backends, and with folder."},
	}},
	{"Audit", "Who opened what, apart from the logs. Of file and syslog together one must take a line before a page is handed out.", []Key{
		{Path: "audit.file", Set: true, Example: "/var/lib/org-backend/audit/audit.jsonl", Sentence: "File (0600) of JSON lines, in a folder that only the backend can write."},
		{Path: "audit.max_megabytes", Default: "100", Example: "100", Sentence: "Size at which a file is moved aside; a past month does the same."},
		{Path: "audit.keep_days", Default: "2190", Example: "2190", Sentence: "How long files that were moved aside are kept."},
		{Path: "audit.syslog", Example: "tls://log.hospital.example:6514", Sentence: "local, or tcp://, tls:// or udp:// and host:port (RFC 5424, facility 13)."},
	}},
	{"Operations", "", []Key{
		{Path: "metrics.listen", Set: true, Example: "127.0.0.1:9464", Sentence: "Where Prometheus may read /metrics, as host:port of a listener of its own."},
		{Path: "traces.endpoint", Example: "https://otel.hospital.example:4318/v1/traces", Sentence: "Where OpenTelemetry traces go (OTLP over HTTP); without it there are none."},
		{Path: "traces.ratio", Default: "1", Example: "0.1", Sentence: "How many of all calls are traced, from 0 to 1; 0 means all."},
		{Path: "limits.person_per_minute", Default: "120", Example: "120", Sentence: "Calls of one person a minute, in each process."},
		{Path: "limits.ehr_per_minute", Default: "1200", Example: "1200", Sentence: "Calls of one EHR server a minute, in each process."},
		{Path: "log_level", Default: "info", Example: "info", Sentence: "debug, info, warn or error."},
	}},
}

// firstVersion is that of every key whose row names no other.
const firstVersion = "0.1.0"

// Keys returns every key of the configuration, in the order of the reference.
func Keys() []Key {
	types := Types()
	var all []Key
	for _, s := range sections {
		for _, k := range s.keys {
			all = append(all, filled(k, types))
		}
	}
	return all
}

func filled(k Key, types map[string]string) Key {
	k.Type = types[k.Path]
	if k.Since == "" {
		k.Since = firstVersion
	}
	return k
}

// Types returns the type of every key that the structs have, by its path.
func Types() map[string]string {
	types := map[string]string{}
	walk(reflect.TypeFor[Config](), "", types)
	return types
}

func walk(t reflect.Type, before string, types map[string]string) {
	for i := range t.NumField() {
		field := t.Field(i)
		path := before + field.Tag.Get("yaml")
		_, isFile := field.Tag.Lookup("file")
		switch kind := field.Type; {
		case kind.Kind() == reflect.Struct:
			walk(kind, path+".", types)
		case kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Struct:
			walk(kind.Elem(), path+"[].", types)
		case kind.Kind() == reflect.Slice && isFile:
			types[path] = "list of files"
		case kind.Kind() == reflect.Slice:
			types[path] = "list of texts"
		case isFile:
			types[path] = "file"
		case kind == reflect.TypeFor[time.Duration]():
			types[path] = "duration"
		case kind.Kind() == reflect.Bool:
			types[path] = "true or false"
		case kind.Kind() == reflect.String:
			types[path] = "text"
		default:
			types[path] = "number"
		}
	}
}

// Reference is the page for administrators, in Markdown.
func Reference() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("<!-- Generated from internal/orgconfig/reference.go by “go generate ./internal/orgconfig”: change the table, not this page. -->")
	p("# Configuration of org-backend\n")
	p("One YAML file. An unknown key is refused and its line named, and so is a second document. `org-backend check-config --config FILE` says everything")
	p("that is wrong at once. Names of files are relative to the folder of the configuration. A duration is written as `90s`, `10m` or `24h`.\n")
	p("Secrets are never values: a key that ends in `_file` or `_files` names where they stand, and a file with a secret that others than its owner may")
	p("read is refused (`chmod 0600`; credentials that systemd hands over are accepted); so is the configuration itself, and a file of authorities, link keys, identities or contexts, that everybody can write. Changes take effect with a restart; read again while running are only")
	p("the contents of TLS files, of Nabla's keys, and, with each connection, of what belongs to NATS.")
	types := Types()
	for _, s := range sections {
		p("\n## %s\n", s.title)
		if s.text != "" {
			p("%s\n", s.text)
		}
		p("| key | type | default | what it is for | example | since |\n|---|---|---|---|---|---|")
		for _, k := range s.keys {
			k = filled(k, types)
			standard := cell(k.Default)
			if k.Needed {
				standard = "needed"
			}
			p("| `%s` | %s | %s | %s | `%s` | %s |", k.Path, k.Type, standard, cell(k.Sentence), k.Example, k.Since)
		}
	}
	return b.Bytes()
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// Example is a configuration with every key: those that a backend needs are set, the
// others stand as comments.
func Example() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Configuration of org-backend. Generated from internal/orgconfig/reference.go.")
	p("# Copy it to /etc/org-backend/config.yaml, change what is set, and ask")
	p("#   org-backend check-config --config /etc/org-backend/config.yaml")
	types := Types()
	for _, s := range sections {
		p("\n# --- %s", s.title)
		if s.text != "" {
			wrap(&b, "", s.text)
			p("")
		}
		open := ""
		for _, k := range s.keys {
			k = filled(k, types)
			open = entry(&b, k, s.keys, open)
		}
	}
	return b.Bytes()
}

// entry writes one key below its sections. It returns which sections are open.
func entry(b *bytes.Buffer, k Key, all []Key, open string) string {
	names := strings.Split(k.Path, ".")
	head := strings.Join(names[:len(names)-1], ".")
	indent := strings.Repeat("  ", len(names)-1)
	list := strings.Contains(k.Path, "[]")
	if list {
		indent += "  "
	}
	set := k.Set
	if head != open {
		anySet := false
		for _, other := range all {
			anySet = anySet || (other.Set && strings.HasPrefix(other.Path, head+"."))
		}
		for depth := range names[:len(names)-1] {
			if depth < strings.Count(open, ".")+1 && strings.HasPrefix(open+".", strings.Join(names[:depth+1], ".")+".") {
				continue
			}
			mark := ""
			if !anySet {
				mark = "# "
			}
			fmt.Fprintf(b, "%s%s%s:\n", strings.Repeat("  ", depth), mark, strings.TrimSuffix(names[depth], "[]"))
		}
	}
	name := names[len(names)-1]
	wrap(b, indent, k.Sentence)
	lead := indent
	if list {
		lead = strings.Repeat("  ", len(names)-1) + "  "
		if head != open {
			lead = strings.Repeat("  ", len(names)-1) + "- "
		}
	}
	mark := ""
	if !set {
		mark = "# "
	}
	fmt.Fprintf(b, "%s%s%s: %s\n", lead, mark, name, k.Example)
	return head
}

// wrap writes a comment in lines that a terminal of 80 columns holds.
func wrap(b *bytes.Buffer, indent, text string) {
	line := indent + "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 79 && line != indent+"#" {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	if line != indent+"#" {
		b.WriteString(line + "\n")
	}
}
