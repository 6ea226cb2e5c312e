// Package problem is the one vocabulary of failure: a closed list of codes, and
// for each code the sentence that people read, the next step they can take, and
// how programs treat it (log level, retry, HTTP status, audit word).
//
// A Problem carries two texts. Error is for people and is always safe to show:
// it never holds a link, a URL, a token, a name, an identifier or a stack.
// LogValue is for the log and adds the wrapped cause.
//
// Inside a room, errors are ordinary ones wrapped with %w; each room turns them
// into a Problem once, at its exported door.
package problem

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
)

// Problem is an error with a code from the closed list.
//
// The zero value is not useful; make one with New or With.
type Problem struct {
	// Code is one of the constants of this package, never empty.
	Code Code
	// Fact is an optional addition to the sentence, written by this program and
	// safe for people: it never quotes input. Empty means none.
	Fact string
	// Reference is a short random word that stands on the screen, in the log and
	// in the audit, so that a person can read it out to the help desk.
	Reference string

	cause error
}

// New returns a Problem with a fresh reference. cause may be nil; it is shown
// only to the log. If cause already is, or wraps, a Problem of the same code,
// its reference is kept so that one failure has one reference.
func New(code Code, cause error) *Problem {
	return With(code, "", cause)
}

// With is New with a fact that is appended to the sentence for people. The fact
// must be a constant of the program or made of such: never input.
func With(code Code, fact string, cause error) *Problem {
	p := &Problem{Code: code, Fact: fact, cause: cause}
	var inner *Problem
	if errors.As(cause, &inner) && inner.Code == code {
		p.Reference = inner.Reference
		if p.Fact == "" {
			p.Fact = inner.Fact
		}
		return p
	}
	p.Reference = newReference()
	return p
}

// Restore returns the Problem that another process described by code and
// reference, for example in an answer of the control channel. A code that is
// not on the list becomes Internal; a reference that is not of the form this
// package makes is dropped and replaced.
func Restore(code, reference, fact string) *Problem {
	c := Code(code)
	if _, ok := rowOf(c); !ok {
		c = Internal
	}
	if !validReference(reference) {
		reference = newReference()
	}
	return &Problem{Code: c, Fact: fact, Reference: reference}
}

// Error returns the sentence for people in English, with the fact when there is
// one. It never contains the cause.
func (p *Problem) Error() string {
	s := p.Row().Sentence
	if p.Fact != "" {
		s += " " + p.Fact
	}
	return s
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (p *Problem) Unwrap() error { return p.cause }

// Is reports whether target is a Problem of the same code, so that
// errors.Is(err, &Problem{Code: …}) and IsCode agree.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code == p.Code
}

// Row returns the row of the table for the code of p.
func (p *Problem) Row() Row {
	r, ok := rowOf(p.Code)
	if !ok {
		r, _ = rowOf(Internal)
	}
	return r
}

// LogValue is what a structured log records: code, reference, fact and cause.
// Causes are written by our own rooms and obey the rule of this package: they
// name what failed, never what it failed on.
func (p *Problem) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("code", string(p.Code)),
		slog.String("reference", p.Reference),
	}
	if p.Fact != "" {
		attrs = append(attrs, slog.String("fact", p.Fact))
	}
	if p.cause != nil {
		attrs = append(attrs, slog.String("cause", causeText(p.cause)))
	}
	return slog.GroupValue(attrs...)
}

// causeText shows the whole chain for the log: a Problem inside the chain would
// otherwise print its sentence for people and hide its own cause.
func causeText(err error) string {
	var inner *Problem
	if errors.As(err, &inner) && inner.cause != nil {
		return err.Error() + ": " + causeText(inner.cause)
	}
	return err.Error()
}

// Of returns the Problem in err's chain, or an Internal one with err as its
// cause. It returns nil for a nil error.
func Of(err error) *Problem {
	if err == nil {
		return nil
	}
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return New(Internal, err)
}

// CodeOf returns the code of the Problem in err's chain, Internal for any other
// error, and the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return Internal
}

// IsCode reports whether err's chain holds a Problem of the given code.
func IsCode(err error, code Code) bool {
	return err != nil && CodeOf(err) == code
}

// referenceLength characters of Crockford's alphabet carry 40 bits: short
// enough to read over the telephone, long enough not to repeat in a log.
const referenceLength = 8

var referenceAlphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

func newReference() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return referenceAlphabet.EncodeToString(b[:])
}

func validReference(s string) bool {
	if len(s) != referenceLength {
		return false
	}
	_, err := referenceAlphabet.DecodeString(s)
	return err == nil
}
