package policy

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// These turn values of the registry, by their types, into JSON by the types of the
// table. raw is the JSON; unset says that an editor writes this where nothing is meant;
// wrong is the end of a sentence and is set instead of raw. They hold no call of
// Windows, so that every system can try them.

// fromNumber reads a REG_DWORD of a number or a yes or no.
func fromNumber(n uint64, t Type) (raw json.RawMessage, unset bool, wrong string) {
	if t == Number {
		return json.RawMessage(strconv.FormatUint(n, 10)), false, ""
	}
	if n > 1 {
		return nil, false, "must be a REG_DWORD of 0 or 1"
	}
	return json.RawMessage(strconv.FormatBool(n == 1)), false, ""
}

// fromList reads a REG_MULTI_SZ.
func fromList(items []string) (raw json.RawMessage, unset bool, wrong string) {
	// An empty line in an editor's box becomes one; nothing else can end there.
	if slices.Contains(items, "") {
		return nil, false, "must be a REG_MULTI_SZ without empty lines"
	}
	raw, err := json.Marshal(append([]string{}, items...))
	if err != nil {
		return nil, false, "must be a REG_MULTI_SZ"
	}
	return raw, len(items) == 0, ""
}

// fromText reads a REG_SZ of a text, a choice or an object.
func fromText(text string, t Type) (raw json.RawMessage, unset bool, wrong string) {
	if len(text) > maxFile || !utf8.ValidString(text) {
		return nil, false, "must be a REG_SZ of at most 256 KiB"
	}
	if t == Object && text != "" {
		raw := json.RawMessage(text)
		if !json.Valid(raw) || repeatsAKey(raw) {
			return nil, false, "must be a REG_SZ that holds valid JSON without a repeated key"
		}
		return raw, false, ""
	}
	return json.RawMessage(quote(text)), text == "", ""
}

// fromHosts reads a REG_SZ that an installer wrote for a list of hosts.
func fromHosts(text string) (raw json.RawMessage, unset bool, wrong string) {
	if text == "" {
		return nil, true, ""
	}
	if len(text) > maxFile || !utf8.ValidString(text) {
		return nil, false, "must be a REG_SZ of at most 256 KiB"
	}
	raw, err := json.Marshal(strings.Split(text, ";"))
	if err != nil {
		return nil, false, "must be a REG_SZ with ; between the hosts"
	}
	return raw, false, ""
}
