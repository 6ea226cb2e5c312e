package scheme

import "strings"

// The groups of mimeapps.list (Association between MIME types and applications,
// a specification of freedesktop.org). Our key is "x-scheme-handler/<scheme>".
const (
	defaultsGroup = "[Default Applications]"
	cacheGroup    = "[MIME Cache]"
)

// idsIn returns the desktop ids that a group names for a key, in order.
func idsIn(text, group, key string) []string {
	value, _ := valueIn(text, group, key)
	return strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
}

// withDefault puts id in front of the defaults for key. Every other byte stays,
// so that withoutID gives the text back as it was.
func withDefault(text, key, id string) string {
	lines := strings.SplitAfter(withoutID(text, key, id), "\n")
	group, inside := -1, false
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			if inside = trimmed == defaultsGroup; inside && group < 0 {
				group = i
			}
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if inside && found && strings.TrimSpace(name) == key {
			lines[i] = name + "=" + id + ";" + value
			return strings.Join(lines, "")
		}
	}
	if group >= 0 {
		if !strings.HasSuffix(lines[group], "\n") {
			lines[group] += "\n"
		}
		lines[group] += key + "=" + id + "\n"
		return strings.Join(lines, "")
	}
	text = strings.Join(lines, "")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + defaultsGroup + "\n" + key + "=" + id + "\n"
}

// withoutID removes id from every group's list for key: defaults, and the
// associations that desktops add or remove themselves. A line or a group of
// defaults that this leaves empty goes with it.
func withoutID(text, key, id string) string {
	var lines []string
	removed := false
	for _, line := range strings.SplitAfter(text, "\n") {
		name, value, found := strings.Cut(line, "=")
		if found && strings.TrimSpace(name) == key {
			kept, changed := dropID(value, id)
			if changed && strings.Trim(kept, "; \t\r\n") == "" {
				removed = true
				continue
			}
			line = name + "=" + kept
		}
		lines = append(lines, line)
	}
	if removed {
		lines = withoutEmptyDefaults(lines)
	}
	return strings.Join(lines, "")
}

// dropID removes every occurrence of id from a list and changes nothing else.
func dropID(value, id string) (string, bool) {
	ending := value[len(strings.TrimRight(value, "\r\n")):]
	items := strings.Split(strings.TrimSuffix(value, ending), ";")
	kept := items[:0:0]
	for _, item := range items {
		if strings.TrimSpace(item) != id {
			kept = append(kept, item)
		}
	}
	return strings.Join(kept, ";") + ending, len(kept) != len(items)
}

func withoutEmptyDefaults(lines []string) []string {
	for i, line := range lines {
		if strings.TrimSpace(line) != defaultsGroup {
			continue
		}
		if i+1 == len(lines) || lines[i+1] == "" || strings.HasPrefix(lines[i+1], "[") {
			return append(lines[:i:i], lines[i+1:]...)
		}
	}
	return lines
}
