package nabla

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"encounterlauncher/internal/secret"
)

// The headers of a callback (Nabla Connect, page "Callback authentication").
const (
	HeaderTimestamp = "X-Nabla-Connect-Timestamp"
	HeaderSignature = "X-Nabla-Connect-Signature"
)

const (
	// MaxCallbackBytes is how large the body of a callback may be: a note with the
	// transcript of a long visit has some MB.
	MaxCallbackBytes = 8 << 20
	// CallbackLife is how old a callback may be; whoever remembers which were seen
	// must do so for CallbackLife and CallbackSkew.
	CallbackLife = 60 * time.Second
	// CallbackSkew is by how much the vendor's clock may be ahead of ours.
	CallbackSkew = 30 * time.Second
)

const (
	maxSignatures     = 16
	maxSecrets        = 8
	minCallbackSecret = 16
	maxTimestamp      = 40
)

// Why a callback is not Nabla's, told apart by errors.Is. All three are answered
// with 401: nothing is known of who sent it.
var (
	// ErrHeaders: a header is missing, there twice, or not of its form.
	ErrHeaders = errors.New("the headers of the callback are not those of Nabla Connect")
	// ErrStale: older than CallbackLife, or ahead by more than CallbackSkew.
	ErrStale = errors.New("the callback is not of this minute")
	// ErrSignature: no signature was made with one of our secrets.
	ErrSignature = errors.New("no signature of the callback is right")
)

// Verifier tells callbacks of Nabla's from those of others. It is safe for
// concurrent use.
type Verifier struct {
	secrets [][]byte
	now     func() time.Time
}

// NewVerifier returns a Verifier for 1 to 8 secrets of at least 16 bytes each: any
// of them may have signed, so that a secret can be rotated. now nil means time.Now.
func NewVerifier(secrets []secret.Text, now func() time.Time) (*Verifier, error) {
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("there are not 1 to %d secrets for callbacks", maxSecrets)
	}
	if now == nil {
		now = time.Now
	}
	v := &Verifier{now: now}
	for _, s := range secrets {
		if len(s.Reveal()) < minCallbackSecret {
			return nil, fmt.Errorf("a secret for callbacks has fewer than %d bytes", minCallbackSecret)
		}
		v.secrets = append(v.secrets, []byte(s.Reveal()))
	}
	return v, nil
}

// Verify accepts a callback that is of this minute and carries at least one right
// signature: HMAC-SHA256 over the timestamp, as the header has it, and the body, as
// it came. Every signature is compared with that of every secret in constant time.
//
// The timestamp is ISO 8601 in the extended form with a zone, thus RFC 3339 with or
// without a fraction; seconds may be absent, since some libraries leave out a full
// minute's. Signatures are 64 hexadecimal digits, in either case, separated by
// commas with or without blanks, 16 at most; several headers count as one list (RFC
// 9110 §5.3).
//
// That a callback was not seen before is not looked at here.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	stamps := header.Values(HeaderTimestamp)
	if len(stamps) != 1 {
		return ErrHeaders
	}
	at, ok := parseTimestamp(stamps[0])
	if !ok {
		return ErrHeaders
	}
	signatures, ok := parseSignatures(header.Values(HeaderSignature))
	if !ok {
		return ErrHeaders
	}
	if age := v.now().Sub(at); age > CallbackLife || age < -CallbackSkew {
		return ErrStale
	}
	right := 0
	for _, key := range v.secrets {
		want := mac(key, stamps[0], body)
		for i := range signatures {
			right |= subtle.ConstantTimeCompare(want, signatures[i][:])
		}
	}
	if right != 1 {
		return ErrSignature
	}
	return nil
}

// Sign returns the signature of a call in Nabla's way, as hexadecimal digits.
func Sign(key secret.Text, timestamp string, body []byte) string {
	return hex.EncodeToString(mac([]byte(key.Reveal()), timestamp, body))
}

func mac(key []byte, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(timestamp))
	h.Write(body)
	return h.Sum(nil)
}

func parseTimestamp(text string) (time.Time, bool) {
	if len(text) > maxTimestamp {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func parseSignatures(lines []string) ([][sha256.Size]byte, bool) {
	var list [][sha256.Size]byte
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.Trim(item, " \t")
			if len(item) != hex.EncodedLen(sha256.Size) || len(list) == maxSignatures {
				return nil, false
			}
			var sum [sha256.Size]byte
			if _, err := hex.Decode(sum[:], []byte(item)); err != nil {
				return nil, false
			}
			list = append(list, sum)
		}
	}
	return list, len(list) > 0
}
