// Package intake is the first to see what the operating system hands over: an
// argument vector, or a text from the control channel. It finds the one bounded
// text that may be a link, and refuses every vector that is neither a known verb
// nor exactly one link and nothing else: a link that a browser passed on may
// have been broken up into arguments on its way (CVE-2018-1000006).
//
// It never interprets a link (launch.Parse does), never looks at anything but
// its arguments, and no error of it quotes them.
package intake

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// Candidate is one bounded text that looks like a link and has not been parsed.
// Only this package makes one; the zero value is empty. Every way of printing it
// gives "[redacted]".
type Candidate struct {
	text secret.Text
}

// FromArgs looks for a link in the arguments of the process, program name
// excluded. scheme is in lower case.
//
//   - Exactly one argument that looks like a link, whatever its scheme, and not
//     like a flag: it is returned with found true, for Parse to accept or refuse.
//   - No argument at all, or a known verb first and no link anywhere: found is
//     false and the command line takes over.
//   - A verb first for which carriesLink is true, and among the arguments at most
//     one link, or any number of web addresses and no other link: found is false
//     too, they are that verb's business.
//   - Anything else is refused: a link beside another argument with
//     link_invalid, arguments that begin with no known verb with
//     request_invalid, a lone link of more than launch.MaxLinkBytes with
//     link_invalid.
//
// isVerb and carriesLink are asked about the first argument only; a nil
// carriesLink means that no verb may carry a link.
func FromArgs(scheme string, args []string, isVerb, carriesLink func(string) bool) (c Candidate, found bool, err error) {
	if len(args) == 0 {
		return Candidate{}, false, nil
	}
	links, web := 0, 0
	for _, arg := range args {
		if looksLikeLink(scheme, arg) {
			links++
			if webAddress(arg) {
				web++
			}
		}
	}
	if len(args) == 1 && links == 1 && !strings.HasPrefix(args[0], "-") {
		c, err := FromText(args[0])
		return c, err == nil, err
	}
	verb := !looksLikeLink(scheme, args[0]) && isVerb(args[0])
	switch {
	case verb && links == 0:
		return Candidate{}, false, nil
	case verb && (links == 1 || links == web) && carriesLink != nil && carriesLink(args[0]):
		return Candidate{}, false, nil
	case links > 0 && len(args) > 1:
		return Candidate{}, false, problem.With(problem.LinkInvalid, "A link must be the only argument.", nil)
	}
	return Candidate{}, false, problem.With(problem.RequestInvalid, "The arguments are neither a known command nor a link.", nil)
}

// looksLikeLink errs towards yes: a text that is taken for a link can only be
// parsed strictly or refused.
func looksLikeLink(scheme, arg string) bool {
	return strings.Contains(arg, "://") ||
		len(arg) > len(scheme) && arg[len(scheme)] == ':' && equalFoldASCII(arg[:len(scheme)], scheme)
}

// webAddress reports whether an argument is a web address, or a flag set to one.
// The system hands no such thing to a program that owns another scheme.
func webAddress(arg string) bool {
	if strings.HasPrefix(arg, "--") {
		_, arg, _ = strings.Cut(arg, "=")
	}
	return strings.HasPrefix(arg, "https://") || strings.HasPrefix(arg, "http://")
}

func equalFoldASCII(text, lower string) bool {
	for i := 0; i < len(lower); i++ {
		c := text[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// FromText bounds a text from the control channel: link_invalid when it is empty
// or longer than launch.MaxLinkBytes. Nothing else is checked before Parse.
func FromText(text string) (Candidate, error) {
	switch {
	case text == "":
		return Candidate{}, problem.With(problem.LinkInvalid, "It is empty.", nil)
	case len(text) > launch.MaxLinkBytes:
		return Candidate{}, problem.With(problem.LinkInvalid, "It is longer than 2,048 bytes.", nil)
	}
	return Candidate{secret.New(text)}, nil
}

// Parse is launch.Parse of the text.
func (c Candidate) Parse(scheme string) (launch.Request, error) {
	return launch.Parse(scheme, c.text.Reveal())
}

// Text returns the text as it arrived, for the control channel.
func (c Candidate) Text() secret.Text { return c.text }

// String returns "[redacted]".
func (c Candidate) String() string { return secret.Redacted }

// Format prints "[redacted]" for every verb.
func (c Candidate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// LogValue logs "[redacted]".
func (c Candidate) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

// MarshalText writes "[redacted]" into every encoding that asks for text.
func (c Candidate) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }
