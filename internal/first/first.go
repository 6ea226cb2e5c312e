// Package first hands a link to the agent that runs already, before the other
// packages of the program are initialised, and ends the process with 0 once the
// agent has it.
//
// The language fixes the order (Go specification, "Program initialization"): of the
// packages whose imports are initialised, the one whose import path sorts first comes
// next. This room imports neither net nor what stands on it, so HTTP, TLS, D-Bus and
// the command line, which take as long to initialise as the rest of a hand-over takes,
// come after it. A click that finds the agent waits for none of them.
//
// It does so for the one form of a link that is recommended, a handle, written as our
// own backend writes it, and for nothing else: every other argument vector, every
// other outcome and every other system is main's. Like main it asks the kernel who
// listens before it sends anything, and it keeps to the frozen route. Where
// nobody listens it starts the agent, and leaves the link to main: the agent is on its
// way while this program is initialised. It never decides about a link, never says anything, and never looks at more
// than its arguments, the click in the environment, and the folder of the socket.
package first

import (
	"os"
	"time"
)

// ackPatience is how long an agent may take to acknowledge a link (design §2).
const ackPatience = 3 * time.Second

// Outcome is what became of the attempt, for main to go on from. The zero value says
// that nobody was asked.
type Outcome struct {
	// Asked says that the agent was sent the link.
	Asked bool
	// Answer is the whole HTTP answer that did not say accepted; empty when there was
	// none.
	Answer []byte
	// Late says that no answer came within three seconds.
	Late bool
	// Agent is the agent that was started because nobody listened; nil for none. It may
	// have ended already, as one does that finds another.
	Agent *os.Process
}

// attempt is made while the program is initialised, which is the point of it.
var attempt = atOnce()

// Attempt returns what became of the attempt of this process.
func Attempt() Outcome { return attempt }

// plainLink reports whether a text is a link of the scheme with a handle, written the
// one way in which a backend writes it. launch.Parse accepts every such text (and many
// more): a test compares them.
func plainLink(scheme, text string) bool {
	const between, shortest, longest = "://launch?handle=", 22, 64
	if len(text) < len(scheme)+len(between) || text[:len(scheme)] != scheme || text[len(scheme):len(scheme)+len(between)] != between {
		return false
	}
	handle := text[len(scheme)+len(between):]
	for i := range len(handle) {
		c := handle[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(handle) >= shortest && len(handle) <= longest
}

// plainClick reports whether a token of the click may be passed on as it is: visible
// ASCII of at most 512 bytes in which JSON escapes nothing.
func plainClick(token string) bool {
	const longest = 512
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return len(token) <= longest
}

// request is POST /v1/link as the frozen route has it. Nothing in it needs escaping:
// see plainLink and plainClick.
func request(link, token, startupID string) []byte {
	body := `{"link":"` + link + `","activation_token":"` + token + `","startup_id":"` + startupID + `"}`
	return []byte("POST /v1/link HTTP/1.1\r\nHost: encounter-launcher\r\nContent-Type: application/json\r\nContent-Length: " +
		decimal(len(body)) + "\r\nConnection: close\r\n\r\n" + body)
}

func decimal(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decimal(n/10) + string(rune('0'+n%10))
}

// accepted reports whether an answer is the acknowledgement of a link that was taken.
// One that says so in other words is left to main, which reads JSON.
func accepted(answer []byte) bool {
	const status, end, ack = "HTTP/1.1 200 OK\r\n", "\r\n\r\n", `{"accepted":true,`
	text := string(answer)
	if len(text) < len(status) || text[:len(status)] != status {
		return false
	}
	for i := len(status) - 2; i+len(end)+len(ack) <= len(text); i++ {
		if text[i:i+len(end)] == end {
			return text[i+len(end):i+len(end)+len(ack)] == ack
		}
	}
	return false
}
