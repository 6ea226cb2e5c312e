package doctor

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// redacted stands where something was taken out.
const redacted = "[redacted]"

// secrets are forms that no fact shows, whatever another program wrote into its
// registration or an authority into its certificate.
//
// Nothing here is compiled before it is asked for: this room is linked into the program
// that a click waits for.
var secrets = sync.OnceValue(func() []*regexp.Regexp {
	return []*regexp.Regexp{
		// An address with a scheme.
		regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,40}://[^\s"'<>]*`),
		// What follows a word that names a secret.
		regexp.MustCompile(`(?i)\b(?:handle|request|token|code|nonce|password|secret|key|patient)=[^\s"'&]+`),
		// A token of the JOSE family (RFC 7515 §3): a header that begins with {".
		regexp.MustCompile(`\beyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)*`),
		// Somebody's e-mail.
		regexp.MustCompile(`[\pL\pN._%+-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)*`),
		// An opaque value: a long run with a digit in it, without what separates words.
		regexp.MustCompile(`[A-Za-z_+=]*[0-9][A-Za-z0-9_+=]{21,}`),
	}
})

// masked takes out of a fact what has the form of a secret, an address or a person.
func masked(fact string) string {
	for _, form := range secrets() {
		fact = form.ReplaceAllString(fact, redacted)
	}
	return fact
}

//go:embed vocabulary.txt
var vocabularyText string

// vocabulary are the words that this program, and the libraries and systems below it,
// use in their own messages, as they are written there. vocabulary_test.go makes the
// list; one that lags behind costs a word in an archive and nothing else.
var vocabulary = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	for word := range strings.FieldsSeq(vocabularyText) {
		known[word] = true
	}
	for _, k := range policy.Keys() {
		known[k.Name] = true
	}
	for _, row := range problem.Rows() {
		known[string(row.Code)] = true
	}
	return known
})

// marks stand between words and say nothing.
const marks = " \t:;,()[]{}\"'!?<>|…“”*&#$"

// shapes are the forms of what is kept beside words of the vocabulary. Small numbers are
// kept in every text; what names a call or a problem in the logs of both sides only in
// its own field, since records are named by the same forms.
type shapes struct {
	pieces, inside, small, uuid, reference, version, release, library, many, moment *regexp.Regexp
}

var shaped = sync.OnceValue(func() shapes {
	return shapes{
		pieces:    regexp.MustCompile(`[\pL\pM\pN_@%+~\\/^=.-]+|[^\pL\pM\pN_@%+~\\/^=.-]+`),
		inside:    regexp.MustCompile(`[./\\=_-]+`),
		small:     regexp.MustCompile(`^[0-9]{1,3}(?:ms|s|m|h|MB|GB)?$`),
		uuid:      regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`),
		reference: regexp.MustCompile(`^[0-9]*[A-HJKMNP-TV-Z][0-9A-HJKMNP-TV-Z]*$`), // numbers alone could be a record's
		version:   regexp.MustCompile(`^[0-9]{1,4}(?:\.[0-9]{1,5}){2}(?:-[a-z0-9]{1,8})?$`),
		library:   regexp.MustCompile(`^lib[a-z0-9+-]{1,24}(?:-[0-9]\.[0-9])?\.so(?:\.[0-9]{1,3}){0,3}$`),
		// Of a contract or of WebView2: numbers, of which none is a year or begins with 0 as a date's may.
		release: regexp.MustCompile(`^(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){2}$|^[1-9][0-9]{1,2}\.0\.[0-9]{3,5}\.[0-9]{1,4}$`),
		many:    regexp.MustCompile(`\[redacted\](?: +\[redacted\])+`),
		moment:  regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})$`),
	}
})

// known keeps of a text the words that the program itself uses, and replaces every
// other one: names, dates, numbers, tokens and addresses are none of them. It is how
// free text gets into an archive. A list of what to take out could not be complete;
// this is a list of what to leave in.
func known(text string) string {
	var out strings.Builder
	last := false
	all := shaped().pieces.FindAllString(text, -1)
	for i, piece := range all {
		// Numbers in a row are how telephone numbers and dates are written.
		row := piece[0] >= '0' && piece[0] <= '9' && shaped().small.MatchString(piece) && (i > 1 && numeric(all[i-2]) || i+2 < len(all) && numeric(all[i+2]))
		keep := strings.Trim(piece, marks) == "" || worded(piece) && !row
		switch {
		case keep:
			out.WriteString(piece)
		case !last:
			out.WriteString(redacted)
		}
		last = !keep
	}
	return shaped().many.ReplaceAllString(out.String(), redacted)
}

func numeric(piece string) bool { return strings.Trim(piece, "0123456789.+-/") == "" }

// asReference is a reference of a problem, or nothing.
func asReference(text string) string {
	if len(text) == 8 && shaped().reference.MatchString(text) {
		return text
	}
	return ""
}

// asVersion is a version of this program, or what is known of it.
func asVersion(text string) string {
	if shaped().version.MatchString(text) {
		return text
	}
	return known(text)
}

// worded reports whether a piece of text is made of known words: one of them, or several
// with a mark between, as in a path or a key of the log.
func worded(piece string) bool {
	if vocabulary()[piece] {
		return true
	}
	for _, word := range shaped().inside.Split(strings.Trim(piece, "."), -1) {
		if word != "" && word != "~" && !shaped().small.MatchString(word) && !vocabulary()[word] {
			return false
		}
	}
	// Numbers alone that marks hold together are dates, numbers of a record, addresses.
	return strings.Trim(piece, "0123456789.-/\\_=") != "" || shaped().small.MatchString(piece) || strings.Trim(piece, `.-/\_=~`) == ""
}
