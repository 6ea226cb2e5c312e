package doctor

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"encounterlauncher/internal/problem"
)

const (
	// proxyTime bounds looking up the proxy of one host: detection by DHCP and DNS is
	// what takes long.
	proxyTime = 4 * time.Second
	// resolveTime bounds looking a name up, dialTime connecting to a proxy.
	resolveTime = 3 * time.Second
	dialTime    = 3 * time.Second
	// offClock is what is worth a word, wrongClock what makes an identity provider's
	// tokens look expired or not valid yet.
	offClock   = 30 * time.Second
	wrongClock = 5 * time.Minute
)

// each asks every server at once and puts the findings together in their order.
func each(places []*place, look func(*place) []Finding) []Finding {
	found := make([][]Finding, len(places))
	var all sync.WaitGroup
	for i, p := range places {
		all.Go(func() { found[i] = look(p) })
	}
	all.Wait()
	var flat []Finding
	for _, f := range found {
		flat = append(flat, f...)
	}
	return flat
}

// network is each, where there is something to ask.
func (w *world) network(c check, look func(*place) []Finding) []Finding {
	places := w.places()
	if len(places) == 0 || w.unconnected() {
		return []Finding{w.say(c, "no_policy")}
	}
	return each(places, look)
}

// checkProxy says how each server is reached. What goes to this computer itself never
// goes through a proxy.
func checkProxy(ctx context.Context, w *world, c check) []Finding {
	dialed := map[string]func(context.Context) error{}
	var lock sync.Mutex
	dial := func(proxy *url.URL) error {
		address := proxyAddress(proxy)
		lock.Lock()
		if dialed[address] == nil {
			dialed[address] = once(dialTime, func(ctx context.Context) error {
				conn, err := w.Dial(ctx, "tcp", address)
				if err != nil {
					return err
				}
				return conn.Close()
			})
		}
		f := dialed[address]
		lock.Unlock()
		return f(ctx)
	}
	return w.network(c, func(p *place) []Finding {
		chosen, err := p.proxy(ctx)
		if err != nil {
			return []Finding{w.say(c, "lookup_failed", "host", p.host()).because(causeOf(err))}
		}
		var found []Finding
		if len(chosen.Failed) > 0 {
			first := chosen.Failed[0]
			f := w.say(c, "fallback", "host", p.host()).because(first.Cause)
			f.detail = string(first.Source) + ": " + f.detail
			found = append(found, f)
		}
		if chosen.Address == "" {
			return append(found, w.say(c, "direct", "host", p.host()))
		}
		proxy, err := url.Parse(chosen.Address)
		if err != nil {
			return append(found, w.say(c, "lookup_failed", "host", p.host()))
		}
		if err := dial(proxy); err != nil {
			return append(found, w.say(c, "no_answer", "proxy", proxyName(proxy)).because(quoteless(err)))
		}
		if m := p.meet(ctx); problem.IsCode(m.err, problem.ProxyAuthNeeded) {
			return append(found, w.say(c, "sign_in_needed", "proxy", proxyName(proxy)))
		}
		return append(found, w.say(c, "by_proxy", "host", p.host(), "proxy", proxyName(proxy)))
	})
}

func proxyAddress(u *url.URL) string {
	if port := u.Port(); port != "" {
		return u.Host
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// proxyName is host and port, never a user name.
func proxyName(u *url.URL) string { return u.Host }

// checkDNS looks the names up that this computer itself has to know: where a proxy is
// asked, only that one's.
func checkDNS(ctx context.Context, w *world, c check) []Finding {
	return w.network(c, func(p *place) []Finding {
		name := p.url.Hostname()
		if _, err := netip.ParseAddr(name); err == nil {
			return []Finding{w.say(c, "fine", "host", p.host())}
		}
		if proxy, err := p.proxy(ctx); err == nil && proxy.Address != "" {
			return []Finding{w.say(c, "by_proxy", "host", p.host())}
		}
		ctx, cancel := context.WithTimeout(ctx, resolveTime)
		defer cancel()
		addresses, err := within(ctx, func() ([]string, error) { return w.Resolve(ctx, name) })
		code := "fine"
		switch {
		case err == nil && len(addresses) > 0:
		case p.encounters:
			code = "encounter_host"
		case notFound(err):
			code = "not_found"
		default:
			code = "no_answer"
		}
		return []Finding{w.say(c, code, "host", p.url.Hostname()).because(quoteless(err))}
	})
}

func notFound(err error) bool {
	var dns *net.DNSError
	return asError(err, &dns) && dns.IsNotFound
}

// checkClock compares this computer's clock with the backend's Date (RFC 9110 §6.6.1),
// which names whole seconds.
func checkClock(ctx context.Context, w *world, c check) []Finding {
	if w.backend == nil || w.unconnected() {
		return []Finding{w.say(c, "no_policy")}
	}
	m := w.backend.meet(ctx)
	date, err := http.ParseTime(m.header.Get("Date"))
	if m.err != nil || err != nil {
		return []Finding{w.say(c, "unknown")}
	}
	// The second that Date names has passed by half when it is read, on the average.
	off := m.at.Sub(date.Add(500 * time.Millisecond)).Abs()
	switch {
	case off > wrongClock:
		return []Finding{w.say(c, "wrong", "minutes", strconv.Itoa(int(off.Minutes())))}
	case off > offClock:
		return []Finding{w.say(c, "off", "seconds", strconv.Itoa(int(off.Seconds())))}
	}
	return []Finding{w.say(c, "fine")}
}
