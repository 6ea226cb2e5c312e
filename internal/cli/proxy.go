package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

// credentialTimeout bounds one call to the keyring: a person may have to unlock it.
const credentialTimeout = 30 * time.Second

// mostTyped bounds, in bytes, each line that a credential is read from.
const mostTyped = 4096

func (p Program) proxyCredentialCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "proxy-credential", Short: "Store your name and password for the network's proxy", GroupID: "it", Args: cobra.NoArgs,
		Long:    "Some networks let nobody out before a name and a password are given to their proxy.\nThis stores yours in the keyring, for that one proxy; it is given to no other, and\nonly after the proxy has asked for it. Without --proxy it is the proxy that leads to\nthe organisation's server.\n\nExit status: that of the command below; 0 for this help.",
		Example: fmt.Sprintf("  %[1]s proxy-credential set\n  printf '%%s\\n%%s\\n' \"$NAME\" \"$PASSWORD\" | %[1]s proxy-credential set\n  %[1]s proxy-credential status\n  %[1]s proxy-credential forget --proxy proxy.hospital.example", p.Layout.Name),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.proxySetCommand(), p.proxyForgetCommand(), p.proxyStatusCommand())
	return c
}

func proxyFlag(c *cobra.Command) *string {
	return c.Flags().String("proxy", "", "name of the proxy's host, without a port (default: the proxy that leads to the organisation's server)")
}

func (p Program) proxySetCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "set", Short: "Store a name and a password", Args: cobra.NoArgs,
		Long: "Asks for the name and the password, which is not shown, and stores both in the\nkeyring in place of those before. From a pipe it reads two lines: the name, then the\npassword. Neither can be an argument, because other programs see arguments. Where\npolicy says that several people share the account (SharedWorkstation), nothing is\nstored: it would be everybody's.\n\nExit status: 0 stored, 2 refused: bad input, no proxy to be named, a shared\nworkstation, or the keyring is locked or missing.",
	}
	proxy := proxyFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if policy.Load(p.Layout).SharedWorkstation {
			return usage("Several people share this account (SharedWorkstation): what one stores here, all would use. IT has to let this program through the proxy without it.")
		}
		host, err := p.proxyHost(cmd.Context(), *proxy)
		if err != nil {
			return err
		}
		user, password, err := p.readCredential(cmd.InOrStdin(), host)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), credentialTimeout)
		defer cancel()
		if err := p.keyring().SetProxyCredential(ctx, host, user, password); err != nil {
			return err
		}
		p.say("stored for %s", view.Inert(host, 80))
		return nil
	}
	return c
}

func (p Program) proxyForgetCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "forget", Short: "Remove the stored name and password", Args: cobra.NoArgs,
		Long: "Removes what is stored for the proxy from the keyring. The agent forgets it when the\nproxy asks the next time, or when it ends.\n\nExit status: 0 nothing is stored any more, 2 the keyring is locked or missing, or there\nis no proxy to be named.",
	}
	proxy := proxyFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		host, err := p.proxyHost(cmd.Context(), *proxy)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), credentialTimeout)
		defer cancel()
		if err := p.keyring().ForgetProxyCredential(ctx, host); err != nil {
			return err
		}
		p.say("nothing is stored for %s", view.Inert(host, 80))
		return nil
	}
	return c
}

// proxyStatusJSON is the answer of proxy-credential status --json; fields are only
// added.
type proxyStatusJSON struct {
	Proxy  string `json:"proxy"`
	Stored bool   `json:"stored"`
	// Set is when, in RFC 3339, or empty.
	Set string `json:"set"`
}

func (p Program) proxyStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "Say whether a name and a password are stored", Args: cobra.NoArgs,
		Long: "Says for which proxy something is stored, and since when; never what. It does not\nask the proxy.\n\nExit status: 0 stored, 1 nothing is stored, 2 the keyring is locked or missing, or there\nis no proxy to be named.",
	}
	proxy := proxyFlag(c)
	js := asJSON(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		host, err := p.proxyHost(cmd.Context(), *proxy)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), credentialTimeout)
		defer cancel()
		stored, found, err := p.keyring().ProxyCredential(ctx, host)
		if err != nil {
			return err
		}
		answer := proxyStatusJSON{Proxy: host, Stored: found}
		if found {
			answer.Set = stored.Set.Format(time.RFC3339)
		}
		switch {
		case *js:
			if err := p.printJSON(answer); err != nil {
				return err
			}
		case found:
			p.say("stored for %s since %s", view.Inert(host, 80), stored.Set.Local().Format("2006-01-02 15:04"))
		default:
			p.say("nothing is stored for %s", view.Inert(host, 80))
		}
		if !found {
			return status(Negative)
		}
		return nil
	}
	return c
}

func (p Program) keyring() *tokenstore.Store {
	k := p.Keyring
	if k == nil {
		k = tokenstore.OS()
	}
	return tokenstore.New(k, p.Layout.KeyringService(), p.Layout.UserLockFile(), credentialTimeout)
}

// proxyHost is the host that was named, or else that of the proxy to the backend.
func (p Program) proxyHost(ctx context.Context, named string) (string, error) {
	if named != "" {
		return tokenstore.ProxyHost(named)
	}
	rules := policy.Load(p.Layout)
	backend, err := url.Parse(rules.BackendURL)
	if err != nil || backend.Host == "" {
		return "", problem.With(problem.PolicyMissing, "Not set: BackendURL.", errors.New("naming the proxy: there is no backend to which it could lead"))
	}
	proxy, err := transport.LookupProxy(ctx, rules, backend.Host)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(proxy.Address)
	if err != nil || u.Hostname() == "" {
		return "", usage("No proxy leads to the organisation's server: name one with --proxy.")
	}
	return tokenstore.ProxyHost(u.Hostname())
}

// readCredential reads a name and a password: from a terminal with questions and
// without showing the password, else as two lines.
func (p Program) readCredential(in io.Reader, host string) (user, password secret.Text, err error) {
	file, ok := in.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	lines := bufio.NewReader(io.LimitReader(in, mostTyped))
	if terminal {
		fmt.Fprintf(p.Stderr, "User name for %s: ", view.Inert(host, 80))
	}
	user, err = readLine(lines)
	if err != nil {
		return secret.Text{}, secret.Text{}, err
	}
	if !terminal {
		password, err = readLine(lines)
		return user, password, err
	}
	fmt.Fprint(p.Stderr, "Password: ")
	typed, err := term.ReadPassword(int(file.Fd()))
	fmt.Fprintln(p.Stderr)
	if err != nil {
		return secret.Text{}, secret.Text{}, usage("The password could not be read.")
	}
	return user, secret.New(string(typed)), nil
}

func readLine(lines *bufio.Reader) (secret.Text, error) {
	line, err := lines.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return secret.Text{}, usage("Two lines are needed: the user name, then the password.")
	}
	return secret.New(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")), nil
}
