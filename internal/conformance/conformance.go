// Package conformance says whether a backend keeps the contract of openapi.yaml: it
// plays the published cases against it, as a launcher, an EHR and Nabla would.
//
// It knows no backend from inside, and never prints a token, a handle or a URL.
package conformance
