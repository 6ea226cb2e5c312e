// Package fhir is the client of the EHR's FHIR R4 server, with SMART Backend Services
// authentication: it reads a patient's details, and files an exported note.
//
// It never writes but a DocumentReference, never follows a reference to another
// host, never logs an id, and no error of it quotes what a server said.
package fhir
