package tokenstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/secret"
)

// The layout in the keyring, under one service name:
//
//	refresh               the head: {"v":1,"gen":G,"parts":N,"prev":P,"sum":…,"value":…}
//	refresh.<gen>.<i>     part i of generation gen, from 0
//	secret.<name>         a named secret: {"v":1,"sum":…,"value":…}
//	proxy.<host>          what a person has stored for a proxy (proxy.go)
//
// The head decides: what it names is the value. A value that fits stands in the
// head itself (N is 0); a longer one is cut into N parts. "sum" is the SHA-256
// of generation, number of parts and value, so that a head never goes with the
// parts of another write. "prev" is how many parts generation G-1 had. A head
// with "empty" names a generation and no value.
//
// A write of G+1 removes what is left of G-1, writes the parts, writes the head
// (here the value changes, in one call), and removes the parts of G. So only
// parts of G-1, G and G+1 ever exist, and each generation's from 0 without a
// gap: they are written upwards and removed downwards. That is how leftovers of
// a torn write are found in a keyring that cannot be listed.
const (
	headItem = "refresh"
	// itemLimit is below what every platform stores in one item: Windows 2,560
	// bytes (CRED_MAX_CREDENTIAL_BLOB_SIZE), macOS about 3,000.
	itemLimit = 2000
	// payloadLimit and partLimit bound what is written and what is believed.
	payloadLimit = 64 << 10
	partLimit    = payloadLimit/(itemLimit-utf8.UTFMax) + 1
	secretLimit  = 1000
	layout       = 1
	// changesLimit is how often Load starts again because the head changed.
	changesLimit = 20
	// generationLimit is far above any time in milliseconds, far below overflow.
	generationLimit = 1 << 60
)

type head struct {
	Layout     int    `json:"v"`
	Generation uint64 `json:"gen"`
	Parts      int    `json:"parts"`
	Previous   int    `json:"prev"`
	Sum        string `json:"sum"`
	Value      string `json:"value,omitempty"`
	Empty      bool   `json:"empty,omitempty"`
}

type storedEntry struct {
	Issuer   string    `json:"issuer"`
	ClientID string    `json:"client_id"`
	Binding  string    `json:"binding,omitempty"`
	Subject  string    `json:"subject"`
	Email    string    `json:"email"`
	Refresh  string    `json:"refresh"`
	AuthTime time.Time `json:"auth_time"`
}

type storedSecret struct {
	Layout int    `json:"v"`
	Sum    string `json:"sum"`
	Value  string `json:"value"`
}

func partItem(generation uint64, i int) string {
	return headItem + "." + strconv.FormatUint(generation, 10) + "." + strconv.Itoa(i)
}

func secretItem(name string) string { return "secret." + name }

func validSecretName(name string) bool {
	return name != "" && len(name) <= 40 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") == ""
}

func sumOf(h head, payload string) string {
	sum := sha256.Sum256([]byte(strconv.FormatUint(h.Generation, 10) + " " + strconv.Itoa(h.Parts) + " " + payload))
	return hex.EncodeToString(sum[:])
}

func encodeEntry(e Entry) (string, error) {
	stored := storedEntry{
		Issuer: e.Issuer, ClientID: e.ClientID, Binding: e.Binding, Subject: e.Subject, Email: e.Email,
		Refresh: e.Refresh.Reveal(), AuthTime: e.AuthTime.Round(0).UTC(),
	}
	if stored.Refresh == "" {
		return "", errors.New("there is no refresh token")
	}
	for _, field := range []string{stored.Issuer, stored.ClientID, stored.Binding, stored.Subject, stored.Email, stored.Refresh} {
		// JSON would replace what is not UTF-8, and the token would be another one.
		if !utf8.ValidString(field) {
			return "", errors.New("a field is not UTF-8")
		}
	}
	payload, err := json.Marshal(stored)
	if err != nil {
		return "", errors.New("the sign-in cannot be encoded")
	}
	if len(payload) > payloadLimit {
		return "", errors.New("the sign-in is too large to be stored")
	}
	return string(payload), nil
}

func decodeEntry(payload string) (Entry, error) {
	var stored storedEntry
	if err := json.Unmarshal([]byte(payload), &stored); err != nil || stored.Refresh == "" {
		return Entry{}, fmt.Errorf("%w: it does not hold a sign-in", errCorrupt)
	}
	return Entry{
		Issuer: stored.Issuer, ClientID: stored.ClientID, Binding: stored.Binding, Subject: stored.Subject, Email: stored.Email,
		Refresh: secret.New(stored.Refresh), AuthTime: stored.AuthTime,
	}, nil
}

func encodeSecret(value secret.Text) (string, error) {
	if value.Empty() || len(value.Reveal()) > secretLimit || !utf8.ValidString(value.Reveal()) {
		return "", errors.New("it is empty, too long or not UTF-8")
	}
	item, err := json.Marshal(storedSecret{
		Layout: layout, Sum: sumOf(head{}, value.Reveal()), Value: value.Reveal(),
	})
	if err != nil || len(item) > itemLimit {
		return "", errors.New("it cannot be encoded")
	}
	return string(item), nil
}

func decodeSecret(item string) (secret.Text, error) {
	var stored storedSecret
	if len(item) > itemLimit || json.Unmarshal([]byte(item), &stored) != nil || stored.Layout != layout ||
		stored.Value == "" || stored.Sum != sumOf(head{}, stored.Value) {
		return secret.Text{}, fmt.Errorf("%w: it does not hold a secret", errCorrupt)
	}
	return secret.New(stored.Value), nil
}

// split cuts a value into items, never inside a character: some keyrings take
// items for text.
func split(payload string) []string {
	var parts []string
	for len(payload) > itemLimit {
		end := itemLimit
		for !utf8.RuneStart(payload[end]) {
			end--
		}
		parts = append(parts, payload[:end])
		payload = payload[end:]
	}
	return append(parts, payload)
}

// compose makes the head of a payload, and the parts when the head alone cannot
// hold it.
func compose(generation uint64, previous int, payload string) (string, []string, error) {
	h := head{Layout: layout, Generation: generation, Previous: previous, Value: payload}
	h.Sum = sumOf(h, payload)
	item, err := json.Marshal(h)
	if err == nil && len(item) <= itemLimit {
		return string(item), nil, nil
	}
	parts := split(payload)
	h.Value, h.Parts = "", len(parts)
	h.Sum = sumOf(h, payload)
	item, err = json.Marshal(h)
	if err != nil {
		return "", nil, errors.New("the head cannot be encoded")
	}
	return string(item), parts, nil
}

// decodeHead is strict about what it believes. The head it returns beside an
// error holds what could be made out, for whoever deletes.
func decodeHead(item string) (head, error) {
	var h head
	err := json.Unmarshal([]byte(item), &h)
	if err == nil && h.Layout != layout {
		err = errors.New("another version wrote it")
	}
	if h.Generation > generationLimit {
		h.Generation = 0
	}
	if err == nil && (h.Generation == 0 || h.Parts < 0 || h.Parts > partLimit || h.Previous < 0 || h.Previous > partLimit) {
		err = errors.New("its numbers are out of bounds")
	}
	if err != nil {
		// json's own words quote what they stumble over.
		return head{
			Generation: h.Generation,
			Parts:      min(max(h.Parts, 0), partLimit), Previous: min(max(h.Previous, 0), partLimit),
		}, fmt.Errorf("%w: the head is not one", errCorrupt)
	}
	return h, nil
}

func (s *Store) load(ctx context.Context) (Entry, bool, error) {
	var seen string
	var seenErr error
	for range changesLimit {
		item, err := s.calls.get(ctx, headItem)
		if errors.Is(err, ErrNotFound) {
			return Entry{}, false, nil
		}
		if err != nil {
			return Entry{}, false, err
		}
		// Another session may have written between our calls: the parts that the
		// head named are then gone, and there is a new head. The same head twice
		// is corrupt.
		if seenErr != nil && item == seen {
			return Entry{}, false, seenErr
		}
		h, err := decodeHead(item)
		if err != nil {
			return Entry{}, false, err
		}
		if h.Empty {
			return Entry{}, false, nil
		}
		payload, err := s.payload(ctx, h)
		if err == nil {
			e, err := decodeEntry(payload)
			e.Generation = h.Generation
			return e, err == nil, err
		}
		if !errors.Is(err, errCorrupt) {
			return Entry{}, false, err
		}
		seen, seenErr = item, err
	}
	return Entry{}, false, fmt.Errorf("%w: it changes all the time", errNoAnswer)
}

func (s *Store) payload(ctx context.Context, h head) (string, error) {
	payload := h.Value
	for i := range h.Parts {
		part, err := s.calls.get(ctx, partItem(h.Generation, i))
		if errors.Is(err, ErrNotFound) {
			return "", fmt.Errorf("%w: part %d of %d is missing", errCorrupt, i+1, h.Parts)
		}
		if err != nil {
			return "", err
		}
		payload += part
	}
	if sumOf(h, payload) != h.Sum {
		return "", fmt.Errorf("%w: its checksum is wrong", errCorrupt)
	}
	return payload, nil
}

func (s *Store) write(ctx context.Context, payload string) (uint64, error) {
	item, err := s.calls.get(ctx, headItem)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	absent := err != nil
	var old head
	if !absent {
		// A head that cannot be read gives way to a new sign-in.
		old, _ = decodeHead(item)
	}
	if old.Generation == 0 {
		// Milliseconds, and not 1: the number stays above that of a sign-in
		// which was deleted, and which another session may still hold.
		old = head{Generation: uint64(max(s.now().UnixMilli(), 1))}
	}
	if err := s.removeDown(ctx, old.Generation-1, old.Previous); err != nil {
		return 0, err
	}
	generation := old.Generation + 1
	newHead, parts, err := compose(generation, old.Parts, payload)
	if err != nil {
		return 0, err
	}
	if absent && len(parts) > 0 {
		if err := s.setEmptyHead(ctx, head{Generation: old.Generation}); err != nil {
			return 0, err
		}
	}
	for i, part := range parts {
		if err := s.calls.set(ctx, partItem(generation, i), part); err != nil {
			return 0, err
		}
	}
	if err := s.removeFound(ctx, generation, len(parts)); err != nil {
		return 0, err
	}
	if err := s.calls.set(ctx, headItem, newHead); err != nil {
		return 0, err
	}
	// The value is written; what cannot be removed now is removed by the next
	// write, which finds its number in the head.
	_ = s.removeDown(ctx, old.Generation, old.Parts)
	return generation, nil
}

func (s *Store) erase(ctx context.Context) error {
	item, err := s.calls.get(ctx, headItem)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h, _ := decodeHead(item)
	if h.Generation > 0 {
		// An empty head first: from here on there is no sign-in, and the parts can
		// still be found after a crash.
		if !h.Empty {
			if err := s.setEmptyHead(ctx, h); err != nil {
				return err
			}
		}
		if err := s.removeFound(ctx, h.Generation+1, 0); err != nil {
			return err
		}
		if err := s.removeDown(ctx, h.Generation, h.Parts); err != nil {
			return err
		}
		if err := s.removeDown(ctx, h.Generation-1, h.Previous); err != nil {
			return err
		}
	}
	return s.calls.remove(ctx, headItem)
}

// setEmptyHead keeps the numbers by which parts are found, and no value.
func (s *Store) setEmptyHead(ctx context.Context, h head) error {
	item, err := json.Marshal(head{
		Layout: layout, Generation: h.Generation, Parts: h.Parts, Previous: h.Previous, Empty: true,
	})
	if err != nil {
		return errors.New("the head cannot be encoded")
	}
	return s.calls.set(ctx, headItem, string(item))
}

// removeDown removes the first n parts of a generation, the last one first.
func (s *Store) removeDown(ctx context.Context, generation uint64, n int) error {
	for i := n - 1; i >= 0; i-- {
		if err := s.calls.remove(ctx, partItem(generation, i)); err != nil {
			return err
		}
	}
	return nil
}

// removeFound removes the parts of a generation from number `from` on, as many
// as a torn write left.
func (s *Store) removeFound(ctx context.Context, generation uint64, from int) error {
	end := from
	for ; end <= partLimit; end++ {
		_, err := s.calls.get(ctx, partItem(generation, end))
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return err
		}
	}
	for i := end - 1; i >= from; i-- {
		if err := s.calls.remove(ctx, partItem(generation, i)); err != nil {
			return err
		}
	}
	return nil
}
