package policy

import (
	"strings"
	"testing"
)

func TestAFileThatCanBeReadInTwoWaysIsNotRead(t *testing.T) {
	for data, want := range map[string]string{
		"":                               "it is empty",
		" \n\t":                          "it is empty",
		"\xef\xbb\xbf{}":                 "byte order mark",
		"\xff\xfe{\x00}\x00":             "UTF-16",
		"\xfe\xff\x00{\x00}":             "UTF-16",
		"{\"a\":\"\xff\"}":               "not UTF-8",
		"[]":                             "not a JSON object",
		"null":                           "not a JSON object",
		"17":                             "not a JSON object",
		`"{}"`:                           "not a JSON object",
		"{}{}":                           "not valid JSON at line 1",
		"{}\n\n]":                        "not valid JSON at line 3",
		"{\"a\":1,}":                     "not valid JSON at line 1",
		"{\"a\" 1}":                      "not valid JSON at line 1",
		"{a:1}":                          "not valid JSON at line 1",
		"{\n\"a\":01}":                   "not valid JSON at line 2",
		"{ // no\n}":                     "not valid JSON at line 1",
		"{\"a\":NaN}":                    "not valid JSON at line 1",
		"{\"a\":1":                       "not valid JSON at line 1",
		"{\"a\":1,\n\"a\":1}":            "writes a key twice, at or before line 2",
		"{\"a\":1,\"\\u0061\":1}":        "writes a key twice",
		"{\"a\":{\"b\":1,\"b\":2}}":      "writes a key twice",
		"{\"a\":[{\"b\":[{}],\"b\":2}]}": "writes a key twice",
		"{\"a\":\"" + strings.Repeat("x", maxFile) + "\"}": "larger than 256 KiB",
	} {
		entries, why := parseFile([]byte(data))
		if entries != nil || !strings.Contains(why, want) {
			t.Errorf("%.40q: %v, %q, want %q", data, entries, why, want)
		}
	}
	entries, why := parseFile([]byte(` {"b":[{"k":1},{"k":1}],"a":{"k":{"k":"k"}}, "" : 1} ` + "\n"))
	if why != "" || len(entries) != 3 || entries[0].key != "b" || entries[1].key != "a" || entries[2].key != "" {
		t.Errorf("%v, %q", entries, why)
	}
}

func TestAFileNeverSaysInItsSentenceWhatItHolds(t *testing.T) {
	for _, data := range []string{`{"canary":1,"canary":2}`, `{"a":canary}`, `canary`, `{"a":"canary`, `{}canary`} {
		if _, why := parseFile([]byte(data)); why == "" || strings.Contains(why, "canary") {
			t.Errorf("%s: %q", data, why)
		}
	}
}
