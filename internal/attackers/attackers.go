// Package attackers tries the programs as somebody else on the same computer would:
// the real launcher and the real backend run as one ordinary user, and processes of
// another one try to connect, to be first, to look and to send. It also presses a
// thousand links.
//
// It holds tests only, which need root to become two users: `make test-attackers`.
// What a page in a browser can try is in build/e2e/attackers.mjs.
package attackers
