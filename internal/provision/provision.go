// Package provision makes users at Nabla ahead of their first encounter: one, or a
// list of them from CSV, with a record by which an interrupted run goes on.
//
// It never changes a user whose e-mail address and id point at two people: such
// conflicts are reported.
package provision
