// Package orgaudit is the organisation's record of who opened what, apart from the
// logs: it holds what logs must never hold, and answers the privacy officer.
//
// It never holds a one-time URL, a handle, a token or anything of a note.
package orgaudit
