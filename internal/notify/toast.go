package notify

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// toast writes a note as Windows reads it (toast schema, template ToastGeneric).
// Each thing that can be pressed carries the process's own word and the note's
// number, so that a press on what another process or an older note has shown is
// told apart: see pressed.
func toast(n note, word string, number uint32) string {
	argument := func(key string) string {
		return attribute(word + "/" + strconv.FormatUint(uint64(number), 10) + "/" + key)
	}
	var out strings.Builder
	out.WriteString(`<toast activationType="foreground" launch="` + argument(defaultKey) + `"><visual><binding template="ToastGeneric"><text>` +
		attribute(n.title) + `</text><text>` + attribute(n.body) + `</text></binding></visual><actions>`)
	for _, b := range n.buttons {
		if b.key != defaultKey {
			out.WriteString(`<action activationType="foreground" content="` + attribute(b.label) + `" arguments="` + argument(b.key) + `"/>`)
		}
	}
	out.WriteString(`</actions>`)
	if n.urgency == low || n.fleeting {
		out.WriteString(`<audio silent="true"/>`)
	}
	out.WriteString(`</toast>`)
	return out.String()
}

// pressed reads the argument of a press. It is not ok for an argument that toast
// did not write with this word.
func pressed(argument, word string) (e event, ok bool) {
	parts := strings.Split(argument, "/")
	if len(parts) != 3 || parts[0] != word || parts[2] == "" {
		return event{}, false
	}
	number, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || number == 0 {
		return event{}, false
	}
	return event{note: uint32(number), key: parts[2]}, true
}

// attribute makes a text safe between quotes and between tags of XML 1.0, which
// cannot hold most control characters at all.
func attribute(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;", "\n", "&#10;").Replace(s)
}

// classID is the COM class that Windows calls when something of the program with
// this id is pressed. Each flavour has its own.
func classID(id string) string {
	h := sha256.Sum256([]byte("encounter launcher toast activator " + id))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // RFC 9562, version 8
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
